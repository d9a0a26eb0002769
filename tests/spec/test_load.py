"""What a spec builds, and that it is what Python builds."""

import json
import pathlib

import keras
import numpy as np
import pytest
from keras import ops

import kseq

CHAIN = """
kseq: 1
vars: {d: 4}
input: {shape: [null, 3]}
layers:
  - Conv1D: {filters: $d, kernel_size: 3, padding: [1, 1]}
  - Dense: {name: logits, units: 2}
"""


def spec(layers, shape=(None, 3), **sections):
    return {"kseq": 1, "input": {"shape": list(shape)}, "layers": layers, **sections}


def types(model):
    return [type(layer) for layer in model.layers[1:]]


def test_a_chain_is_what_python_builds():
    model = kseq.load_spec(CHAIN)
    inputs = keras.Input((None, 3))
    y = kseq.Conv1D(4, 3, padding=(1, 1), name="conv1d")(inputs)
    python = keras.Model(inputs, kseq.Dense(2, name="logits")(y))
    assert [layer.get_config() for layer in model.layers[1:]] == [layer.get_config() for layer in python.layers[1:]]
    python.set_weights(model.get_weights())
    x = np.random.normal(size=(2, 5, 3)).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), ops.convert_to_numpy(python(x)))


def test_every_form_of_a_spec_gives_the_same_model(tmp_path):
    mapping = spec(
        [{"Conv1D": {"filters": 4, "kernel_size": 3, "padding": (1, 1)}}, {"Dense": {"name": "logits", "units": 2}}]
    )
    yaml_file, json_file = tmp_path / "m.yaml", tmp_path / "m.json"
    yaml_file.write_text(CHAIN)
    json_file.write_text(json.dumps(mapping, indent="\t"))
    forms = [CHAIN, CHAIN.encode(), b"\xef\xbb\xbf" + CHAIN.encode(), mapping, json.dumps(mapping)]
    forms += [
        yaml_file,
        str(yaml_file),
        json_file,
        str(json_file),
        "{kseq: 1, input: {shape: [null, 3]}, layers: "
        "[{Conv1D: {filters: 4, kernel_size: 3, padding: [1, 1]}}, {Dense: {units: 2, name: logits}}]}",
    ]
    configs = [kseq.load_spec(form).get_config() for form in forms]
    assert all(config == configs[0] for config in configs)


def test_names_do_not_depend_on_what_was_made_before():
    assert kseq.load_spec(CHAIN).get_config() == kseq.load_spec(CHAIN).get_config()
    named = kseq.load_spec(
        spec(
            [{"GRU": {"units": 2}}, {"GRU": {"units": 2, "name": "gru"}}, {"acme": {}}],
            blocks={"acme": [{"GRU": {"units": 2}}]},
        )
    )
    assert [layer.name for layer in named.layers[1:]] == ["gru_1", "gru", "acme"]


def test_compile_settings_do_not_depend_on_what_was_made_before():
    settings = {"optimizer": "adam", "loss": "mse", "metrics": [{"MeanIoU": {"num_classes": 2}}, "AUC"]}
    configs = [kseq.load_spec(spec([{"Dense": {"units": 1}}], compile=settings)).get_compile_config() for _ in "ab"]
    assert configs[0] == configs[1]


def test_two_metrics_of_a_kind_have_names_of_their_own():
    settings = {"loss": "mse", "metrics": [{"MeanIoU": {"num_classes": n}} for n in (2, 3)]}
    found = kseq.load_spec(spec([{"Dense": {"units": 1}}], compile=settings)).get_compile_config()["metrics"]
    assert [metric["config"]["name"] for metric in found] == ["mean_io_u", "mean_io_u_1"]


def test_variables_keep_their_type_and_are_replaced():
    layers = [{"Conv1D": {"filters": "$d", "kernel_size": 3, "padding": "$pad", "use_bias": "$bias", "name": "$$d"}}]
    given = spec(layers, vars={"d": 4, "pad": [2, 0], "bias": False, "same": "$d"})
    for d, model in (4, kseq.load_spec(given)), (5, kseq.load_spec(given, vars={"d": np.int64(5)})):
        conv = model.layers[1]
        assert (conv.filters, conv.padding, conv.use_bias, conv.name) == (d, (2, 0), False, "$d")


