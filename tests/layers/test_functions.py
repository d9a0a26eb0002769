"""Functions that users give to layers: what does not treat every step by itself does not stream."""

import functools
import weakref

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.layers.stepwise import mixes_time

X = np.random.default_rng(0).normal(size=(1, 6, 4)).astype("float32")
POSITIONS = np.arange(100, dtype="float32")[:, None]
SCALE = np.arange(1, 5, dtype="float32")


class MeanOverTime:
    def __call__(self, x):
        return x - ops.mean(x, axis=1, keepdims=True)


MIX = {
    "cumsum": lambda x: ops.cumsum(x, axis=1),
    "mean": MeanOverTime(),
    "softmax": functools.partial(ops.softmax, axis=1),
    "shift": lambda x: ops.roll(x, 1, axis=1),
    "flat": lambda x: ops.reshape(ops.cumsum(x), ops.shape(x)),
    "rows": lambda x: x - ops.mean(x, axis=0, keepdims=True),
    "positions": lambda x: ops.add(x, POSITIONS[: x.shape[1]]),
    "little": lambda x: x + 0.01 * ops.max(x, axis=1, keepdims=True),
    "length": lambda x: x / x.shape[1],
    "one length": lambda x: ops.add(x, POSITIONS[:6]),
    "fewer channels": keras.activations.glu,
    "a step less": lambda x: x[:, 1:],
}
FINE = {
    "elementwise": lambda x: ops.sin(x) * x,
    "channels": lambda x: ops.multiply(ops.cumsum(x, axis=-1), SCALE),
    "nan": lambda x: ops.log(x),
    "matmul": lambda x: ops.matmul(x, ops.eye(4)),
    "layer": keras.layers.LeakyReLU(),
    "shared": keras.layers.PReLU(shared_axes=[1]),
}


@pytest.mark.parametrize("name", MIX)
def test_a_function_that_mixes_time_is_an_obstacle(name):
    layer = kseq.Activation(MIX[name])
    layer.build((None, None, 4))
    assert "does not treat every step by itself" in layer.step_obstacle
    with pytest.raises(kseq.NotStreamable, match="its activation"):
        kseq.Stream(layer)


@pytest.mark.parametrize("name", FINE)
def test_a_function_of_each_step_streams(name):
    layer = kseq.Serial([kseq.Conv1D(4, 2, activation=FINE[name]), kseq.Dense(4, activation=FINE[name])])
    wanted = ops.convert_to_numpy(layer(X))[0]
    stream = kseq.Stream(layer)
    np.testing.assert_allclose(np.concatenate([stream.push(X[0, :1]), stream.push(X[0, 1:])]), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "make", [kseq.Dense, lambda n, **k: kseq.Conv1D(n, 2, **k), lambda n, **k: kseq.DepthwiseConv1D(2, **k)]
)
def test_activations_of_layers_are_tried(make):
    layer = make(4, activation=MIX["cumsum"])
    layer(X)
    assert not layer.supports_step
    assert make(4, activation="relu").supports_step


def test_recurrent_layers_apply_theirs_to_channels():
    layer = kseq.GRU(4, activation=lambda x: ops.cumsum(x, axis=1))
    layer(X)
    assert layer.supports_step


def test_before_a_layer_is_built_what_it_can_be_tried_on_is_not_known():
    assert kseq.Activation(FINE["channels"]).supports_step  # it needs four channels
    layer = kseq.Activation(lambda x: ops.multiply(ops.cumsum(x, axis=1), SCALE))
    with pytest.raises(kseq.NotStreamable, match="other values"):
        layer.step(kseq.Sequence(X), ())


def test_keras_activations_on_channels_are_not_tried(monkeypatch):
    def fail(*args):
        raise AssertionError("tried")

    monkeypatch.setattr("kseq.layers.stepwise.mixes_time", fail)
    assert kseq.Activation("softmax").supports_step


def test_softmax_without_channels_mixes_time():
    layer = kseq.Activation("softmax")
    layer.build((None, None))
    assert not layer.supports_step


def test_several_inputs_of_several_dtypes():
    given = [(3,), (), (2, 3)], ["float32", "int32", "bfloat16"]

    def fine(x, i, y):
        return x[:, :, None] * ops.cast(i, "float32")[..., None, None] + ops.cast(y, "float32")

    assert mixes_time(fine, *given) is None
    assert mixes_time(lambda x, i, y: fine(x, ops.cumsum(i, axis=1), y), *given)
    assert mixes_time(lambda x, i, y: fine(x, i, ops.flip(y, axis=1)), *given)
    assert "wanted" in mixes_time(lambda x, i, y: x, *given, output_shape=(2, 3))


def test_a_layer_is_tried_as_a_copy():
    layer = keras.layers.PReLU()  # a weight for every step
    assert "it fails" in mixes_time(layer, [(3,)], ["float32"])
    assert not layer.built


def test_a_function_is_tried_once_and_kept_no_longer_than_it_lives():
    calls = []

    def fn(x):
        calls.append(x.shape)
        return x

    assert mixes_time(fn, [(2,)], ["float32"]) is None
    tried = len(calls)
    assert mixes_time(fn, [(2,)], ["float32"]) is None
    assert len(calls) == tried > 0
    gone = weakref.ref(fn)
    del fn
    assert gone() is None


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="what is traced elsewhere is eager in part")
def test_a_layer_is_tried_while_something_is_traced():
    import jax

    layer = kseq.Activation(lambda x: ops.flip(x, axis=1))
    with pytest.raises(kseq.NotStreamable, match="other values"):
        jax.jit(lambda x: layer.step(kseq.Sequence(x), ())[0].values)(X)
    fine = kseq.Activation(lambda x: x + 1)
    jax.jit(lambda x: fine.step(kseq.Sequence(x), ())[0].values)(X)
