"""Models of several inputs and outputs, in lists and in dicts by Keras's names."""

import json

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import ops
from sampling import examples

import kseq

TEXT = """
kseq: 1
name: tagger
inputs:
  audio: {shape: [null, 3], mask: true}
  tokens: {shape: [null], dtype: int32}
inputs_by_name: true
layers:
  - Dense: {units: 4, inputs: [audio]}
  - GRU: {units: 4, id: heard}
  - Embedding: {input_dim: 5, output_dim: 4, inputs: [tokens], id: read}
  - Add: {inputs: [heard, read]}
  - Dense: {units: 2, id: both}
outputs: {tags: both, memory: heard}
"""


def data(batch_size=3, steps=6):
    rng = np.random.default_rng(0)
    mask = np.arange(steps)[None] < rng.integers(1, steps + 1, batch_size)[:, None]
    return {
        "audio": rng.normal(size=(batch_size, steps, 3)).astype("float32"),
        "audio_mask": mask,
        "tokens": rng.integers(0, 5, (batch_size, steps)).astype("int32"),
    }


def structure(tree):
    """Types and names of a structure of inputs or outputs, without the tensors."""
    if isinstance(tree, dict):
        return {key: structure(value) for key, value in tree.items()}
    return [structure(value) for value in tree] if isinstance(tree, (list, tuple)) else "tensor"


def config(model):
    """A model's configuration, with the operations that join masks by other names than Keras's, which are counted."""
    found = model.get_config()
    joins = [layer["name"] for layer in found["layers"] if layer["name"].startswith("logical_and")]
    text = json.dumps(found)
    for i, name in enumerate(joins):
        text = text.replace(f'"{name}"', f'"join {i}"')
    return json.loads(text)


def check_round_trip(model):
    text = kseq.dump_spec(model)
    again = kseq.load_spec(text)
    assert config(again) == config(model)
    assert (structure(again.input), structure(again.output)) == (structure(model.input), structure(model.output))
    assert kseq.dump_spec(again) == text
    return text


def test_a_spec_gives_a_model_of_dicts():
    model = kseq.load_spec(TEXT)
    assert {name: x.dtype for name, x in model.input.items()} == {
        "audio": "float32",
        "audio_mask": "bool",
        "tokens": "int32",
    }
    found = model.predict(data(), verbose=0)
    assert {name: y.shape for name, y in found.items()} == {"tags": (3, 6, 2), "memory": (3, 6, 4)}
    x = {name: ops.convert_to_tensor(value) for name, value in data().items()}
    dense, gru, embedding, last = (model.get_layer(name) for name in ("dense", "gru", "embedding", "dense_1"))
    heard = gru(dense(kseq.Sequence(x["audio"], x["audio_mask"])))
    tags = last(kseq.Sequence(heard.values + embedding(x["tokens"]), heard.mask))
    np.testing.assert_allclose(found["memory"], ops.convert_to_numpy(heard.values), atol=1e-5)
    np.testing.assert_allclose(found["tags"], ops.convert_to_numpy(tags.values), atol=1e-5)
    check_round_trip(model)


def test_the_same_model_with_lists():
    text = TEXT.replace("inputs_by_name: true\n", "").replace("{tags: both, memory: heard}", "[both, heard]")
    lists, dicts = kseq.load_spec(text), kseq.load_spec(TEXT)
    assert lists.get_config() == kseq.load_spec(text.replace("layers:", "inputs_by_name: false\nlayers:")).get_config()
    lists.set_weights(dicts.get_weights())
    expected = dicts.predict(data(), verbose=0)
    found = lists.predict(list(data().values()), verbose=0)
    np.testing.assert_array_equal(found[0], expected["tags"])
    np.testing.assert_array_equal(found[1], expected["memory"])


SETTINGS = """
compile:
  optimizer: adam
  loss: {tags: {Huber: {delta: 2.0}}, memory: mse}
  loss_weights: {tags: 1.0, memory: 0.5}
  metrics: {tags: [mae, {MeanSquaredError: {name: error}}]}
"""


def test_a_model_of_dicts_is_trained(tmp_path):
    model = kseq.load_spec(TEXT + SETTINGS)
    text = kseq.dump_spec(model)
    assert kseq.dump_spec(kseq.load_spec(text)) == text
    x = data()
    y = {"tags": x["audio"][..., :2], "memory": x["audio"][..., :1] * np.ones(4, "float32")}
    before = model.evaluate(x, y, verbose=0, return_dict=True)
    assert "tags_mae" in before and "tags_error" in before
    model.fit(x, y, epochs=20, verbose=0)
    assert model.evaluate(x, y, verbose=0, return_dict=True)["loss"] < before["loss"]
    model.save(tmp_path / "m.keras")
    assert kseq.dump_spec(keras.models.load_model(tmp_path / "m.keras")) == text


def test_one_loss_is_that_of_every_output():
    model = kseq.load_spec(TEXT + "compile: {loss: mse}\n")
    assert model.get_compile_config()["loss"] == "mse"
    assert "loss: mse}" in kseq.dump_spec(model)