def test_blocks_are_layers_with_variables_of_their_own():
    blocks = {
        "half": [{"Dense": {"units": "$d"}}, {"Dropout": {"rate": "$rate"}}],
        "both": [{"half": {"d": 7}}, {"half": {}}],
    }
    layers = [{"both": {"d": 5}}, {"half": {"name": "last"}}]
    model = kseq.load_spec(spec(layers, vars={"d": 3, "rate": 0.5}, blocks=blocks))
    both, last = model.layers[1:]
    assert type(both) is type(last) is kseq.Serial
    # Arguments hold in the block itself: a block within sees the file's own.
    assert [half.layers[0].units for half in both.layers] == [7, 3]
    assert (both.name, [half.name for half in both.layers], last.name) == ("both", ["half", "half_1"], "last")


def test_scalars_are_those_of_yaml_1_2():
    text = "kseq: 1\ninput: {shape: [~, 0o3]}\nlayers: [{Dense: {units: 3, name: no, use_bias: on}}]"
    with pytest.raises(kseq.SpecError) as error:
        kseq.load_spec(text)
    assert "received '0o3'" in str(error.value) and "write `true`" in str(error.value)
    model = kseq.load_spec(text.replace("0o3", "3").replace("use_bias: on", "use_bias: false"))
    assert model.layers[1].name == "no"
    assert kseq.load_spec(CHAIN + "compile: {optimizer: {SGD: {learning_rate: 1e-3}}}").optimizer.learning_rate == 1e-3


def test_a_graph_with_ids():
    layers = [
        {"Dense": {"id": "a", "units": 4}},
        {"Conv1D": {"filters": 4, "kernel_size": 3, "padding": "reverse_causal"}},
        {"Dense": {"id": "b", "units": 4, "inputs": ["input"]}},
        {"Concatenate": {"inputs": ["a", "b"], "id": "joined"}},
        {"GRU": {"units": 2}},
    ]
    with pytest.raises(kseq.SpecError, match=r"layers\[1\].Conv1D: the output of this layer is not used"):
        kseq.load_spec(spec(layers))
    model = kseq.load_spec(spec([*layers[:1], *layers[2:]]))
    assert types(model) == [kseq.Dense, kseq.Dense, keras.layers.Concatenate, kseq.GRU]
    assert model.layers[3].output.shape == (None, None, 8)


def test_several_inputs_and_outputs():
    text = """
kseq: 1
inputs:
  audio: {shape: [null, 3]}
  tokens: {shape: [null], dtype: int32}
layers:
  - Embedding: {input_dim: 5, output_dim: 4, inputs: [tokens]}
  - Dense: {units: 4, inputs: [audio], id: heard}
  - Add: {inputs: [heard, read]}
  - GRU: {units: 2, id: memory}
outputs: [memory, heard]
"""
    with pytest.raises(kseq.SpecError, match="unknown id `read`"):
        kseq.load_spec(text)
    model = kseq.load_spec(text.replace("inputs: [tokens]", "inputs: [tokens], id: read"))
    assert [x.name for x in model.inputs] == ["audio", "tokens"]
    assert [y.shape[-1] for y in model.outputs] == [2, 4]


def test_a_layer_used_again_has_one_set_of_weights():
    layers = [{"Dense": {"id": "a", "units": 3}}, {"Activation": {"activation": "tanh"}}, {"Dense": {"share": "a"}}]
    model = kseq.load_spec(spec(layers))
    assert model.count_params() == 12
    x = np.random.normal(size=(1, 2, 3)).astype("float32")
    dense = model.get_layer("dense")
    expected = ops.convert_to_numpy(dense(ops.tanh(dense(x))))
    np.testing.assert_allclose(ops.convert_to_numpy(model(x)), expected, atol=1e-6)


def test_a_mask_comes_with_the_values_and_reaches_every_layer():
    layers = [
        {"Rescaling": {"scale": 2.0}},
        {"Conv1D": {"filters": 2, "kernel_size": 2, "padding": "reverse_causal_valid", "id": "a"}},
        {"Dense": {"units": 2, "inputs": ["input"], "id": "b"}},
        {"Add": {"inputs": ["a", "b"]}},
        {"GRU": {"units": 2}},
    ]
    given = {"kseq": 1, "input": {"shape": [None, 3], "mask": True, "name": "x"}, "layers": layers}
    model = kseq.load_spec(given)
    assert [x.name for x in model.inputs] == ["x", "x_mask"]
    values = np.random.normal(size=(1, 6, 3)).astype("float32")
    mask = np.arange(6)[None] < 4
    rescaled, conv, dense, gru = (model.get_layer(n) for n in ("rescaling", "conv1d", "dense", "gru"))
    a = conv(kseq.Sequence(rescaled(values), mask))
    b = dense(kseq.Sequence(values, mask))
    expected = gru(kseq.Sequence(a.values + b.values, ops.logical_and(a.mask, b.mask)))
    whole = ops.convert_to_numpy(model([values, mask]))
    np.testing.assert_allclose(whole, ops.convert_to_numpy(expected.values), atol=1e-5)
    stream = kseq.Stream(model)
    y = kseq.Sequence.concatenate([stream.push(kseq.Sequence(values, mask)), stream.flush()])
    np.testing.assert_array_equal(y.mask, ops.convert_to_numpy(expected.mask))
    np.testing.assert_allclose(y.mask_invalid().values, ops.convert_to_numpy(expected.mask_invalid().values), atol=1e-5)
    assert "logical_and" not in [row["layer"] for row in kseq.show.summary_rows(model)]


