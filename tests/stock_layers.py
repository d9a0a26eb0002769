"""Keras's own layers that stream: for every adapter models of one layer or a few, by name."""

import keras
from keras import layers, ops

FLAT, IMAGE, CUBE = (None, 4), (None, 6, 2), (None, 4, 5, 2)


def conv(cls, *args, **kwargs):
    return lambda x: cls(*args, **kwargs)(x)


def padded(before, after, layer):
    return lambda x: layer(layers.ZeroPadding1D((before, after))(x))


def windows():
    """Every layer with windows, in every padding that streams."""
    for padding in ("causal", "valid", "same"):
        for size, stride, dilation in ((1, 1, 1), (3, 1, 1), (4, 1, 1), (2, 1, 3), (4, 2, 1), (2, 3, 1)):
            sizes = {"kernel_size": size, "strides": stride, "dilation_rate": dilation}
            yield f"Conv1D {padding} {sizes}", FLAT, conv(layers.Conv1D, 3, **sizes, padding=padding, activation="tanh")
    for padding in ("valid", "same"):
        yield f"groups {padding}", FLAT, conv(layers.Conv1D, 4, 3, groups=2, padding=padding, use_bias=False)
        yield f"DepthwiseConv1D {padding}", FLAT, conv(layers.DepthwiseConv1D, 3, depth_multiplier=2, padding=padding)
        yield f"SeparableConv1D {padding}", FLAT, conv(layers.SeparableConv1D, 3, 4, strides=2, padding=padding)
        yield f"Conv2D {padding}", IMAGE, conv(layers.Conv2D, 3, (4, 3), strides=(2, 1), padding=padding)
        yield f"DepthwiseConv2D {padding}", IMAGE, conv(layers.DepthwiseConv2D, (4, 3), strides=2, padding=padding)
        yield f"SeparableConv2D {padding}", IMAGE, conv(layers.SeparableConv2D, 3, (3, 2), padding=padding)
        yield f"Conv3D {padding}", CUBE, conv(layers.Conv3D, 3, (2, 3, 2), strides=(2, 1, 2), padding=padding)
        for size, stride in ((1, 2), (2, 2), (3, 2), (4, 2), (5, 3), (3, 1)):
            options = {"strides": stride, "padding": padding}
            yield f"Conv1DTranspose {size} {options}", FLAT, conv(layers.Conv1DTranspose, 3, size, **options)
        more = {"strides": 3, "padding": padding, "output_padding": 1}
        yield f"Conv1DTranspose {more}", FLAT, conv(layers.Conv1DTranspose, 3, 5, **more)
        yield f"Conv2DTranspose {padding}", IMAGE, conv(layers.Conv2DTranspose, 3, (4, 3), strides=2, padding=padding)
        yield f"Conv3DTranspose {padding}", CUBE, conv(layers.Conv3DTranspose, 3, 2, strides=2, padding=padding)
        for cls in (layers.MaxPooling1D, layers.AveragePooling1D):
            for size, stride in ((2, 2), (2, 3), (3, 1), (1, 2)):
                yield f"{cls.__name__} {padding} {size} {stride}", FLAT, conv(cls, size, stride, padding)
        for cls in (layers.MaxPooling2D, layers.AveragePooling2D):
            yield f"{cls.__name__} {padding}", IMAGE, conv(cls, (2, 2), (2, 1), padding)
        for cls in (layers.MaxPooling3D, layers.AveragePooling3D):
            yield f"{cls.__name__} {padding}", CUBE, conv(cls, (2, 1, 2), (2, 1, 2), padding)


def ends():
    """What is put before and behind a sequence, and taken away there."""
    for before, after in ((0, 0), (2, 0), (0, 3), (1, 2), (5, 4)):
        name = f"{before} {after}"
        yield f"ZeroPadding1D {name}", FLAT, conv(layers.ZeroPadding1D, (before, after))
        yield f"padded convolution {name}", FLAT, padded(before, after, layers.Conv1D(3, 4))
        yield f"padded maximum {name}", FLAT, padded(before, after, layers.MaxPooling1D(3, 2))
        yield f"padded mean {name}", FLAT, padded(before, after, layers.AveragePooling1D(3, 1))
        yield f"padded, something else, {name}", FLAT, padded(before, after, layers.Dense(2, bias_initializer="ones"))
        if before + after < 7:
            yield f"Cropping1D {name}", FLAT, conv(layers.Cropping1D, (before, after))
    yield "ZeroPadding2D", IMAGE, conv(layers.ZeroPadding2D, ((1, 2), (0, 1)))
    around = ((2, 0), (1, 1))
    yield "padded image", IMAGE, lambda x: layers.Conv2D(3, 3)(layers.ZeroPadding2D(around)(x))
    yield "padded image, its maximum", IMAGE, lambda x: layers.MaxPooling2D(3)(layers.ZeroPadding2D(around)(x))
    yield "Cropping2D", IMAGE, conv(layers.Cropping2D, ((1, 2), (0, 1)))
    yield "UpSampling1D", FLAT, conv(layers.UpSampling1D, 3)
    yield "UpSampling2D", IMAGE, conv(layers.UpSampling2D, (2, 2))
    yield "UpSampling2D of space", IMAGE, conv(layers.UpSampling2D, (1, 2), interpolation="bilinear")
    yield "UpSampling3D", CUBE, conv(layers.UpSampling3D, (2, 1, 2))
    yield "Reshape", FLAT, conv(layers.Reshape, (-1, 2, 2))
    yield "Permute", IMAGE, conv(layers.Permute, (1, 3, 2))


