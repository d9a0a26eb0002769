"""`kseq.convert`: the same numbers on rows alone, the right ones on padded rows, and a report of what was done."""

import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers as stock

import kseq
from kseq import registry

TODAYS = {"jax": 0.05, "tensorflow": 0.05}


def quietly(make, *args, **kwargs):
    """What is made, without Keras's warning that a layer loses the mask."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return make(*args, **kwargs)


def chain(*layers, shape=(None, 4), **options):
    return quietly(keras.Sequential, [keras.Input(shape, **options), *layers], name="net")


def masked(*layers, **options):
    return chain(stock.Masking(name="masking"), *layers, **options)


def call(model, x):
    with keras.StatelessScope(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        y = model(keras.tree.map_structure(keras.ops.convert_to_tensor, x))
    return keras.tree.map_structure(keras.ops.convert_to_numpy, y)


def converted(model, **options):
    return kseq.convert(model, return_report=True, **options)


def twins(report):
    return {row.layer: row.twin for row in report.rows}


# By layer the twin, and input shapes of others than sequences of vectors.
REPLACED = {
    "Activation": stock.Activation("gelu"),
    "AveragePooling1D": stock.AveragePooling1D(2),
    "AveragePooling1D same": stock.AveragePooling1D(3, strides=1, padding="same"),
    "BatchNormalization": stock.BatchNormalization(),
    "Bidirectional": stock.Bidirectional(stock.LSTM(2, return_sequences=True), merge_mode="sum"),
    "Conv1D causal": stock.Conv1D(3, 3, dilation_rate=2, padding="causal"),
    "Conv1D same": stock.Conv1D(4, 4, padding="same", groups=2, activation="relu"),
    "Conv1D valid": stock.Conv1D(3, 3, strides=2),
    "Conv1DTranspose": stock.Conv1DTranspose(3, 4, strides=2),
    "Dense": stock.Dense(3, activation="tanh"),
    "DepthwiseConv1D": stock.DepthwiseConv1D(3, padding="same"),
    "Dropout": stock.Dropout(0.3),
    "EinsumDense": stock.EinsumDense("btc,cd->btd", (None, 3), bias_axes="d"),
    "GRU": stock.GRU(3, return_sequences=True),
    "GRU before": stock.GRU(3, return_sequences=True, reset_after=False),
    "GaussianNoise": stock.GaussianNoise(0.1),
    "GroupNormalization": stock.GroupNormalization(2),
    "LSTM": stock.LSTM(3, return_sequences=True, use_bias=False),
    "LSTM with dropout": stock.LSTM(3, return_sequences=True, recurrent_dropout=0.5),
    "LayerNormalization": stock.LayerNormalization(),
    "MaxPooling1D": stock.MaxPooling1D(3, strides=1, padding="same"),
    "RMSNormalization": stock.RMSNormalization(),
    "ReLU": stock.ReLU(max_value=1.0),
    "Reshape": stock.Reshape((-1, 2, 2)),
    "SeparableConv1D": stock.SeparableConv1D(3, 3, padding="same"),
    "Softmax": stock.Softmax(),
    "UpSampling1D": stock.UpSampling1D(2),
}


@pytest.mark.parametrize("name", REPLACED)
def test_a_layer_becomes_its_twin(name):
    layer = REPLACED[name]
    model = chain(layer)
    made, report = converted(model)
    assert isinstance(made, keras.Sequential)
    assert twins(report) == {layer.name: f"kseq.{name.split()[0]}"}
    assert made.get_layer(layer.name).name == layer.name
    x = np.random.default_rng(1).normal(size=(2, 9, 4)).astype("float32")
    np.testing.assert_allclose(call(made, x), call(model, x), atol=1e-5)
    for ours, theirs in zip(made.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not [fault for fault in report.masks if fault.fault != "mask missing"], str(report)


# By layer the padding that gives the same and streams.
STREAMS = {
    "same": (stock.Conv1D(3, 4, padding="same"), (1, 2)),
    "same, dilated": (stock.Conv1D(3, 3, dilation_rate=3, padding="same"), (3, 3)),
    "same of one tap": (stock.Conv1D(3, 1, padding="same"), "causal"),
    "same, by stride alike": (stock.Conv1D(3, 4, strides=2, padding="same"), (1, 2)),
    "valid of one tap": (stock.Conv1D(3, 1), "causal"),
    "valid of one tap, with a stride": (stock.Conv1D(3, 1, strides=3), "causal"),
    "depthwise": (stock.DepthwiseConv1D(3, padding="same"), (1, 1)),
    "separable": (stock.SeparableConv1D(3, 5, padding="same"), (2, 2)),
    "maximum": (stock.MaxPooling1D(3, strides=1, padding="same"), (1, 1)),
    "mean": (stock.AveragePooling1D(3, strides=1, padding="same"), (1, 1)),
    "mean of blocks": (stock.AveragePooling1D(2, padding="same"), (0, 1)),
    "transposed": (stock.Conv1DTranspose(3, 2, strides=2), "causal"),
    "transposed, same": (stock.Conv1DTranspose(3, 2, strides=3, padding="same"), "causal"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_padding_that_gives_the_same_and_streams_is_taken(name):
    layer, padding = STREAMS[name]
    model = chain(layer)
    made, report = converted(model)
    assert report.streams
    assert str(report).endswith("it streams")
    assert made.layers[-1].padding == padding
    for steps in (7, 8, 9):
        x = np.random.default_rng(steps).normal(size=(2, steps, 4)).astype("float32")
        stream, wanted = kseq.Stream(made, 2), call(model, x)
        found = np.concatenate([stream.push(x[:, :3]), stream.push(x[:, 3:]), stream.flush()], axis=1)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        np.testing.assert_allclose(call(made, x), wanted, atol=1e-5)


STANDS_IN_THE_WAY = {
    "valid": (stock.Conv1D(3, 3, name="it"), "or the model as it was, which streams"),
    "blocks": (stock.MaxPooling1D(2, name="it"), "or the model as it was, which streams"),
    "transposed": (stock.Conv1DTranspose(3, 4, strides=2, name="it"), "padding 'causal', or the model as it was"),
    "as its length is": (stock.Conv1D(3, 3, strides=2, padding="same", name="it"), "'causal'"),
    "the last step": (stock.LSTM(3, name="it"), "return_sequences=True"),
}


@pytest.mark.parametrize("name", STANDS_IN_THE_WAY)
def test_the_report_says_which_layers_do_not_stream(name):
    layer, instead = STANDS_IN_THE_WAY[name]
    report = converted(chain(stock.Conv1D(4, 3, padding="same"), layer))[1]
    assert not report.streams
    (row,) = report.obstacles
    assert (row.layer, row.type) == ("it", type(layer).__name__)
    assert instead in str(row)
    assert f"it does not stream:\n    {row}" in str(report)
    if name == "as its length is":
        assert "as it was" not in str(row)  # it did not stream either
        steps = converted(chain(layer, shape=(13, 4)))[1]
        assert steps.streams  # of a length that is known
    assert json.loads(report.to_json())["obstacles"] == [row._asdict()]


def test_attention_to_a_window():
    given = keras.Input((None, 4))
    past = stock.GroupQueryAttention(2, 4, 2, sliding_window=3)(given, given, use_causal_mask=True)
    around = stock.MultiHeadAttention(1, 2, sliding_window=2)(past, past)
    model = keras.Model(given, around)
    made, report = converted(model)
    assert set(twins(report).values()) == {"kseq.SelfAttention"}
    assert report.streams
    x = np.random.default_rng(0).normal(size=(2, 9, 4)).astype("float32")
    np.testing.assert_allclose(call(made, x), call(model, x), atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (stock.Conv2D(2, 3, padding="same"), (None, 5, 2)),
        (stock.MaxPooling2D((2, 2)), (None, 5, 2)),
        (stock.Conv3D(2, 2), (None, 4, 4, 2)),
    ],
)
def test_windows_over_space(layer, shape):
    made, report = converted(chain(layer, shape=shape))
    assert twins(report) == {layer.name: f"kseq.{type(layer).__name__}"}
    if layer.padding == "same":  # of space it stays so
        assert report.streams
        assert (made.layers[-1].padding, made.layers[-1].spatial_padding) == ((1, 1), "same")


@keras.saving.register_keras_serializable("tests")
class Shifted(stock.Layer):
    def build(self, input_shape):
        self.shift = self.add_weight(shape=(1,), initializer="ones")

    def call(self, x):
        return x + self.shift


def make_model():
    """A model of almost everything, with masks lost and padding leaking all over."""
    given = keras.Input((None, 4), name="given")
    x = stock.Masking(name="masking")(given)
    x = stock.Conv1D(4, 3, padding="same", activation="relu", name="conv")(x)
    attention = stock.MultiHeadAttention(2, 2, name="attention")(x, x, use_causal_mask=True)
    x = stock.BatchNormalization(name="norm")(x + attention)
    x = keras.ops.relu(x) * 2.0
    x = stock.Bidirectional(stock.GRU(2, return_sequences=True), name="both")(x)
    inner = chain(stock.Dense(4, name="dense"), stock.Conv1D(4, 2, padding="causal", name="deep"))
    x = inner(inner(x))
    return keras.Model(
        given, {"steps": stock.Dense(2, name="steps")(x), "mean": stock.GlobalAveragePooling1D(name="average")(x)}
    )


@pytest.fixture
def model():
    made = quietly(make_model)
    made.get_layer("norm").set_weights([np.full(4, float(i + 1)) for i in range(4)])
    return made


def test_a_whole_model(model):
    made, report = converted(model)
    assert {row.layer for row in report.kept} == {"masking", "average"}
    found = twins(report)
    assert found["conv"] == "kseq.Conv1D"
    assert found["attention"] == "kseq.SelfAttention"
    assert found["net/deep"] == "kseq.Conv1D"
    assert {"keras.layers.Add", "kseq.Activation", "kseq.Scale"} <= set(found.values())
    assert not report.masks, str(report.masks)
    x = np.random.default_rng(1).normal(size=(2, 9, 4)).astype("float32")
    alone, ours = call(model, x), call(made, x)
    for name in ("steps", "mean"):
        np.testing.assert_allclose(ours[name], alone[name], atol=1e-4)
    # Padded, the rows are still what they are alone.
    x[1, 5:] = 0
    short, ours, theirs = call(model, x[1:, :5]), call(made, x), call(model, x)
    np.testing.assert_allclose(ours["steps"][1, :5], short["steps"][0], atol=1e-4)
    np.testing.assert_allclose(ours["mean"][1], short["mean"][0], atol=1e-4)
    assert abs(theirs["steps"][1, :5] - short["steps"][0]).max() > 1e-3


def test_it_trains_on_as_it_was_compiled(model, tmp_path):
    model.compile(keras.optimizers.SGD(0.01), {"steps": "mse", "mean": "mae"}, metrics={"mean": ["mse"]})
    before = [np.array(w) for w in model.get_weights()]
    made, report = converted(model)
    assert report.compiled
    assert "the optimizer begins anew" in str(report)
    assert made.get_compile_config() == model.get_compile_config()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 8, 4)), {"steps": rng.normal(size=(4, 8, 2)), "mean": rng.normal(size=(4, 4))}
    quietly(made.fit, x, y, epochs=1, verbose=0)  # Keras takes no model within a model for one that keeps masks
    for old, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)  # the old model is none of its business
    assert any(abs(a - b).max() > 0 for a, b in zip(before, made.get_weights(), strict=True))
    made.save(tmp_path / "made.keras")
    again = keras.models.load_model(tmp_path / "made.keras")
    x = rng.normal(size=(1, 6, 4)).astype("float32")
    np.testing.assert_allclose(call(again, x)["steps"], call(made, x)["steps"], atol=1e-6)


def test_settings_that_cannot_be_copied():
    model = chain(stock.Dense(2))
    model.compile(loss=lambda y, p: keras.ops.mean(p - y))
    made, report = converted(model)
    assert not made.compiled
    assert not report.compiled
    assert "settings cannot be copied" in str(report)


def test_shared_layers_stay_shared():
    given = keras.Input((None, 4))
    shared, inner = stock.Dense(4, name="shared"), chain(stock.Dense(4, name="deep"))
    inner.name = "inner"
    made, report = converted(keras.Model(given, shared(inner(shared(inner(given))))))
    assert twins(report) == {"inner/deep": "kseq.Dense", "shared": "kseq.Dense"}
    assert len(made.weights) == 4


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (stock.LSTM(2), "received False: take the last step"),
        (stock.GRU(2, return_sequences=True, go_backwards=True), "needs the end first"),
        (stock.Flatten(), "kseq.Flatten keeps time"),
        (stock.Lambda(lambda x: 2 * x), "it holds a function"),
        (stock.GlobalMaxPooling1D(), "kseq has no layer of its kind"),
        (Shifted(), "it is no layer of Keras's own"),
        (stock.Permute((2, 1)), "kseq has no layer of its kind"),
        (stock.Reshape((2, -1)), "its outputs have shapes"),
    ],
)
def test_what_stays(layer, reason):
    model = chain(layer)
    made, report = converted(model)
    (row,) = report.kept
    assert row.layer == layer.name
    assert reason in row.reason
    assert str(row) in str(report)
    x = np.random.default_rng(1).normal(size=(2, 16, 4)).astype("float32")
    np.testing.assert_allclose(call(made, x), call(model, x), atol=1e-6)


def test_a_twin_that_does_something_else_is_not_used(monkeypatch):
    monkeypatch.setitem(registry._LAYERS, "Identity", kseq.Tanh)
    report = converted(chain(stock.Identity(name="same"), stock.Dense(2, name="dense")))[1]
    assert twins(report) == {"same": None, "dense": "kseq.Dense"}
    assert report.kept[0].reason.startswith("kseq.Tanh gives something else, by up to ")


def test_a_twin_that_trains_otherwise_is_not_used(monkeypatch):
    def call_layer(self, x, *, training=False):
        return kseq.BatchNormalization.call_layer(self, x, training=False)

    still = type("BatchNormalization", (kseq.BatchNormalization,), {"call_layer": call_layer})
    monkeypatch.setitem(registry._LAYERS, "BatchNormalization", still)
    report = converted(chain(stock.BatchNormalization(name="norm")))[1]
    assert twins(report) == {"norm": None}
    assert "gives something else" in report.kept[0].reason


def test_attention():
    given = keras.Input((None, 4))
    itself = stock.MultiHeadAttention(2, 2, value_dim=3, output_shape=5, name="itself")(given, given)
    groups = stock.GroupQueryAttention(2, 4, 2, name="groups")(given, given, use_causal_mask=True)
    other = stock.MultiHeadAttention(1, 2, name="other")(given, stock.Dense(3)(given))
    report = converted(keras.Model(given, [itself, groups, other]))[1]
    found = twins(report)
    assert (found["itself"], found["groups"]) == ("kseq.SelfAttention", "kseq.SelfAttention")
    (row,) = report.kept
    assert row.layer == "other"
    assert "reads two sequences" in row.reason


def test_inputs_by_name_and_values_given():
    values, tokens = keras.Input((None, 3), name="values"), keras.Input((None,), name="tokens", dtype="int32")
    once = keras.Input((2,), name="once")
    x = stock.Concatenate()([stock.Dense(2, name="dense")(values), stock.Embedding(5, 2, name="table")(tokens)])
    y = stock.Concatenate()([stock.GlobalAveragePooling1D()(x), stock.Dense(2, name="vector")(once)])
    model = keras.Model({"values": values, "tokens": tokens, "once": once}, {"y": y})
    rng = np.random.default_rng(0)
    x = {"values": rng.normal(size=(2, 6, 3)), "tokens": rng.integers(1, 5, (2, 6)), "once": rng.normal(size=(2, 2))}
    made, report = converted(model, x=x)
    found = twins(report)
    assert (found["dense"], found["table"], found["vector"]) == ("kseq.Dense", "kseq.Embedding", None)
    np.testing.assert_allclose(call(made, x)["y"], call(model, x)["y"], atol=1e-6)
    with pytest.raises(ValueError, match="`x` must have the structure"):
        kseq.convert(model, x["values"])


def test_what_layers_have_learned_of_data_is_kept():
    normalization = stock.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(3.0, 2.0, (4, 5, 4)))
    model = chain(normalization, Shifted(name="shifted"))
    model.get_layer("shifted").set_weights([np.array([5.0])])
    x = np.ones((1, 3, 4), "float32")
    np.testing.assert_allclose(call(kseq.convert(model), x), call(model, x), rtol=1e-6)


def test_frozen_layers_stay_frozen():
    dense, other = stock.Dense(2, name="dense"), stock.Dense(2)
    dense.trainable = False
    made = kseq.convert(chain(dense, other))
    assert not made.get_layer("dense").trainable
    assert len(made.trainable_weights) == 2


@pytest.mark.parametrize("functional", [False, True], ids=["sequential", "functional"])
def test_frozen_models_stay_frozen_and_their_neighbours_trainable(functional):
    parts = stock.Conv1D(4, 3, padding="same", name="conv"), stock.BatchNormalization(name="norm")
    given = keras.Input((None, 4))
    inner = keras.Model(given, parts[1](parts[0](given))) if functional else chain(*parts)
    inner.name, inner.trainable = "inner", False
    frozen, x = stock.Dense(4, name="frozen", trainable=False), keras.Input((None, 4))
    model = keras.Model(x, stock.Dense(2, name="last")(frozen(inner(x))))
    made = kseq.convert(model)
    assert [made.get_layer(name).trainable for name in ("inner", "frozen", "last")] == [False, False, True]
    assert not any(layer.trainable for layer in made.get_layer("inner").layers)
    assert len(made.trainable_weights) == len(model.trainable_weights) == 2


@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_other_precisions(policy):
    layers = [stock.Dense(4, dtype=policy, name="dense"), stock.Conv1D(3, 3, padding="same", dtype=policy, name="conv")]
    made, report = converted(masked(*layers, stock.LSTM(2, return_sequences=True, dtype=policy, name="lstm")))
    assert {name for name, twin in twins(report).items() if twin} == {"dense", "conv", "lstm"}
    assert made.get_layer("conv").dtype_policy.name == policy


def test_a_model_of_mixed_precision_scales_its_loss():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = chain(stock.Dense(2))
        model.compile("sgd", "mse")
    finally:
        keras.config.set_dtype_policy("float32")
    made = kseq.convert(model)
    assert made.dtype_policy.name == "mixed_float16"
    assert type(made.optimizer) is type(model.optimizer) is keras.optimizers.LossScaleOptimizer


def test_as_data():
    report = converted(masked(stock.Dense(2, name="dense")))[1]
    data = json.loads(report.to_json())
    assert data == report.to_dict()
    assert data["replaced"] == [{"layer": "dense", "type": "Dense", "twin": "kseq.Dense", "reason": None}]
    assert [row["layer"] for row in data["kept"]] == ["masking"]
    assert data["masks"]["ok"]
    assert (data["streams"], data["obstacles"]) == (True, [])


class NoConfig(stock.Layer):
    def __init__(self, function):
        super().__init__(name="mine")
        self.function = function

    def call(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: stock.Dense(2), TypeError, "expected a sequential or functional Keras model; received <Dense"),
        (lambda: keras.Sequential([stock.Dense(2)]), (TypeError, ValueError), "must be built|expected"),
        (lambda: chain(stock.Dense(2), shape=(4,)), ValueError, "an input with a time axis"),
        (lambda: chain(NoConfig(keras.ops.relu)), ValueError, r"mine \(NoConfig\) cannot be copied"),
    ],
)
def test_bad_models(make, error, match):
    with pytest.raises(error, match=match):
        kseq.convert(make())