def test_stock_layers_have_their_own_names():
    model = kseq.load_spec(
        spec(
            [{"keras.Dense": {"units": 2}}, {"Rescaling": {"scale": 1}}, {"keras.Softmax": {}}, {"Dense": {"units": 1}}]
        )
    )
    assert types(model) == [keras.layers.Dense, keras.layers.Rescaling, keras.layers.Softmax, kseq.Dense]


def test_objects_of_keras_are_named_with_arguments():
    arguments = {
        "units": 2,
        "kernel_initializer": {"VarianceScaling": {"scale": 2.0, "mode": "fan_out"}},
        "bias_initializer": "ones",
        "kernel_regularizer": {"L2": {"l2": 1e-2}},
        "bias_constraint": "NonNeg",
        "activation": "swish",
        "dtype": "mixed_bfloat16",
        "trainable": False,
    }
    dense = kseq.load_spec(spec([{"Dense": arguments}])).layers[1]
    assert (dense.kernel_initializer.scale, dense.kernel_initializer.mode) == (2.0, "fan_out")
    assert isinstance(dense.bias_initializer, keras.initializers.Ones)
    assert dense.kernel_regularizer.l2 == pytest.approx(1e-2)
    assert isinstance(dense.bias_constraint, keras.constraints.NonNeg)
    assert dense.activation is keras.activations.silu
    assert (dense.compute_dtype, dense.trainable) == ("bfloat16", False)


def test_compile_is_a_training_run():
    compiled = {
        "optimizer": {"AdamW": {"learning_rate": {"CosineDecay": {"initial_learning_rate": 1e-2, "decay_steps": 10}}}},
        "loss": ["mse", {"Huber": {"delta": 2.0}}],
        "loss_weights": [1, 0.5],
        "metrics": [["mae"], []],
        "steps_per_execution": 1,
    }
    layers = [
        {"Dense": {"units": 2, "id": "a"}},
        {"Dense": {"units": 1}},
        {"Activation": {"id": "b", "activation": "relu"}},
    ]
    model = kseq.load_spec(spec(layers, outputs=["a", "b"], compile=compiled))
    x = np.random.normal(size=(4, 5, 3)).astype("float32")
    before = model.get_weights()[0].copy()
    model.fit(x, [x[..., :2], x[..., :1]], verbose=0)
    assert np.abs(model.get_weights()[0] - before).max() > 0
    assert isinstance(model.optimizer, keras.optimizers.AdamW)


def test_a_spec_of_another_kind_is_a_type_error():
    with pytest.raises(TypeError, match="a spec is a path, text, bytes or a mapping; received 3"):
        kseq.load_spec(3)


@pytest.mark.parametrize(
    "given", ["nowhere.yaml", "no\0where.yaml", "no\0where", pathlib.Path("nowhere.yaml"), pathlib.Path("no\0where")]
)
def test_a_file_that_cannot_be_read(given):
    with pytest.raises(kseq.SpecError, match="cannot be read"):
        kseq.load_spec(given)


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_text("root:x:0:0\n  hunter2: [\n")
    return path


def test_text_is_no_path(secret, tmp_path, monkeypatch):
    (tmp_path / "m.yaml").write_text(CHAIN)
    monkeypatch.setattr(pathlib.Path, "open", None)  # nothing may be opened
    for load, text in [
        (kseq.load_spec, str(secret)),
        (kseq.load_spec, f"{secret}\n.yaml"),
        (kseq.load_spec, str(secret).encode()),
        (kseq.load_spec_text, f"{tmp_path}/m.yaml"),
        (kseq.load_spec_text, f"{tmp_path}/m.yaml".encode()),
    ]:
        with pytest.raises(kseq.SpecError, match=r"a spec is a mapping .* received '/") as error:
            load(text)
        assert "a path ends in .yaml, .yml or .json" in str(error.value)
    assert kseq.load_spec_text(CHAIN).get_config() == kseq.load_spec(CHAIN).get_config()
    assert kseq.load_spec_text(CHAIN, {}, limits=kseq.spec.Limits()).count_params() == 50
    for given in (pathlib.Path("m.yaml"), {"kseq": 1}):
        with pytest.raises(TypeError, match="a spec is a path, text, bytes or a mapping"):
            kseq.load_spec_text(given)


