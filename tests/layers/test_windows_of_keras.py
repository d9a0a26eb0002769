"""Windowed layers are Keras's layers of the same name: the same configuration and weights, the same numbers."""

import keras
import numpy as np
import pytest
from keras import ops
from sampling import todays

import kseq

_CONV = {"filters": 2, "kernel_size": 3, "use_bias": True}
_DEPTHWISE = {"kernel_size": 2, "depth_multiplier": 2}
_LAYERS = [
    ("Conv1D", _CONV | {"strides": 2}),
    ("Conv2D", _CONV | {"kernel_size": (3, 2), "strides": (2, 1)}),
    ("Conv2D", {"filters": 4, "kernel_size": 2, "groups": 2, "activation": "relu"}),
    ("Conv2D", _CONV | {"dilation_rate": 2}),
    ("Conv3D", _CONV | {"kernel_size": 2}),
    ("DepthwiseConv1D", _DEPTHWISE | {"strides": 2}),
    ("DepthwiseConv2D", _DEPTHWISE),
    ("SeparableConv1D", _CONV | {"depth_multiplier": 2}),
    ("SeparableConv2D", _CONV | {"kernel_size": (2, 3)}),
    ("Conv1DTranspose", _CONV | {"strides": 2}),
    ("Conv1DTranspose", _CONV | {"kernel_size": 2, "strides": 3}),
    ("Conv1DTranspose", _CONV | {"kernel_size": 4, "dilation_rate": 2}),
    ("Conv2DTranspose", _CONV | {"strides": 2}),
    ("Conv3DTranspose", _CONV | {"kernel_size": 2, "strides": (2, 1, 2)}),
    ("MaxPooling2D", {"pool_size": (3, 2), "strides": 2}),
    ("MaxPooling3D", {"pool_size": 2}),
    ("AveragePooling2D", {"pool_size": 2, "strides": (1, 2)}),
    ("AveragePooling3D", {"pool_size": 2}),
    ("UpSampling1D", {"size": 3}),
    ("UpSampling2D", {"size": (2, 3)}),
    ("UpSampling3D", {"size": (2, 1, 2)}),
]


@pytest.mark.parametrize(
    ("name", "config", "padding"),
    todays(
        [pytest.param(*layer, padding) for layer in _LAYERS for padding in ("valid", "same")],
        of="windows",
        jax=0.25,
    ),
)
def test_keras_layer(name, config, padding):
    if "size" in config and padding == "same":
        pytest.skip("has no padding")
    theirs = getattr(keras.layers, name)(**config, **({} if "size" in config else {"padding": padding}))
    shape = (2, 7, *[5, 4][: int(name.removesuffix("Transpose")[-2]) - 1], 4)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    try:
        wanted = ops.convert_to_numpy(theirs(x))
    except Exception as error:  # of tensorflow's own classes
        if "do not yet support dilation" not in str(error):
            raise
        pytest.skip("on this processor tensorflow computes no dilated transposed convolution")
    own = getattr(kseq, name).from_config(theirs.get_config())
    own.build(shape)
    own.set_weights(theirs.get_weights())
    found = ops.convert_to_numpy(own(x))
    assert tuple(own.compute_output_shape(shape)) == wanted.shape
    if name.startswith("Average") and padding == "same" and keras.backend.backend() == "torch":
        # Keras on torch repeats the last places where it pads an odd number, and counts them.
        found, wanted = (y[(slice(None), *[slice(1, -1)] * (y.ndim - 2))] for y in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_causal_transposed_convolution_is_the_start_of_keras_valid():
    theirs = keras.layers.Conv1DTranspose(3, 5, strides=2, padding="valid")
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
    wanted = ops.convert_to_numpy(theirs(x))[:, :12]
    own = kseq.Conv1DTranspose(3, 5, strides=2)
    own.build(x.shape)
    own.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ops.convert_to_numpy(own(x)), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cls", [kseq.Conv1D, kseq.Conv1DTranspose])
def test_weight_norm_starts_with_the_kernel_and_scales_it(cls):
    layer = cls(3, 2, use_weight_norm=True, use_bias=False)
    plain = cls(3, 2, use_bias=False)
    x = np.random.default_rng(0).normal(size=(1, 5, 4)).astype("float32")
    for each in (layer, plain):
        each.build(x.shape)
    plain.set_weights([layer.get_weights()[0]])
    wanted = ops.convert_to_numpy(plain(x))
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), wanted, rtol=1e-4, atol=1e-6)
    kernel, scale = layer.get_weights()
    layer.set_weights([7 * kernel, 2 * scale])
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), 2 * wanted, rtol=1e-4, atol=1e-6)


def test_lightweight_convolution_weighs_by_softmax_and_shares_heads():
    layer = kseq.NormalizedDepthwiseConv1D(3, num_heads=2, use_bias=False, padding="reverse_causal")
    x = np.random.default_rng(0).normal(size=(1, 6, 4)).astype("float32")
    y = ops.convert_to_numpy(layer(x))
    (kernel,) = layer.get_weights()
    assert kernel.shape == (3, 2, 1)
    weights = np.exp(kernel[:, :, 0]) / np.exp(kernel[:, :, 0]).sum(0)
    wanted = sum(weights[k, [0, 1, 0, 1]] * x[0, k : k + 4] for k in range(3))
    np.testing.assert_allclose(y[0, :4], wanted, rtol=1e-5, atol=1e-6)


