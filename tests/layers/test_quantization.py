"""Weights in int8: as those of Keras's layers, in layer mode, in steps, and saved."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.6, "tensorflow": 0.7}


X = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
IDS = np.random.default_rng(1).integers(0, 7, (2, 5)).astype("int32")
pytestmark = pytest.mark.filterwarnings("ignore:.*implementation doesn't accept a copy keyword:DeprecationWarning")


def numpy(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(("name", "given", "x"), [("Dense", (4, "relu"), X), ("Embedding", (7, 4), IDS)])
def test_the_numbers_are_those_of_keras(name, given, x, dtype):
    twins = [getattr(module, name)(*given, dtype=dtype) for module in (keras.layers, kseq)]
    stock, layer = twins
    for twin in twins:
        twin(x)
    layer.set_weights(stock.get_weights())
    for twin in twins:
        twin.quantize("int8")
    np.testing.assert_array_equal(numpy(layer(x)), numpy(stock(x)))
    assert [(w.name, w.dtype, w.trainable) for w in layer.weights] == [
        (w.name, w.dtype, w.trainable) for w in stock.weights
    ]
    again = getattr(kseq, name).from_config(layer.get_config())
    again(x)
    again.set_weights(stock.get_weights())
    np.testing.assert_array_equal(numpy(again(x)), numpy(stock(x)))


def test_a_quantised_model_streams_saves_and_trains(tmp_path):
    layers = [kseq.Embedding(7, 4), kseq.Residual([kseq.Dense(4)]), kseq.Repeat([kseq.Dense(4)], 2), kseq.Dense(3)]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    before = model.predict(IDS, verbose=0)
    with pytest.warns(UserWarning, match="does not have a `quantize` method"):  # Keras names what stays as it is
        model.quantize("int8")
    assert len([w for w in model.weights if w.dtype == "int8"]) == 5
    y = model.predict(IDS, verbose=0)
    assert 0 < np.abs(y - before).max() < 0.02
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    stream = kseq.Stream(loaded)
    streamed = np.concatenate([stream.push(IDS[0, :2]), stream.push(IDS[0, 2:])])
    np.testing.assert_allclose(streamed, y[0], atol=1e-6)
    model.compile("sgd", "mse")
    model.fit(IDS, np.ones((2, 5, 3)), verbose=0)  # biases are trained


def test_gradients_of_inputs_are_those_of_the_weights_that_int8_stands_for():
    model = keras.Sequential([keras.Input((None, 3)), kseq.Dense(3, name="below"), kseq.Dense(2, name="above")])
    model.get_layer("above").quantize("int8")
    model.compile("sgd", "mse")
    before = model.get_layer("below").get_weights()
    model.fit(X, np.ones((2, 5, 2)), verbose=0)
    assert all((a != b).any() for a, b in zip(before, model.get_layer("below").get_weights(), strict=True))


def test_a_dtype_policy_quantises():
    layer = kseq.Dense(4, dtype="int8_from_float32")
    layer(X)
    assert layer.kernel.dtype == "int8"
    later = kseq.Dense(4)
    later(X)
    later.dtype_policy = "int8_from_float32"
    assert later.kernel.dtype == "int8"
    later.quantize("int8")  # once


def test_what_is_not_quantised_is_said():
    class Other(kseq.Dense):
        pass

    layer, other = kseq.Dense(4), Other(4)
    layer(X)
    other(X)
    with pytest.raises(NotImplementedError, match="to int8; received mode 'int4'"):
        layer.quantize("int4")
    with pytest.raises(NotImplementedError, match="received None"):
        layer.quantize(config=keras.quantizers.Int8QuantizationConfig(activation_quantizer=None))
    with pytest.raises(NotImplementedError, match="subclass"):
        other.quantize("int8")
    assert layer.kernel.dtype == other.kernel.dtype == "float32"
    with pytest.raises(NotImplementedError, match="received mode 'float8'"):
        kseq.Dense(4, dtype="float8_from_float32")(X)
