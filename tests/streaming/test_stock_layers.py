"""Keras's own layers, one by one: a stream gives what the layer gives of the whole, or the reason why it cannot."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from stock import check_streams, model_of, streamed

import kseq

TODAYS = {"jax": 0.12, "tensorflow": 0.12}
RNG = np.random.default_rng(0)
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
    yield "SpectralNormalization", FLAT, conv(layers.SpectralNormalization, layers.Conv1D(3, 3, padding="same"))
    yield "TimeDistributed", IMAGE, lambda x: layers.TimeDistributed(layers.Flatten())(x)
    yield "TimeDistributed LSTM", IMAGE, lambda x: layers.TimeDistributed(layers.LSTM(3))(x)
    yield "SpatialDropout2D", IMAGE, conv(layers.SpatialDropout2D, 0.5)
    yield "BatchNormalization", FLAT, conv(layers.BatchNormalization)
    yield "a mask that a convolution does not see", FLAT, lambda x: layers.Conv1D(3, 3)(layers.Masking()(x))
    fixed = layers.Conv1D(3, 3, strides=2, padding="same")
    yield "same of a known length", (13, 4), fixed


CASES = [*windows(), *ends(), *recurrences(), *attention(), *others()]


@pytest.mark.filterwarnings("ignore:Layer '.*' .*was passed an input with a mask", "ignore:You might experience")
@pytest.mark.parametrize(("shape", "build"), [pytest.param(*case, id=name) for name, *case in CASES])
def test_a_stream_gives_what_the_layer_gives_of_the_whole(shape, build):
    model = model_of(build, shape)
    x = RNG.normal(size=(2, 13, *shape[1:])).astype("float32")
    x[:, RNG.random(13) < 0.3] = 0  # which is invalid after Masking
    check_streams(model, x)


HALF = {
    "convolution": conv(layers.Conv1D, 3, 4, padding="same"),
    "recurrence": conv(layers.GRU, 3, return_sequences=True),
    "attention": lambda x: layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True),
    "plain attention": lambda x: layers.AdditiveAttention()([x, x], use_causal_mask=True),
    "pooling": conv(layers.AveragePooling1D, 2, 1, "valid"),
    "ends": lambda x: layers.Cropping1D((1, 1))(layers.ZeroPadding1D((2, 0))(x)),
    "shape": conv(layers.Reshape, (-1, 2, 2)),
}
if keras.backend.backend() != "jax":  # where Keras's own RNN of these fails
    HALF["cells"] = conv(layers.RNN, [layers.GRUCell(3), layers.SimpleRNNCell(2)], return_sequences=True)


@pytest.mark.parametrize("build", HALF.values(), ids=HALF)
def test_mixed_precision(build):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = model_of(build)
    finally:
        keras.config.set_dtype_policy("float32")
    check_streams(model, RNG.normal(size=(2, 9, 4)).astype("float32"), tolerance=1e-2)


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_categories_of_ids(channels):
    model = model_of(conv(layers.CategoryEncoding, 5, output_mode="one_hot"), (None, *channels), "int32")
    check_streams(model, RNG.integers(0, 5, (2, 7, *channels)).astype("int32"))


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_few_steps(steps):
    """Of fewer steps than a window has there is nothing, and what padding gives where it pads."""
    x = RNG.normal(size=(1, steps, 4)).astype("float32")
    valid = kseq.Stream(model_of(conv(layers.Conv1D, 3, 4)))
    assert valid.push(x).shape[1] + valid.flush().shape[1] == max(steps - 3, 0)
    if steps:
        check_streams(model_of(padded(2, 2, layers.Conv1D(3, 4))), x)
        check_streams(model_of(conv(layers.Conv1D, 3, 7, padding="same")), x)


def test_zeros_before_a_convolution_cost_no_latency():
    causal = kseq.Stream(model_of(padded(6, 0, layers.Conv1D(3, 4, dilation_rate=2)))).timing
    assert (causal.input_latency, causal.output_latency) == (0, 0)
    same = kseq.Stream(model_of(conv(layers.Conv1D, 3, 5, padding="same"))).timing
    assert (same.input_latency, same.output_latency) == (2, 2)
    cropped = kseq.Stream(model_of(conv(layers.Cropping1D, (2, 3)))).timing
    assert (cropped.output_latency, cropped.output_length(9)) == (5, 4)


def test_a_stateful_layer_begins_anew_with_each_stream():
    build = conv(layers.LSTM, 3, return_sequences=True, stateful=True)
    model = model_of(build, batch_size=2)
    x = RNG.normal(size=(2, 13, 4)).astype("float32")
    plain = model_of(conv(layers.LSTM, 3, return_sequences=True))
    plain.set_weights(model.get_weights()[:3])
    wanted = ops.convert_to_numpy(plain(x))
    stream = kseq.Stream(model, 2)
    for _ in range(2):
        np.testing.assert_allclose(np.concatenate([stream.push(x[:, :5]), stream.push(x[:, 5:])], 1), wanted, atol=1e-5)
        stream.reset()


def test_variables_are_those_of_the_model():
    model = model_of(lambda x: layers.Conv1D(3, 3)(layers.GRU(4, return_sequences=True)(x)))
    layer = kseq.streamable(model)
    assert {id(v) for v in layer.variables} == {id(v) for v in model.variables}
    x = RNG.normal(size=(1, 6, 4)).astype("float32")
    before = ops.convert_to_numpy(kseq.Stream(model).push(x))
    for v in model.trainable_variables:
        v.assign(v * 0.5)
    after = kseq.Stream(model).push(x)
    assert not np.allclose(before, after)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), ops.convert_to_numpy(model(x)), atol=1e-5)


def test_a_model_is_a_layer_of_sequences():
    model = model_of(lambda x: layers.LSTM(3, return_sequences=True)(layers.Conv1D(4, 4, padding="same")(x)))
    layer = kseq.streamable(model)
    x = RNG.normal(size=(2, 9, 4)).astype("float32")
    lengths = [5, 9]
    y = layer(kseq.Sequence(x, np.arange(9) < np.array(lengths)[:, None]))
    for row, length in enumerate(lengths):
        found = ops.convert_to_numpy(y.values)[row][ops.convert_to_numpy(y.mask)[row]]
        np.testing.assert_allclose(found, ops.convert_to_numpy(model(x[row : row + 1, :length]))[0], atol=1e-5)
    state = layer.initial_state(2, kseq.SequenceSpec((4,)))
    late = layer.timing.output_latency
    x = np.pad(x, [(0, 0), (0, late), (0, 0)])
    mask = np.arange(9 + late) < 9
    found, _ = layer.step(kseq.Sequence(x, np.tile(mask, (2, 1))), state)
    np.testing.assert_allclose(
        ops.convert_to_numpy(found.values)[:, late:], ops.convert_to_numpy(model(x[:, :9])), atol=1e-5
    )


def test_rows_of_unequal_length():
    """Each row ends where it ends, and another begins in its place."""
    model = model_of(lambda x: layers.LSTM(3, return_sequences=True)(layers.Conv1D(4, 4, padding="same")(x)))
    x = RNG.normal(size=(2, 9, 4)).astype("float32")
    stream = kseq.Stream(model, 2)
    first, other = stream.push(x[:, :5]), None
    ended = stream.flush(active=[True, False])
    other = stream.push(x[:, 5:], active=[False, True])
    last = stream.flush(active=[False, True])
    found = [np.concatenate([first[0], ended[0]]), np.concatenate([first[1], ended[1], other[1], last[1]])]
    np.testing.assert_allclose(found[0], ops.convert_to_numpy(model(x[:1, :5]))[0], atol=1e-5)
    np.testing.assert_allclose(found[1], ops.convert_to_numpy(model(x[1:]))[0], atol=1e-5)


def test_attention_of_valid_steps():
    """What Keras gives at invalid steps is of no use, and not looked at."""
    attention = layers.MultiHeadAttention(2, 3)
    model = model_of(lambda x: (lambda y: attention(y, y, use_causal_mask=True))(layers.Masking()(x)))
    x = RNG.normal(size=(2, 13, 4)).astype("float32")
    valid = RNG.random((2, 13)) < 0.7
    x[~valid] = 0
    found = streamed(kseq.Stream(model, 2), x)
    np.testing.assert_allclose(found[valid], ops.convert_to_numpy(model(x))[valid], atol=1e-5)


TO_A_CONTEXT = {
    "MultiHeadAttention": lambda x, keys: layers.MultiHeadAttention(2, 3)(x, keys),
    "Attention": lambda x, keys: layers.Attention(use_scale=True)([x, keys]),
    "AdditiveAttention": lambda x, keys: layers.AdditiveAttention()([x, keys, keys]),
}


@pytest.mark.parametrize("name", TO_A_CONTEXT)
def test_attention_to_a_context(name):
    x, source = keras.Input((None, 4), name="x"), keras.Input((None,), dtype="int32", name="source")
    keys = layers.Embedding(5, 6, mask_zero=True)(source)
    queries = layers.Conv1D(6, 3, padding="causal")(x)
    model = keras.Model([x, source], layers.Dense(2)(TO_A_CONTEXT[name](queries, keys)))
    frames, ids = RNG.normal(size=(2, 7, 4)).astype("float32"), np.array([[1, 2, 0], [3, 4, 2]])
    stream = kseq.Stream(model, 2, context={"source": ids})
    found = np.concatenate([stream.push(frames[:, :3]), stream.push(frames[:, 3:])], axis=1)
    np.testing.assert_allclose(found, ops.convert_to_numpy(model([frames, ids])), atol=1e-5)


def test_how_far_attention_goes_back():
    attention = layers.MultiHeadAttention(1, 2, name="attention")
    model = model_of(lambda x: attention(x, x, use_causal_mask=True))
    x = RNG.normal(size=(1, 6, 4)).astype("float32")
    with pytest.raises(ValueError, match=r"max_length \(=4\) of `attention`"):
        kseq.Stream(model, max_length=4).push(x)
    kept = model_of(lambda x: layers.MultiHeadAttention(1, 2, sliding_window=3)(x, x, use_causal_mask=True))
    kept.set_weights(model.get_weights())
    found = kseq.Stream(model, window=3).push(x)
    np.testing.assert_allclose(found, ops.convert_to_numpy(kept(x)), atol=1e-5)
    with pytest.raises(ValueError, match="`window` must be an integer of at least 1; received 0"):
        kseq.streamable(model, window=0)


def test_strings_are_refused():
    pytest.importorskip("tensorflow")  # Keras's look-ups need it on every backend
    x = keras.Input((None,), dtype="string")
    with pytest.raises(kseq.NotStreamable, match=r"strings are no tensors.*use its numbers as the stream's input"):
        kseq.Stream(keras.Model(x, layers.StringLookup(vocabulary=["a", "b"])(x)))


REFUSED = {
    "strided": (
        conv(layers.Conv1D, 3, 3, strides=2, padding="same"),
        FLAT,
        "as its length is; use padding=",
    ),
    "channels first": (conv(layers.Conv1D, 3, 3, data_format="channels_first"), (4, None), "data_format"),
    "the last step": (conv(layers.LSTM, 3), FLAT, "it gives its last step alone.*use return_sequences=True"),
    "backwards": (conv(layers.GRU, 3, return_sequences=True, go_backwards=True), FLAT, "reads backwards"),
    "both ways": (lambda x: layers.Bidirectional(layers.GRU(3, return_sequences=True))(x), FLAT, "use its `forward_la"),
    "states": (
        lambda x: layers.LSTM(3, return_sequences=True, return_state=True)(x)[0],
        FLAT,
        "use return_state=False",
    ),
    "all steps": (lambda x: layers.MultiHeadAttention(1, 2)(x, x), FLAT, "still to come; use use_causal_mask=True"),
    "scores": (
        lambda x: layers.MultiHeadAttention(1, 2)(x, x, use_causal_mask=True, return_attention_scores=True)[0],
        FLAT,
        "return_attention_scores=False",
    ),
    "all steps of one head": (
        lambda x: layers.Attention()([x, x]),
        FLAT,
        "still to come; use use_causal_mask=True in its call",
    ),
    "keys of another sequence": (
        lambda x: layers.Attention()([x, x, layers.Dense(4)(x)], use_causal_mask=True),
        FLAT,
        "keys are made of another sequence",
    ),
    "global": (conv(layers.GlobalAveragePooling1D), FLAT, "one value of all steps.*use pooling with a window"),
    "global maximum": (conv(layers.GlobalMaxPooling2D), IMAGE, "one value of all steps"),
    "groups": (conv(layers.GroupNormalization, 2), FLAT, "use kseq.GroupNormalization"),
    "flat": (conv(layers.Flatten), (13, 4), "it puts time among the channels; use keras.layers.TimeDistributed"),
    "another shape": (conv(layers.Reshape, (-1, 2)), FLAT, "moves values from one step to another"),
    "another order": (conv(layers.Permute, (2, 1)), FLAT, "move time to another axis"),
    "between steps": (conv(layers.UpSampling2D, 2, interpolation="bilinear"), IMAGE, "mixes time steps; use interp"),
    "positions apart": (
        lambda x: layers.MultiHeadAttention(1, 2, attention_axes=(1,))(x, x, use_causal_mask=True),
        IMAGE,
        r"must have rank 3; received channels of shapes \(6, 2\)",
    ),
    "several at once": (lambda x: layers.Lambda(lambda pair: pair[0] * pair[1])([x, x]), FLAT, "several tensors"),
    "another size than Keras says": (conv(layers.Activation, "glu"), FLAT, r"it gives shape \(2, 7, 2\), wanted"),
    "several hot": (conv(layers.CategoryEncoding, 3, output_mode="multi_hot"), (None, 2), "several steps together"),
}


@pytest.mark.parametrize(("build", "shape", "message"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_why_and_what_to_use(build, shape, message):
    dtype = "int32" if "several" in message else "float32"
    with pytest.raises(kseq.NotStreamable, match=message):
        kseq.Stream(model_of(build, shape, dtype))