def test_an_output_may_be_called_like_a_loss():
    text = TEXT.replace("memory: heard", "Huber: heard") + "compile: {loss: {Huber: mse}}\n"
    assert kseq.load_spec(text).get_compile_config()["loss"] == {"Huber": "mse"}
    given = kseq.load_spec(TEXT + "compile: {loss: {Huber: {delta: 2.0}}}\n").get_compile_config()["loss"]
    assert given["class_name"] == "Huber"


@pytest.mark.parametrize("mask", [False, True, "valid"])
def test_dicts_of_one(mask):
    spec = {"kseq": 1, "input": {"shape": [None, 3], "mask": mask}, "layers": [{"Dense": {"units": 2, "id": "d"}}]}
    model = kseq.load_spec(spec | {"inputs_by_name": True, "outputs": {"y": "d"}})
    names = ["input_layer"] + (["valid" if mask == "valid" else "input_layer_mask"] if mask else [])
    assert (list(model.input), list(model.output)) == (names, ["y"])
    text = check_round_trip(model)
    assert "inputs_by_name: true" in text and "outputs: {y: dense}" in text
    named = kseq.load_spec(spec | {"input": spec["input"] | {"name": "x"}, "inputs_by_name": True})
    assert next(iter(named.input)) == "x" and structure(named.output) == "tensor"


TWO = """kseq: 1
inputs:
  - {name: x, shape: [null, 4]}
  - {name: y, shape: [null, 4], mask: true}
layers:
  - Add: {inputs: [x, y]}
  - Dense: {units: 2, name: logits, id: a}
  - Dense: {units: 1, id: b}
outputs: [a, b]
compile: {loss: {b: mae, logits: mse}, metrics: {b: mse}, loss_weights: {a: 3}}
"""


def test_inputs_and_losses_as_keras_has_them():
    model = kseq.load_spec(TWO)
    assert [x.name for x in model.inputs] == ["x", "y", "y_mask"]
    config = model.get_compile_config()
    assert (config["loss"], config["loss_weights"], config["metrics"]) == (["mse", "mae"], [3, 1.0], [[], ["mse"]])
    assert kseq.load_spec(kseq.dump_spec(model)).get_config() == model.get_config()
    one = TWO.replace("outputs: [a, b]\n", "").partition("compile")[0].replace("id: a", "id: c")
    one = kseq.load_spec(one + "compile: {loss: {b: mse}, metrics: {b: [mae]}}\n")
    assert one.get_compile_config()["loss"] == "mse" and one.get_compile_config()["metrics"] == ["mae"]


def test_dicts_of_python(tmp_path):
    values, other = keras.Input((None, 2), name="values"), keras.Input((None, 4), name="other")
    valid = keras.Input((None,), dtype="bool", name="a_mask")  # in front of its values, by name and in the dict
    y = kseq.GRU(4, name="gru")(kseq.Sequence(values, valid)).values
    z = keras.layers.Add(name="add")([y, other])
    inputs = {"a_mask": valid, "other": other, "values": values}
    for outputs in ({"z": z, "y": y}, {"only": z}, [z, y], z):
        text = check_round_trip(keras.Model(inputs, outputs, name="m"))
        assert "values: {shape: [null, 2], mask: a_mask}" in text
    for several in ([values, valid, other], (values, valid, other)):
        model = keras.Model(several, {"z": z, "y": y}, name="m")
        assert "outputs: {z: add, y: gru}" in kseq.dump_spec(model)
    model = keras.Model(inputs, {"z": z, "y": y}, name="m")
    model.save(tmp_path / "m.keras")
    assert kseq.dump_spec(keras.models.load_model(tmp_path / "m.keras")) == kseq.dump_spec(model)


@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    masks=st.lists(st.sampled_from([False, True, "m"]), min_size=1, max_size=3),
    by_name=st.booleans(),
    outputs=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
    names=st.none() | st.permutations(["out", "a", "Add", "$x"]),
)
def test_any_structure_round_trips(masks, by_name, outputs, names):
    inputs = {f"i{i}": {"shape": [None, 2], "mask": f"{m}{i}" if m == "m" else m} for i, m in enumerate(masks)}
    layers = [{"Dense": {"units": 2, "inputs": [name], "id": f"l{i}"}} for i, name in enumerate(inputs)]
    layers += [{"Add": {"inputs": [f"l{i}" for i in range(len(inputs))] * 2, "id": "sum"}}]
    layers += [{"GRU": {"units": 2, "inputs": ["sum"], "id": f"g{i}"}} for i in outputs]
    ids = [f"g{i}" for i in outputs]
    found = ids if names is None else {name.replace("$", "$$"): id_ for name, id_ in zip(names, ids, strict=False)}
    spec = {"kseq": 1, "inputs": inputs, "inputs_by_name": by_name, "layers": layers, "outputs": found}
    check_round_trip(kseq.load_spec(spec))
