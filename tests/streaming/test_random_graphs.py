"""Random functional models: merges of unequal latency, shared and nested layers, masks, several inputs and outputs."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

SEEDS = range({"torch": 12, "tensorflow": 3, "jax": 2}[keras.backend.backend()])
CHANNELS = 2


# Keras's merges and operators have rules of their own for masks: models of tensors have no layer that makes one.
UNMASKED = ["causal", "reverse_causal", "semicausal"]
ANY = [*UNMASKED, "causal_valid", "reverse_causal_valid"]


def make_layer(rng, paddings=UNMASKED):
    """A layer that keeps the channels and the rate."""
    padding = str(rng.choice(paddings))
    size, n = int(rng.integers(1, 4)), int(rng.integers(0, 3))
    makers = [
        lambda: kseq.Conv1D(CHANNELS, size, padding=padding),
        lambda: kseq.MaxPooling1D(size, strides=1, padding=padding),
        lambda: kseq.GRU(CHANNELS),
        lambda: kseq.LSTM(CHANNELS),
        lambda: kseq.Dense(CHANNELS, activation="tanh"),
        lambda: kseq.LocalSelfAttention(1, CHANNELS, max_past_horizon=2, max_future_horizon=n),
        lambda: kseq.Delay(n, delay_layer_output=False),
        lambda: kseq.Residual([kseq.Conv1D(CHANNELS, 2, padding=padding)]),
        lambda: kseq.RMSNormalization(epsilon=0.1),
    ]
    return makers[rng.integers(len(makers))]()


def merge(rng, a, b):
    return [
        lambda: keras.layers.Add()([a, b]),
        lambda: keras.layers.Maximum()([a, b]),
        lambda: a * 0.5 + b,
        lambda: keras.layers.Dense(CHANNELS)(keras.layers.Concatenate()([a, b])),
    ][rng.integers(4)]()


def grow(rng, values, steps):
    """Add calls to a list of tensors; some layers are called twice, some calls are of models."""
    shared = []
    for _ in range(steps):
        x = values[rng.integers(len(values))]
        choice = rng.integers(8)
        if choice < 3:
            layer = make_layer(rng)
            shared.append(layer)
            values.append(layer(x))
        elif choice == 3 and shared:
            values.append(shared[rng.integers(len(shared))](x))
        elif choice == 4:
            given = keras.Input((None, CHANNELS))
            inner = keras.Model(given, merge(rng, make_layer(rng)(given), given))
            values.append(make_layer(rng)(inner(x)))
        elif choice == 5:
            values.append(keras.layers.LayerNormalization(epsilon=0.1)(x))
        else:
            values.append(merge(rng, x, values[rng.integers(len(values))]))
    return values


def tensors_model(rng):
    """Of one or two inputs, and of two outputs, of which one has half the rate."""
    inputs = [keras.Input((None, CHANNELS), name=f"in_{i}") for i in range(int(rng.integers(1, 3)))]
    values = grow(rng, list(inputs), int(rng.integers(3, 8)))
    last = values[-1]
    for x in inputs:  # all are used
        last = merge(rng, last, x)
    half = kseq.Conv1D(CHANNELS, 3, strides=2, padding=str(rng.choice(["causal", "semicausal"])))(values[-1])
    return keras.Model(inputs, [last, half])


def sequences_model(rng):
    """Of one input with a mask, whose masks go from layer to layer and are joined by hand."""
    x = kseq.Sequence(keras.Input((None, CHANNELS)), keras.Input((None,), dtype="bool"))
    values = [x]
    for _ in range(int(rng.integers(2, 6))):
        a, b = (values[rng.integers(len(values))] for _ in range(2))
        if rng.random() < 0.7:
            values.append(make_layer(rng, ANY)(a))
        else:
            values.append(kseq.Sequence(a.values + b.values, ops.logical_and(a.mask, b.mask)))
    last = make_layer(rng, ANY)(values[-1])
    return keras.Model([*x], [*last])


def push_all(rng, stream, inputs, wrap):
    """What comes out of random chunks, a list for every output."""
    steps, start, parts = inputs[0].shape[1], 0, []
    while start < steps:
        stop = min(start + int(rng.integers(1, 5)), steps)
        chunk = [x[:, start:stop] for x in inputs]
        parts.append(stream.push(wrap(chunk)))
        start = stop
    return [*parts, stream.flush()]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_of_tensors_streams(seed):
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = tensors_model(rng)
    inputs = [rng.normal(size=(2, 11, CHANNELS)).astype("float32") for _ in model.inputs]
    expected = model(inputs)
    parts = push_all(rng, kseq.Stream(model, 2), inputs, lambda chunk: chunk if len(chunk) > 1 else chunk[0])
    for i, wanted in enumerate(expected):
        found = np.concatenate([part[i] for part in parts], axis=1)
        np.testing.assert_allclose(found, ops.convert_to_numpy(wanted), atol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_of_sequences_streams(seed):
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = sequences_model(rng)
    values = rng.normal(size=(3, 11, CHANNELS)).astype("float32")
    mask = rng.random((3, 11)) < np.array([[1.0], [0.7], [0.5]])
    mask[2, :3] = False
    wanted = kseq.Sequence(*map(ops.convert_to_numpy, model([values, mask])))
    parts = push_all(rng, kseq.Stream(model, 3), [values, mask], lambda chunk: kseq.Sequence(*chunk))
    found = kseq.Sequence.concatenate(parts)
    np.testing.assert_array_equal(found.mask, wanted.mask)
    np.testing.assert_allclose(found.mask_invalid().values, wanted.mask_invalid().values, atol=1e-4)
