"""Operations and Keras's layers that treat every step by itself, and those that do not."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from sampling import todays

import kseq

STEPS, CHANNELS = 7, 4
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(CHANNELS, 3)).astype("float32")
TABLE = RNG.normal(size=(1, STEPS, CHANNELS)).astype("float32")


def model_of(build, time=None):
    x = keras.Input((time, CHANNELS), name="x")
    return keras.Model(x, build(x))


STEPWISE = {
    "cut channels": lambda x: x[:, :, :2],
    "every other channel": lambda x: x[..., ::2],
    "one channel": lambda x: x[:, :, 0],
    "new axis": lambda x: ops.expand_dims(x, -1),
    "new axis before the channels": lambda x: ops.expand_dims(x, 2),
    "swap": lambda x: ops.swapaxes(ops.expand_dims(x, -1), 2, 3),
    "transpose": lambda x: ops.transpose(ops.expand_dims(x, -1), (0, 1, 3, 2)),
    "glu": lambda x: ops.glu(x),
    "softmax": lambda x: ops.softmax(x, axis=2),
    "sum": lambda x: ops.sum(x, axis=-1, keepdims=True),
    "normalize": lambda x: ops.normalize(x, axis=-1),
    "flip": lambda x: ops.flip(x, axis=-1),
    "concatenate": lambda x: ops.concatenate([x, 2 * x], axis=2),
    "stack": lambda x: ops.stack([x, 2 * x], axis=-1),
    "where": lambda x: ops.where(x > 0, x, -0.1),
    "a row": lambda x: x * TABLE[0, 0],
    "a table of one step": lambda x: x + TABLE[:, :1],
    "matmul": lambda x: ops.matmul(x, MATRIX),
    "einsum": lambda x: ops.einsum("btc,cd->btd", x, MATRIX),
    "TimeDistributed": lambda x: layers.TimeDistributed(layers.Dense(3))(x),
    "TimeDistributed of shapes": lambda x: layers.TimeDistributed(layers.Reshape((2, 2)))(x),
    "EinsumDense": lambda x: layers.EinsumDense("abc,cd->abd", output_shape=(None, 3), bias_axes="d")(x),
    "EinsumDense with dots": lambda x: layers.EinsumDense("...x,xy->...y", output_shape=3)(x),
    "PReLU": lambda x: layers.PReLU(shared_axes=[1], alpha_initializer="ones")(x),
    "Activation of a function": lambda x: layers.Activation(lambda y: y * ops.sigmoid(y))(x),
    "Lambda": lambda x: layers.Lambda(lambda y: y**2)(x),
    "SpatialDropout1D": lambda x: layers.SpatialDropout1D(0.5)(x),
}


@pytest.mark.parametrize(
    "build",
    todays([pytest.param(build, id=name) for name, build in STEPWISE.items()], of="stepwise", jax=0.5, tensorflow=0.5),
)
def test_what_treats_every_step_by_itself_streams(build):
    model = model_of(build)
    x = RNG.normal(size=(1, STEPS, CHANNELS)).astype("float32")
    stream = kseq.Stream(model)
    assert stream.timing == kseq.Timing()
    found = np.concatenate([stream.push(x[:, :4]), stream.push(x[:, 4:]), stream.flush()], axis=1)
    np.testing.assert_allclose(found, ops.convert_to_numpy(model(x)), atol=1e-5)


MIXING = {
    "an activation": (lambda x: layers.Activation(lambda y: ops.cumsum(y, axis=1))(x), "does not treat every step"),
    "a Lambda": (
        lambda x: layers.Lambda(lambda y: y - ops.mean(y, axis=1, keepdims=True))(x),
        "other values for steps",
    ),
    "a dense activation": (lambda x: layers.Dense(2, activation=lambda y: y + TABLE[..., :2])(x), "it fails on values"),
    "cumsum": (lambda x: ops.cumsum(x, axis=1), "(Cumsum): its axis is batch or time (axis=1)"),
    "mean of all": (lambda x: x - ops.mean(x), "it works along all axes"),
    "a part of time": (lambda x: x[:, 1:], "GetItem): it takes a part of batch or time"),
    "the last step": (lambda x: x[:, -1:], "GetItem): it takes a part of batch or time"),
    "softmax over time": (lambda x: ops.softmax(x[..., None], axis=-3), "its axis is batch or time (axis=-3)"),
    "a new axis before time": (lambda x: ops.expand_dims(x, 1), "its axis is batch or time (axis=1)"),
    "a table": (lambda x: x + TABLE, "(Add): it combines the sequence with a constant of shape (1, 7, 4)"),
    "a table as bounds": (
        lambda x: ops.clip(x, -TABLE, TABLE),
        "(Clip): it combines the sequence with a constant",
    ),
    "products of steps": (lambda x: ops.einsum("btc,bsc->bts", x, x), "may mix time steps"),
    "transposed": (lambda x: ops.transpose(x, (0, 2, 1)), "it moves batch or time to another axis"),
    "EinsumDense": (lambda x: layers.EinsumDense("abc,bd->adc", output_shape=(3, 4))(x), "may mix time steps"),
    "PReLU": (lambda x: layers.PReLU()(x), "use shared_axes=[1]"),
    "a mask of channels": (lambda x: layers.Softmax()(x, mask=x > 0), "it is called with tensors by name"),
    "BatchNormalization": (lambda x: layers.BatchNormalization()(x, training=True), "called with training=True"),
    "Dropout": (lambda x: layers.Dropout(0.5, noise_shape=(None, 1, 4))(x, training=True), "called with training=True"),
}


@pytest.mark.parametrize(("build", "reason"), MIXING.values(), ids=MIXING.keys())
def test_what_mixes_time_is_refused_by_name(build, reason):
    model = model_of(build, STEPS)
    with pytest.raises(kseq.NotStreamable) as error:
        kseq.Stream(model)
    assert reason in str(error.value)


def test_inputs_as_a_dict_of_one():
    x = keras.Input((None, CHANNELS), name="x")
    model = keras.Model({"x": x}, {"y": layers.Dense(2)(x)})
    frames = RNG.normal(size=(1, STEPS, CHANNELS)).astype("float32")
    stream = kseq.Stream(model)
    wanted = ops.convert_to_numpy(model({"x": frames})["y"])
    np.testing.assert_allclose(stream.push({"x": frames})["y"], wanted, atol=1e-6)
    np.testing.assert_allclose(stream.push(frames)["y"], wanted, atol=1e-6)


@kseq.pointwise
class Doubled(layers.Layer):
    def call(self, x):
        return 2 * x


@kseq.pointwise
class Centred(layers.Layer):
    """Declared to be what it is not."""

    def call(self, x):
        return x - ops.mean(x, axis=1, keepdims=True)


def test_a_layer_that_is_declared_pointwise_streams_and_is_tried():
    x = RNG.normal(size=(STEPS, CHANNELS)).astype("float32")
    np.testing.assert_array_equal(kseq.Stream(model_of(Doubled())).push(x), 2 * x)
    with pytest.raises(
        kseq.NotStreamable, match=r"centred \(Centred\): its function does not treat every step by itself"
    ):
        kseq.Stream(model_of(Centred(name="centred")))
    with pytest.raises(TypeError, match="classes of Keras layers"):
        kseq.pointwise(int)


def test_what_a_call_says_of_training_holds_in_the_stream():
    x, frames = keras.Input((None, CHANNELS)), np.ones((1, 5, CHANNELS), "float32")
    inner = keras.Sequential([keras.Input((None, CHANNELS)), layers.ReLU(), layers.Dropout(0.5)])
    for drops in (kseq.Dropout(0.5), layers.Dropout(0.5), inner):
        model = keras.Model(x, [drops(x, training=True), drops(x, training=False), drops(x)])
        dropped, *others = kseq.Stream(model).push(frames)
        assert set(np.unique(dropped)) == {0.0, 2.0}
        assert all((other == 1).all() for other in others)


def test_a_model_that_is_told_to_train_is_looked_into():
    x = keras.Input((None, CHANNELS))
    inner = keras.Sequential([keras.Input((None, CHANNELS)), layers.BatchNormalization(name="norm")])
    with pytest.raises(kseq.NotStreamable, match=r"norm \(BatchNormalization\): called with training=True"):
        kseq.Stream(keras.Model(x, inner(x, training=True)))