def test_dropconnect_drops_taps_while_training_alone():
    layer = kseq.NormalizedDepthwiseConv1D(3, depthwise_dropconnect_rate=0.5, seed=1, use_bias=False)
    x = np.ones((1, 6, 8), "float32")
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x))[0, 2:], 1, rtol=1e-5)
    y = ops.convert_to_numpy(layer(x, training=True))[0, 2:]
    assert np.ptp(y) > 0.1
    np.testing.assert_allclose(np.ptp(y, axis=0), 0, atol=1e-6)  # the taps, not the steps


@pytest.mark.parametrize(("up", "down", "time"), [(2, 1, 15), (1, 3, 40), (3, 2, 31), (5, 7, 60)])
def test_resample_is_scipys(up, down, time):
    signal = pytest.importorskip("scipy.signal")
    x = np.random.default_rng(0).normal(size=(time, 2)).astype("float32")
    wanted = signal.resample_poly(x.astype("float64"), up, down)
    found = ops.convert_to_numpy(kseq.Resample(up * 2, down * 2)(x[None]))[0]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_masked_averages_leave_out_what_is_around_space():
    x = kseq.Sequence(np.ones((1, 4, 3, 1), "float32"), np.array([[True, False, True, True]]))
    layer = kseq.AveragePooling2D((2, 3), strides=1, spatial_padding="same", masked_average=True)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x).values)[0, [0, 2, 3], :, 0], 1)
    plain = kseq.AveragePooling2D((1, 3), strides=1, spatial_padding=(1, 1))
    np.testing.assert_allclose(ops.convert_to_numpy(plain(x).values)[0, 0, :, 0], [2 / 3, 1, 2 / 3], rtol=1e-6)


@pytest.mark.parametrize("kind", ["Max", "Min"])
def test_pooling_gives_zeros_where_nothing_is_valid(kind):
    x = kseq.Sequence(np.full((1, 4, 3, 1), 5, "float32"), np.array([[True, False, False, False]]))
    y = getattr(kseq, f"{kind}Pooling2D")((1, 2))(x)
    assert ops.convert_to_numpy(y.values)[0, :, 0, 0].tolist() == [5, 0, 0, 0]


def test_unfolding_undoes_folding():
    x = np.arange(12, dtype="float32").reshape(1, 6, 2)
    y = kseq.Serial([kseq.SqueezeTime(3, padding="semicausal"), kseq.UnsqueezeTime(3)])(x)
    np.testing.assert_array_equal(ops.convert_to_numpy(y), x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kseq.Conv2D(2, (3, 2, 1)), "`kernel_size` must be an integer or 2 of them; received \\(3, 2, 1\\)"),
        (lambda: kseq.Conv2D(2, (3, 0)), "`kernel_size` must be an integer of at least 1; received 0"),
        (lambda: kseq.Conv2D(2, 3, spatial_padding=(1, -1)), "`spatial_padding` must be .*; received \\(1, -1\\)"),
        (lambda: kseq.Conv3D(2, 3, spatial_padding=("same",)), "`spatial_padding` must be .*\\(2\\); received"),
        (lambda: kseq.Conv2D(2, 3, spatial_padding="around"), "padding must be one of .*; received 'around'"),
        (lambda: kseq.Conv2DTranspose(2, 3, spatial_padding=(1, 1)), "transposed window must be a mode"),
        (lambda: kseq.Conv1DTranspose(2, 3, padding="semicausal"), "transposed window must be one of .*'semicausal'"),
        (lambda: kseq.Conv1DTranspose(3, 3, groups=2), "`filters` \\(=3\\) must be divisible by `groups` \\(=2\\)"),
        (lambda: kseq.Conv1DTranspose(3, 3, output_padding=1), "takes `output_padding` as None; received 1"),
        (lambda: kseq.UpSampling2D(2, interpolation="bilinear"), "takes `interpolation` as 'nearest'; received"),
        (lambda: kseq.SincFilter1D(3, cutoff=0.7), "`cutoff` must be above 0 and at most 0.5 .*; received 0.7"),
        (lambda: kseq.MaxPooling2D((2, 2**31 - 1)), "span of a window over space may have 65536 numbers at most"),
        (lambda: kseq.IFFT(fft_length=2**31 - 1), "transform by `fft_length` may have 16777216 numbers at most"),
        (lambda: kseq.Resample(0, 2), "`up` must be an integer of at least 1; received 0"),
        (lambda: kseq.NormalizedDepthwiseConv1D(3, num_heads=3).build((1, 5, 4)), "`num_heads` \\(=3\\)"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_axis_of_space_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="must hold a window of 5; received an axis of 4"):
        kseq.Conv2D(2, (1, 5), spatial_padding="valid")(np.zeros((1, 3, 4, 1), "float32"))
    with pytest.raises(ValueError, match="need 1 axes after time; received"):
        kseq.MaxPooling2D(2)(np.zeros((1, 3), "float32"))


def test_a_transposed_convolution_that_cannot_step_says_what_can():
    layer = kseq.Conv1DTranspose(2, 3, padding="same")
    with pytest.raises(kseq.NotStreamable, match="padding 'causal'"):
        layer.step(np.zeros((1, 2, 1), "float32"), ())
