"""Keras's own layers, one by one: a stream gives what the layer gives of the whole, or the reason why it cannot."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from stock import check_streams, model_of, streamed
from stock_layers import CASES, FLAT, IMAGE, conv, padded

import kseq

TODAYS = {"jax": 0.12, "tensorflow": 0.12}
RNG = np.random.default_rng(0)


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