class Doubling(keras.layers.Layer):
    """Somebody's cell, whose output is no state."""

    def __init__(self, units):
        super().__init__()
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units))
        self.built = True

    def call(self, x, states):
        h = ops.tanh(ops.matmul(x, self.kernel) + 0.5 * states[0])
        return 2 * h, [h]


def recurrences():
    """Recurrent layers, with and without a mask."""
    options = {"return_sequences": True}
    for cls in (layers.LSTM, layers.GRU, layers.SimpleRNN):
        name = cls.__name__
        yield name, FLAT, conv(cls, 3, **options)
        yield f"{name} after Masking", FLAT, lambda x, c=cls: c(3, **options)(layers.Masking()(x))
        # Which loses the mask: what a layer gives at invalid steps counts.
        lost = lambda x, c=cls: layers.Conv1D(2, 2, padding="causal")(c(3, **options)(layers.Masking()(x)))  # noqa: E731
        yield f"{name} whose mask is lost", FLAT, lost
        yield f"{name} of zeros", FLAT, lambda x, c=cls: c(3, **options, zero_output_for_mask=True)(layers.Masking()(x))
        yield f"{name} with dropout", FLAT, conv(cls, 3, **options, dropout=0.5, recurrent_dropout=0.5)
        yield f"{name} that comes late", FLAT, lambda x, c=cls: c(3, **options)(layers.Conv1D(3, 5, padding="same")(x))
    yield "GRU reset before", FLAT, conv(layers.GRU, 3, reset_after=False, **options)
    yield "LSTM of functions", FLAT, conv(layers.LSTM, 3, activation="relu", use_bias=False, **options)
    yield "cells", FLAT, conv(layers.RNN, [layers.LSTMCell(3), layers.GRUCell(2)], **options)
    stack = layers.StackedRNNCells([layers.SimpleRNNCell(3), layers.LSTMCell(2)])
    yield "stacked cells", FLAT, lambda x: layers.RNN(stack, **options)(layers.Masking()(x))
    yield "somebody's cell", FLAT, conv(layers.RNN, Doubling(3), **options)
    yield "ConvLSTM1D", IMAGE, conv(layers.ConvLSTM1D, 3, 3, padding="same", **options)
    yield "ConvLSTM2D", CUBE, conv(layers.ConvLSTM2D, 2, (3, 2), strides=2, **options)


def attention():
    """Multi-head attention to a sequence itself, and to another branch."""
    multi, group = layers.MultiHeadAttention, layers.GroupQueryAttention

    def of_itself(layer, **call):
        return lambda x: layer(x, x, **({"use_causal_mask": True} | call))

    yield "attention", FLAT, of_itself(multi(2, 3))
    yield "sizes", FLAT, of_itself(multi(2, 3, value_dim=5, output_shape=7, use_bias=False))
    yield "gate", FLAT, of_itself(multi(2, 3, use_gate=True))
    yield "window", FLAT, of_itself(multi(2, 3, sliding_window=4))
    yield "window around", FLAT, of_itself(multi(2, 3, sliding_window=3), use_causal_mask=False)
    yield "groups", FLAT, of_itself(group(3, 4, 2))
    yield "groups with a gate", FLAT, of_itself(group(3, 4, 2, use_gate=True))
    wide = layers.Conv1D(4, 5, padding="same")
    yield "late", FLAT, lambda x: of_itself(multi(2, 3))(wide(x))

    def plain(layer, key=lambda x: x):
        return lambda x: layer([x, key(x)], use_causal_mask=True)

    yield "Attention", FLAT, plain(layers.Attention())
    yield "Attention with a scale", FLAT, plain(layers.Attention(use_scale=True), wide)
    yield "Attention of sums", FLAT, plain(layers.Attention(use_scale=True, score_mode="concat"), wide)
    yield "AdditiveAttention", FLAT, plain(layers.AdditiveAttention())
    yield "AdditiveAttention without a scale", FLAT, plain(layers.AdditiveAttention(use_scale=False), wide)
    yield "Attention after Masking", FLAT, lambda x: plain(layers.Attention())(layers.Masking()(x))
    # Keras's gives zeros at invalid steps, which count where the mask is lost.
    lost = layers.Conv1D(2, 2, padding="causal")
    yield "Attention whose mask is lost", FLAT, lambda x: lost(plain(layers.Attention())(layers.Masking()(x)))
    of_three = layers.Attention()
    yield "Attention of three", FLAT, lambda x: of_three([wide(x), x, x], use_causal_mask=True)
    yield "of a branch", FLAT, lambda x: multi(2, 3)(x, wide(x), use_causal_mask=True)