@pytest.mark.parametrize("suffix", ["", ".yaml", ".json"])
def test_what_is_no_spec_is_not_shown(secret, suffix):
    path = secret.rename(f"{secret}{suffix}")
    for given in [path, str(path)] if suffix else [path]:
        with pytest.raises(kseq.SpecError) as error:
            kseq.load_spec(given)
        assert str(error.value) == f"{path}: no spec: the key `kseq` is missing; begin with `kseq: 1`"


def test_older_versions_are_migrated(monkeypatch):
    from kseq.spec import check, migrations
    from kseq.spec.node import Node

    def rename(tree):
        """Version 1 called `layers` otherwise."""
        parts = dict(tree.value)
        parts["layers"] = parts.pop("stack")
        return Node(parts, tree.line, tree.column, tree.keys | {"layers": tree.keys["stack"]})

    monkeypatch.setattr(check, "VERSION", 2)
    monkeypatch.setattr(migrations, "VERSION", 2)
    monkeypatch.setitem(migrations.MIGRATIONS, 1, rename)
    old = CHAIN.replace("layers:", "stack:")
    assert types(kseq.load_spec(old)) == types(kseq.load_spec(CHAIN.replace("kseq: 1", "kseq: 2")))
    with pytest.raises(kseq.SpecError, match=r":7:13: layers\[1\].Dense: unknown argument `nam`"):
        kseq.load_spec(old.replace("name", "nam"))


ISSUE = """
# yaml-language-server: $schema=./kseq.schema.json
kseq: 1
name: conformer_stream
vars: {d: 12, ff: 24, left: 64}
blocks:                                   # a block is a layer type local to this file
  feed_forward:
    - Residual:
        layers:
          - LayerNormalization: {}
          - Dense: {units: $ff, activation: swish}
          - Dense: {units: $d}
input: {shape: [null, 8], dtype: float32}
layers:
  - Conv1D: {filters: $d, kernel_size: 3, strides: 2, padding: causal}
  - Repeat:
      num_repeats: 4
      layers:
        - feed_forward: {}
        - feed_forward: {ff: 6}           # block arguments override vars, in this block only
  - Dense: {name: logits, units: 32}
"""


def test_a_spec_is_what_its_constructors_build():
    def feed_forward(units):
        return kseq.Serial(
            [kseq.Residual([kseq.LayerNormalization(), kseq.Dense(units, activation="swish"), kseq.Dense(12)])]
        )

    inputs = keras.Input((None, 8))
    y = kseq.Conv1D(12, 3, strides=2, padding="causal")(inputs)
    y = kseq.Repeat([feed_forward(24), feed_forward(6)], 4)(y)
    python, model = keras.Model(inputs, kseq.Dense(32)(y)), kseq.load_spec(ISSUE)
    assert [w.shape for w in model.weights] == [w.shape for w in python.weights]
    python.set_weights(model.get_weights())
    x = np.random.normal(size=(1, 6, 8)).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), ops.convert_to_numpy(python(x)))


def test_arguments_from_outside():
    text = CHAIN.replace("{filters: $d,", "{id: conv, filters: $d,")
    model = kseq.load_spec(text, set={"conv.filters": 7, "logits.units": "$d", "logits.use_bias": False})
    assert [w.shape for w in model.weights] == [(3, 3, 7), (7,), (7, 4)]
    blocks = "kseq: 1\nvars: {d: 2}\nblocks: {b: [{Dense: {units: $d, name: inner}}]}\ninput: {shape: [null, 4]}\n"
    blocks += "layers:\n  - b: {name: outer}\n"
    assert kseq.load_spec(blocks, set={"outer.d": 3}).output_shape[-1] == 3
    assert kseq.load_spec(blocks, set={"inner.units": 5}).output_shape[-1] == 5
    dense = {"Dense": {"name": "a", "units": 2}}
    nested = spec([{"Residual": {"name": "r", "layers": [dense]}}])
    model = kseq.load_spec(nested, set={"a.units": 3, "a.kernel_initializer": {"HeNormal": {"seed": 1}}})
    assert model.output_shape[-1] == 3
    with pytest.raises(TypeError, match="`set` is a mapping"):
        kseq.load_spec(text, set=3)
