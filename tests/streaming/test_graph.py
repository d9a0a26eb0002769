"""Keras models as one layer: alignment, timing, and what is refused."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.streaming import as_layer


def branches():
    """A strided model whose branches have latencies 0 and 3, nested in another."""
    x = keras.Input((None, 2))
    slow = kseq.Conv1D(2, 4, padding="reverse_causal")(x)
    inner = keras.Model(x, kseq.Conv1D(2, 3, strides=2)(x + slow))
    outer = keras.Input((None, 2))
    y = inner(outer)
    return keras.Model(outer, keras.layers.Multiply()([y, kseq.GRU(2)(y)]))


def test_timing_is_composed_and_branches_are_aligned():
    timing = as_layer(branches()).timing
    assert (timing.block_size, timing.ratio) == (2, kseq.Timing(block_size=2, ratio="1/2").ratio)
    assert (timing.input_latency, timing.output_latency) == (4, 2)  # 3 steps of lookahead, and 1 to align the blocks


def test_a_nested_model_streams():
    model = branches()
    x = np.random.default_rng(0).normal(size=(9, 2)).astype("float32")
    stream = kseq.Stream(model)
    y = np.concatenate([stream.push(x[:4]), stream.push(x[4:]), stream.flush()])
    np.testing.assert_allclose(y, ops.convert_to_numpy(model(x[None]))[0], atol=1e-5)


def test_reading_a_model_leaves_it_as_it_was():
    model = branches()
    layers = [layer.output for layer in model.layers]  # refuses layers that were called again
    as_layer(model)
    assert [id(layer.output) for layer in model.layers] == [id(y) for y in layers]


def test_masking_and_stock_pointwise_layers_stream():
    model = keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.Masking(-1.0),
            keras.layers.Dense(3, activation="tanh"),
            keras.layers.LayerNormalization(),
            kseq.GRU(2),
            keras.layers.Dropout(0.5),
        ]
    )
    x = np.random.default_rng(1).normal(size=(1, 6, 2)).astype("float32")
    x[:, 2:4] = -1.0
    stream = kseq.Stream(model)
    streamed = kseq.Sequence.concatenate([stream.push(kseq.Sequence(x[:, :5])), stream.push(kseq.Sequence(x[:, 5:]))])
    assert streamed.mask.tolist() == [[True, True, False, False, True, True]]
    np.testing.assert_allclose(streamed.values, ops.convert_to_numpy(model(x)), atol=1e-5)


def test_a_model_of_sequences_streams():
    given = kseq.Sequence(keras.Input((None, 2)), keras.Input((None,), dtype="bool"))
    model = keras.Model(given, kseq.GRU(2)(kseq.Conv1D(3, 2, padding="reverse_causal")(given)))
    x = np.random.default_rng(2).normal(size=(2, 5, 2)).astype("float32")
    expected = model(kseq.Sequence.from_lengths(x, [5, 3]))
    stream = kseq.Stream(model, batch_size=2)
    parts = [stream.push(kseq.Sequence.from_lengths(x, [5, 3])), stream.flush()]
    streamed = kseq.Sequence.concatenate(parts)
    np.testing.assert_array_equal(streamed.mask, ops.convert_to_numpy(expected.mask))
    expected = ops.convert_to_numpy(expected.mask_invalid().values)
    np.testing.assert_allclose(streamed.mask_invalid().values, expected, atol=1e-5)


def test_output_lengths_go_through_a_model():
    assert kseq.masks.output_lengths(np.array([9, 4, 0]), branches()).tolist() == [5, 2, 0]


def test_each_layer_that_cannot_stream_is_reported():
    x = keras.Input((None, 2))
    y = keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True), name="both")(x)
    model = keras.Model(x, keras.layers.Flatten(name="flat")(keras.layers.GroupNormalization(2, name="norm")(y)))
    with pytest.raises(ValueError, match=r"both \(Bidirectional\).*norm \(Group.*use kseq.GroupNorm.*flat \(Flatten\)"):
        kseq.Stream(model)
    same = keras.Sequential([keras.Input((None, 2)), kseq.Conv1D(2, 3, padding="same", name="wide")])
    with pytest.raises(ValueError, match=r"wide \(Conv1D\): padding 'same' needs steps"):
        kseq.Stream(same)


@pytest.mark.parametrize(
    "layer",
    [keras.layers.Softmax(axis=-2), keras.layers.LayerNormalization(axis=[-2, -1]), keras.layers.Concatenate(axis=-2)],
    ids=lambda layer: type(layer).__name__,
)
def test_axes_counted_from_the_end_may_not_reach_time(layer):
    x = keras.Input((4, 2))
    model = keras.Model(x, layer([x, x]) if isinstance(layer, keras.layers.Concatenate) else layer(x))
    with pytest.raises(ValueError, match="its axis is batch or time"):
        kseq.Stream(model)


def test_axes_counted_from_the_end_may_be_channels():
    x = keras.Input((None, 2, 3))
    assert as_layer(keras.Model(x, keras.layers.Concatenate(axis=-2)([x, x]))).supports_step


def test_unequal_ratios_are_refused():
    x = keras.Input((None, 2))
    half = kseq.Conv1D(2, 2, strides=2, name="half")(x)
    late = kseq.Conv1D(2, 3, padding="reverse_causal", name="late")(x)
    model = keras.Model(x, keras.layers.Concatenate(axis=1)([half, late]))
    with pytest.raises(ValueError, match="its axis is batch or time"):
        kseq.Stream(model)
    with pytest.raises(ValueError, match=r"equal ratios.*1/2 for branch 'half' and 1 for branch 'late'"):
        kseq.Parallel([kseq.Conv1D(2, 2, strides=2, name="half"), kseq.Conv1D(2, 3, name="late")])
