"""Convolution and pooling: `same` is Keras's `same`, whatever the length."""

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import ops
from sampling import examples

import kseq

_PAIRS = {
    "conv": (kseq.Conv1D, keras.layers.Conv1D, {"filters": 2}, "kernel_size"),
    "grouped conv": (kseq.Conv1D, keras.layers.Conv1D, {"filters": 4, "groups": 2}, "kernel_size"),
    "depthwise conv": (kseq.DepthwiseConv1D, keras.layers.DepthwiseConv1D, {"depth_multiplier": 2}, "kernel_size"),
    "max": (kseq.MaxPooling1D, keras.layers.MaxPooling1D, {}, "pool_size"),
    "average": (kseq.AveragePooling1D, keras.layers.AveragePooling1D, {}, "pool_size"),
}


def values(layer, x):
    return ops.convert_to_numpy(layer(x))


def draw(time, channels=4):
    return np.random.default_rng(time).normal(size=(2, time, channels)).astype("float32")


def both(kind, size, padding="same", **options):
    """kseq's layer and Keras's, of the same weights."""
    own, theirs, more, name = _PAIRS[kind]
    own, theirs = (cls(**{name: size}, padding=padding, **more, **options) for cls in (own, theirs))
    for layer in (own, theirs):
        layer.build((None, None, 4))
    own.set_weights(theirs.get_weights())
    return own, theirs


@pytest.mark.parametrize("kind", _PAIRS)
@settings(max_examples=examples(12), deadline=None, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 9))
def test_same_is_keras_same(kind, size, strides, time):
    own, theirs = both(kind, size, strides=strides)
    # Keras on torch pads an odd number of steps by repeating the last, which then counts; elsewhere it counts none.
    assume(kind != "average" or keras.backend.backend() != "torch" or sum(own.window.pads_of(time)) % 2 == 0)
    wanted = values(theirs, draw(time))
    assert own.output_length(time) == wanted.shape[1]
    np.testing.assert_allclose(values(own, draw(time)), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["conv", "depthwise conv"])
@pytest.mark.parametrize("time", [2, 7])
def test_same_with_dilation(kind, time):
    own, theirs = both(kind, 3, dilation_rate=2)
    np.testing.assert_allclose(values(own, draw(time)), values(theirs, draw(time)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("time", [1, 6, 7, 8])
def test_same_with_dilation_and_strides_is_that_of_the_spread_kernel(time):
    # Keras refuses both at once: a kernel with zeros between its taps is the same.
    own = kseq.Conv1D(2, 3, strides=3, dilation_rate=2, padding="same")
    own.build((None, None, 4))
    spread = keras.layers.Conv1D(2, 5, strides=3, padding="same")
    spread.build((None, None, 4))
    kernel, bias = own.get_weights()
    wide = np.zeros((5, *kernel.shape[1:]), "float32")
    wide[::2] = kernel
    spread.set_weights([wide, bias])
    np.testing.assert_allclose(values(own, draw(time)), values(spread, draw(time)), rtol=1e-5, atol=1e-5)


def test_averages_of_same_leave_out_padding_but_count_invalid_steps():
    x = kseq.Sequence(np.ones((1, 5, 1), "float32"), np.array([[True, False, True, True, True]]))
    y = kseq.AveragePooling1D(3, strides=2, padding="same")(x)
    np.testing.assert_allclose(ops.convert_to_numpy(y.values)[0, :, 0], [1 / 2, 2 / 3, 1])
    assert ops.convert_to_numpy(y.mask)[0].tolist() == [True, True, True]
    y = kseq.AveragePooling1D(3, strides=2, padding="same", masked_average=True)(x)
    np.testing.assert_allclose(ops.convert_to_numpy(y.values)[0, :, 0], [1, 1, 1])
    # Other modes count their padding, as a step of a stream must.
    y = kseq.AveragePooling1D(3, strides=2, padding=(1, 1))(x)
    np.testing.assert_allclose(ops.convert_to_numpy(y.values)[0, :, 0], [1 / 3, 2 / 3, 2 / 3], rtol=1e-6)


def test_averages_of_integers_leave_out_padding_too():
    x = np.array([[[4], [7], [1]]], "int32")
    assert values(kseq.AveragePooling1D(3, strides=1, padding="same"), x)[0, :, 0].tolist() == [5, 4, 4]


def test_the_receptive_field_of_same_is_that_of_all_lengths():
    window = kseq.Window(3, 2, padding="same")
    assert [window.pads_of(n) for n in (1, 2, 3, 4)] == [(1, 1), (0, 1), (1, 1), (0, 1)]
    assert window.timing.receptive_field == (-1, 2)
    assert kseq.Window(2, 5, padding="same").timing.receptive_field == (0, 1)