def others():
    """Layers of categories, of spectra, and around other layers."""
    yield "Discretization", FLAT, conv(layers.Discretization, bin_boundaries=[-1.0, 0.0, 1.0])
    yield "Discretization one-hot", (None, 1), conv(layers.Discretization, [-1.0, 0.0], output_mode="one_hot")
    yield "Normalization", FLAT, conv(layers.Normalization, mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 2.0, 3.0, 4.0])
    frames = {"frame_length": 4, "frame_step": 3, "fft_length": 4}
    yield "STFTSpectrogram", (None, 2), conv(layers.STFTSpectrogram, "log", **frames)
    same = frames | {"frame_step": 1, "padding": "same"}
    yield "STFTSpectrogram same", (None, 1), conv(layers.STFTSpectrogram, "stft", expand_dims=True, **same)
    mel = {"fft_length": 8, "sequence_stride": 4, "num_mel_bins": 3, "sampling_rate": 800, "min_freq": 0.0}
    mel |= {"power_to_db": False}
    yield "MelSpectrogram", (None,), lambda x: layers.Permute((2, 1))(layers.MelSpectrogram(**mel)(x))
    yield "SpectralNormalization", FLAT, conv(layers.SpectralNormalization, layers.Conv1D(3, 3, padding="same"))
    yield "TimeDistributed", IMAGE, lambda x: layers.TimeDistributed(layers.Flatten())(x)
    yield "TimeDistributed LSTM", IMAGE, lambda x: layers.TimeDistributed(layers.LSTM(3))(x)
    yield "SpatialDropout2D", IMAGE, conv(layers.SpatialDropout2D, 0.5)
    yield "BatchNormalization", FLAT, conv(layers.BatchNormalization)
    yield "a mask that a convolution does not see", FLAT, lambda x: layers.Conv1D(3, 3)(layers.Masking()(x))
    fixed = layers.Conv1D(3, 3, strides=2, padding="same")
    yield "same of a known length", (13, 4), fixed


CASES = [*windows(), *ends(), *recurrences(), *attention(), *others()]


def by_step():
    """Layers that treat every step by itself, the others of which there are adapters, and merges."""
    for cls in (
        layers.ActivityRegularization,
        layers.ELU,
        layers.Identity,
        layers.LayerNormalization,
        layers.LeakyReLU,
    ):
        yield cls.__name__, FLAT, conv(cls)
    for cls in (layers.Masking, layers.RMSNormalization, layers.ReLU, layers.Softmax, layers.UnitNormalization):
        yield cls.__name__, FLAT, conv(cls)
    for cls in (layers.AlphaDropout, layers.Dropout, layers.GaussianDropout, layers.GaussianNoise):
        yield cls.__name__, FLAT, conv(cls, 0.5)
    yield "Activation", FLAT, conv(layers.Activation, "gelu")
    yield "Dense", FLAT, conv(layers.Dense, 3, activation="tanh")
    yield "EinsumDense", FLAT, conv(layers.EinsumDense, "abc,cd->abd", (None, 3), bias_axes="d")
    yield "Lambda", FLAT, conv(layers.Lambda, lambda x: ops.square(x) - 1)
    yield "PReLU", FLAT, conv(layers.PReLU, shared_axes=[1])
    yield "Rescaling", FLAT, conv(layers.Rescaling, 0.5, offset=1.0)
    yield "SpatialDropout1D", FLAT, conv(layers.SpatialDropout1D, 0.5)
    yield "SpatialDropout3D", CUBE, conv(layers.SpatialDropout3D, 0.5)
    merges = layers.Add, layers.Average, layers.Subtract, layers.Maximum, layers.Minimum, layers.Multiply
    for cls in (*merges, layers.Concatenate):
        yield cls.__name__, FLAT, lambda x, c=cls: c()([x, layers.Masking()(layers.Dense(4)(x))])
    yield "Cropping3D", CUBE, conv(layers.Cropping3D, ((1, 0), (1, 1), (0, 0)))
    yield "ZeroPadding3D", CUBE, conv(layers.ZeroPadding3D, ((1, 0), (1, 1), (0, 2)))
    deep = layers.ConvLSTM3D(2, 2, padding="same", return_sequences=True)
    yield "ConvLSTM3D", (None, 3, 2, 2, 1), lambda x: deep(x)


def of_numbers():
    """Layers of integers."""
    yield "Embedding", (None,), conv(layers.Embedding, 5, 3, mask_zero=True)
    yield "ReversibleEmbedding", (None,), conv(layers.ReversibleEmbedding, 5, 3)
    yield "CategoryEncoding", (None,), conv(layers.CategoryEncoding, 5, output_mode="one_hot")
    yield "CategoryEncoding of channels", (None, 3), conv(layers.CategoryEncoding, 5, output_mode="one_hot")
    yield "Hashing", (None,), lambda x: layers.Hashing(3)(x)
    yield "IntegerLookup", (None,), lambda x: layers.IntegerLookup(vocabulary=[3, 1])(x)


# With the dtype of the input, also what streams are tried on elsewhere.
EVERY = [
    *[(*case, "float32") for case in (*CASES, *by_step())],
    *[(*case, "int32") for case in of_numbers()],
]
