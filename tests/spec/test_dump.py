"""A model's spec gives the model again."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sampling import examples

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.6, "tensorflow": 0.6}

_EXAMPLES = [
    pytest.param(cls, example, id=f"{name}-{i}")
    for name, cls in kseq.registered_layers().items()
    if "." not in name
    for i, example in enumerate(cls.examples())
    if not example.context and cls.in_specs
]


def config(model):
    """All that makes a model, less the names that Keras gives operations and optimizers."""
    functional = model
    if isinstance(model, keras.Sequential):
        functional = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    found = functional.get_config()
    compiled = model.get_compile_config() if model.compiled else None
    if compiled:
        compiled["optimizer"]["config"].pop("name")
    names = {layer["name"]: f"and{i}" for i, layer in enumerate(found["layers"]) if layer["class_name"] == "LogicalAnd"}
    return _renamed(found, names), compiled


def _renamed(value, names):
    if isinstance(value, dict):
        return {k: _renamed(v, names) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renamed(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value


def check_round_trip(model):
    """load(dump(model)) is the model, and dump(load(text)) the text; returns the text."""
    text = kseq.dump_spec(model)
    again = kseq.load_spec(text)
    assert config(again) == config(model)
    assert kseq.dump_spec(again) == text
    return text


@pytest.mark.parametrize(("cls", "example"), _EXAMPLES)
def test_every_registered_layer_round_trips(cls, example):
    inputs = keras.Input(example.input_shape[1:], dtype=example.dtype)
    model = keras.Model(inputs, cls(**example.config)(inputs))
    check_round_trip(model)
    # The same through the plain form: `Type: {arguments}` and nothing else.
    assert len(kseq.spec.load.read(kseq.dump_spec(model), kseq.spec.Limits())[0].value["layers"].value) == 1


@pytest.mark.parametrize("path", list(kseq.spec.shipped().values()), ids=list(kseq.spec.shipped()))
def test_shipped_specs_round_trip(path):
    check_round_trip(kseq.load_spec(path))


def test_defaults_and_automatic_names_are_left_out():
    inputs = keras.Input((None, 4), name="input_layer")
    y = kseq.Conv1D(3, 3, padding="causal", name="conv1d")(inputs)
    y = kseq.Residual([kseq.Dense(3, name="dense")], name="residual")(y)
    model = keras.Model(inputs, kseq.Dense(3, activation="relu", name="dense_1")(y), name="m")
    assert check_round_trip(model) == (
        "kseq: 1\nname: m\ninput: {shape: [null, 4]}\nlayers:\n  - Conv1D: {filters: 3, kernel_size: 3}\n"
        "  - Residual:\n      layers:\n        - Dense: {units: 3}\n  - Dense: {units: 3, activation: relu}\n"
    )


def test_names_that_a_loader_would_not_give_are_written():
    inputs = keras.Input((None, 2), name="given")
    y = kseq.Dense(2, name="dense_1")(inputs)
    y = kseq.Dense(2, name="dense")(y)
    model = keras.Model(inputs, kseq.GRU(2, name="dense_2")(y))
    check_round_trip(model)


def stock_layers():
    yield keras.layers.Normalization(mean=[1.0, 2.0], variance=[0.5, 0.25])
    yield keras.layers.BatchNormalization(momentum=0.9, scale=False)
    yield keras.layers.Softmax()
    yield keras.layers.Rescaling(0.5, offset=1.0)
    yield keras.layers.LeakyReLU(0.1)
    yield keras.layers.UnitNormalization()
    yield keras.layers.Masking(-1.0)
    yield keras.layers.ReLU(max_value=6.0)
    yield keras.layers.Dense(3, activation="gelu", kernel_regularizer="l2")
    yield keras.layers.LayerNormalization(epsilon=1e-5)
    yield keras.layers.Dropout(0.25, seed=3)
    yield kseq.Dense(3, kernel_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=2), dtype="mixed_float16")
    yield kseq.Activation("softmax")
    yield kseq.Conv1D(2, 3, padding=(1, 1), kernel_constraint=keras.constraints.MaxNorm(3), trainable=False)


@pytest.mark.parametrize("layer", list(stock_layers()), ids=lambda layer: layer.name)
def test_layers_of_python_round_trip(layer):
    check_round_trip(keras.Sequential([keras.Input((None, 2)), layer]))


def test_graphs_of_python_round_trip(tmp_path):
    x = keras.Input((None, 2), name="x")
    shared = kseq.Dense(4, name="shared")
    a, b = shared(x), kseq.Conv1D(4, 2, padding="reverse_causal")(x)
    y = keras.layers.Concatenate()([keras.layers.Add()([a, b]), b])
    second = keras.Input((None,), dtype="int32", name="tokens")
    z = keras.layers.Multiply()([kseq.Embedding(3, 4)(second), shared(kseq.Dense(2)(y))])
    model = keras.Model([x, second], [z, a])
    text = check_round_trip(model)
    assert "share: shared" in text
    model.save(tmp_path / "m.keras")
    assert kseq.dump_spec(keras.models.load_model(tmp_path / "m.keras")) == text


def test_masks_of_python_round_trip(tmp_path):
    values, mask = keras.Input((None, 2), name="values"), keras.Input((None,), dtype="bool", name="valid")
    scaled = kseq.Sequence(keras.layers.Rescaling(2.0)(values), mask)
    a, b = kseq.GRU(2)(scaled), kseq.Conv1D(2, 2, padding="reverse_causal_valid")(scaled)
    joined = kseq.Sequence(keras.layers.Add()([a.values, b.values]), keras.ops.logical_and(a.mask, b.mask))
    model = keras.Model([values, mask], kseq.Dense(1)(joined).values)
    text = check_round_trip(model)
    assert "mask: valid" in text
    model.save(tmp_path / "m.keras")
    assert kseq.dump_spec(keras.models.load_model(tmp_path / "m.keras")) == text


def test_compile_settings_round_trip():
    model = keras.Sequential([keras.Input((None, 2)), kseq.Dense(3)])
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-2, 100, 0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for settings_ in (
        {"optimizer": keras.optimizers.SGD(schedule, momentum=0.9), "loss": loss, "metrics": ["accuracy"]},
        {"optimizer": "adam", "loss": "mse", "weighted_metrics": [keras.metrics.MeanAbsoluteError()]},
        {"optimizer": keras.optimizers.AdamW(3e-4, weight_decay=0.01), "loss": [loss], "loss_weights": [0.5]},
    ):
        model.compile(**settings_)
        text = kseq.dump_spec(model)
        assert kseq.dump_spec(kseq.load_spec(text)) == text
        assert config(kseq.load_spec(text))[1] == config(model)[1]


# Keras takes no slash, and on torch no point.
_NAMES = st.text(st.characters(exclude_characters="/.", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(st.none(), _NAMES, st.sampled_from(["dense", "dense_1", "no", "1e-3", "$x", "~", "'"])),
        min_size=1,
        max_size=4,
        unique_by=lambda n: n or object(),
    )
)
def test_any_names_round_trip(names):
    layers = [kseq.Dense(1) if name is None else kseq.Dense(1, name=name) for name in names]
    check_round_trip(keras.Sequential([keras.Input((None, 1)), kseq.Serial(layers)]))


GRAPHS = [
    # The mask of one of two inputs that are merged.
    ({"u": True, "v": False}, [{"Add": {"inputs": ["v", "u"]}}, {"GRU": {"units": 3}}], None),
    # Masks of both, read twice.
    (
        {"u": True, "v": True},
        [
            {"Add": {"inputs": ["u", "v"], "id": "q"}},
            {"GRU": {"units": 3, "id": "g"}},
            {"Dense": {"units": 2, "inputs": ["q"], "id": "d"}},
        ],
        ["g", "d"],
    ),
    # A shared layer, with and without a mask.
    (
        {"u": True, "v": False},
        [{"GRU": {"units": 4, "id": "g", "inputs": ["u"]}}, {"GRU": {"share": "g", "inputs": ["v"], "id": "h"}}],
        ["g", "h"],
    ),
    # Masks that no layer reads.
    ({"u": True, "v": False}, [{"Subtract": {"inputs": ["u", "v"]}}], None),
    ({"u": True}, [{"ReLU": {"inputs": ["u"]}}], None),
    # Names that are ids of their own.
    ({"input": False, "v": False}, [{"Add": {"inputs": ["v", "input"], "name": "input_"}}], None),
]


@pytest.mark.parametrize(("masked", "layers", "outputs"), GRAPHS, ids=range(len(GRAPHS)))
def test_graphs_of_specs_round_trip(masked, layers, outputs):
    inputs = {name: {"shape": [None, 4], "mask": mask} for name, mask in masked.items()}
    spec = {"kseq": 1, "inputs": inputs, "layers": layers} | ({"outputs": outputs} if outputs else {})
    model = kseq.load_spec(spec)
    text = check_round_trip(model)
    assert [x.name for x in kseq.load_spec(text).inputs] == [x.name for x in model.inputs]


def test_a_layer_called_input_round_trips():
    x = keras.Input((None, 2))
    y = kseq.Dense(2, name="input")(x)
    check_round_trip(keras.Model(x, keras.layers.Add()([x, y])))


def test_line_breaks_in_names_round_trip():
    check_round_trip(keras.Sequential([keras.Input((None, 2)), kseq.Dense(2, name="a\u2028b\x85c\nd\te")], name="$m"))


def test_arrays_are_written_as_lists():
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.Rescaling(np.array([1.0, 2.0]), name="rescaling")])
    assert "Rescaling: {scale: [1.0, 2.0]}" in kseq.dump_spec(model)


@keras.saving.register_keras_serializable("elsewhere")
class Unregistered(keras.layers.Layer):
    def call(self, x):
        return x


def function(x):
    return 2 * x


def two_values(expected, received):
    return keras.ops.mean(expected - received)


def refused():
    x = keras.Input((None, 2), name="x")
    yield keras.Model(x, Unregistered(name="mine")(x)), "mine: a spec cannot name the Unregistered", "kseq.register"
    yield keras.Model(x, kseq.Activation(function, name="act")(x)), "act.activation: ", "function"
    yield keras.Model(x, x + 1), "a spec cannot name the Add", "use a layer"
    yield (
        keras.Model(x, keras.Sequential([kseq.Dense(2)], name="inner")(x)),
        "inner: a spec cannot name the Sequential",
        "kseq.Serial",
    )
    yield keras.Model(x, keras.layers.Conv1D(2, 3, name="c")(x)), "c: a spec cannot name the Conv1D", "use a layer"
    m, n = (keras.Input((None,), dtype="bool", name=name) for name in "mn")
    y = kseq.Dense(2, name="d")(kseq.Sequence(x, m))
    yield keras.Model([x, m], kseq.Dense(2, name="e")(y.values)), "e: it reads a mask that is not", "mask"
    yield keras.Model([x, m, n], kseq.GRU(2, name="e")(kseq.Sequence(y.values, n)).values), "e: it reads a mask", "mask"


def more_refused():
    x, z = (keras.Input((None, 4), name=name) for name in "xz")
    m = keras.Input((None,), dtype="bool", name="m")
    dense = kseq.Dense(4, name="twice")
    y = kseq.Dense(4, name="d")(x)
    s = kseq.Conv1D(4, 2, padding="reverse_causal_valid", name="c")(kseq.Sequence(x, m))
    other = kseq.GRU(4)(kseq.Sequence(z, m)).values
    compiled = keras.Model(x, y)
    compiled.compile("adam", loss=two_values)
    yield keras.Model(x, kseq.Serial([dense, kseq.Dense(4), dense])(x)), "twice: its weights are shared", "", "serial"
    yield keras.Model(x, kseq.Serial([dense])(dense(x))), "twice: its weights are shared", "", "elsewhere"
    yield keras.Model(x, x), "has no layers", "", "none"
    yield keras.Model(x, {"a": [y]}), "nested outputs", "use a list or a dict", "nested"
    yield keras.Model([[x, z]], keras.layers.Add()([x, z])), "nested inputs", "use a list or a dict", "nested inputs"
    yield keras.Model(x, {"a": y, "b": y}), "none twice", "", "twice in a dict"
    yield keras.Model({"x": x, "m": m}, {"s": s.values, "t": s.mask}), "c: a mask is an output", "", "mask in a dict"
    yield keras.Model([x, m], {"s": s.values, "t": m}), "m: a mask is an output", "", "mask of an input"
    yield keras.Model(x, keras.layers.Add(name="n")([kseq.Dense(4)(x, training=True), y])), "arguments", "", "training"
    yield keras.Model(x, [y, y]), "none twice", "", "twice"
    yield keras.Model(x, [x, y]), "outputs[0]: unknown id", "", "input"
    yield keras.Model([x, m], [s.values, s.mask]), "c: a mask is an output", "", "mask"
    yield keras.Model([m, x], s.values), "a mask follows its values", "x, m", "order"
    yield keras.Model([x, m, z], keras.layers.Add()([s.values, other])), "reads a mask", "", "one mask"
    yield keras.Model(x, kseq.Dense(4, activation=function, name="f")(x)), "f.activation: ", "function", "function"
    yield keras.Model(x, kseq.Dense(4, activation=keras.layers.LeakyReLU(0.2))(x)), "activation", "", "layer"
    yield compiled, "compile.loss: a spec cannot hold a function", "", "loss"
    yield keras.Model(k := keras.Input((None, None)), keras.layers.ReLU()(k)), "only time may be null", "", "channels"
    if keras.backend.backend() != "torch":  # which has no sparse inputs
        yield keras.Model(k := keras.Input((4, 4), sparse=True), keras.layers.ReLU()(k)), "is sparse", "", "sparse"


@pytest.mark.parametrize(
    ("model", "message", "hint"), [pytest.param(m, text, hint, id=name) for m, text, hint, name in more_refused()]
)
def test_more_that_cannot_be_written_is_refused(model, message, hint):
    test_what_cannot_be_written_is_refused(model, message, hint)


@pytest.mark.parametrize(
    ("model", "message", "hint"), list(refused()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_cannot_be_written_is_refused(model, message, hint):
    with pytest.raises(kseq.SpecError) as error:
        kseq.dump_spec(model)
    assert message in str(error.value) and hint in str(error.value)


def test_keys_of_inputs_are_their_names():
    x = keras.Input((None, 2), name="x")
    with pytest.warns(UserWarning, match="keys in the dict must match"):  # Keras's own
        test_what_cannot_be_written_is_refused(
            keras.Model({"k": x}, kseq.Dense(1)(x)), "x: the input stands under the key 'k'", "its key is its name"
        )


def test_what_is_no_model():
    with pytest.raises(TypeError, match="expected a sequential or functional"):
        kseq.dump_spec(kseq.Dense(2))
    with pytest.raises(ValueError, match="must be built"):
        kseq.dump_spec(keras.Sequential([kseq.Dense(2)]))


def test_floats_are_short():
    model = keras.Sequential([keras.Input((None, 2)), kseq.Dense(1)])
    model.compile(keras.optimizers.Adam(3e-4), "mse")
    assert "learning_rate: 0.0003" in kseq.dump_spec(model)


def test_spectra_are_inputs():
    spectra = keras.Input((None, 3), dtype="complex64", name="spectra")
    text = kseq.dump_spec(keras.Model(spectra, kseq.IRFFT(4)(spectra)))
    assert keras.backend.standardize_dtype(kseq.load_spec(text).inputs[0].dtype) == "complex64"
