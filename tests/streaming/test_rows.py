"""Streams whose rows go at their own pace: pushed, flushed and begun anew one by one."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.5, "tensorflow": 0.5}

BATCH = 3


@pytest.fixture(scope="module")
def streamed():
    model = keras.Sequential(
        [
            keras.Input((None, 2)),
            kseq.Conv1D(3, 3, padding="reverse_causal"),
            kseq.Conv1D(3, 4, strides=2),
            kseq.GRU(2),
        ]
    )
    return model, kseq.Stream(model, batch_size=BATCH)


def whole(model, x):
    return ops.convert_to_numpy(model(ops.convert_to_tensor(x[None])))[0]


@pytest.mark.parametrize("seed", range(3))
def test_rows_at_their_own_pace_give_what_each_gives_alone(streamed, seed):
    model, stream = streamed
    stream.reset()
    rng = np.random.default_rng(seed)
    given, outputs = [[] for _ in range(BATCH)], [[] for _ in range(BATCH)]
    for _ in range(12):
        active = rng.random(BATCH) < 0.6
        chunk = rng.normal(size=(BATCH, int(rng.integers(0, 4)), 2)).astype("float32")
        ended = rng.random(BATCH) < 0.15
        found = stream.push(chunk, active=active)
        for row in range(BATCH):
            if active[row]:
                given[row].append(chunk[row])
            outputs[row].append(found[row])
            assert active[row] or not len(found[row])
        if ended.any():
            rest = stream.flush(active=ended)
            for row in np.flatnonzero(ended):
                check(model, given, outputs, row, rest[row])
    rest = stream.flush(active=np.ones(BATCH, bool))
    for row in range(BATCH):
        check(model, given, outputs, row, rest[row])


def check(model, given, outputs, row, rest):
    x = np.concatenate([np.zeros((0, 2), "float32"), *given[row]])
    y = np.concatenate([*outputs[row], rest])
    if len(x):
        np.testing.assert_allclose(y, whole(model, x), atol=1e-5)
    else:
        assert len(y) == 0
    given[row].clear()
    outputs[row].clear()


def test_a_row_that_begins_anew_leaves_the_others(streamed):
    model, stream = streamed
    stream.reset()
    x = np.random.default_rng(5).normal(size=(BATCH, 9, 2)).astype("float32")
    first = stream.push(x[:, :5])
    stream.reset(active=np.array([False, True, False]))
    second = stream.push(x[:, 5:])
    rest = stream.flush()
    for row in (0, 2):
        y = np.concatenate([first[row], second[row], rest[row]])
        np.testing.assert_allclose(y, whole(model, x[row]), atol=1e-5)
    y = np.concatenate([second[1], rest[1]])
    np.testing.assert_allclose(y, whole(model, x[1, 5:]), atol=1e-5)
    assert isinstance(stream.push(x), np.ndarray)  # together again


def test_masks_of_rows_come_out_beside_their_values():
    layer = kseq.Conv1D(2, 2, padding="reverse_causal_valid")
    layer.build((None, None, 2))
    stream = kseq.Stream(layer, batch_size=2)
    x = np.ones((2, 3, 2), "float32")
    found = stream.push(kseq.Sequence.from_lengths(x, [3, 2]), active=np.array([True, True]))
    rest = stream.flush(active=np.array([True, True]))
    masks = [np.concatenate([a[1], b[1]]).tolist() for a, b in zip(found, rest, strict=True)]
    assert masks == [[True, True, False], [True, False, False]]


@pytest.mark.parametrize("active", [[True, False], np.ones(BATCH), np.ones((BATCH, 1), bool)], ids=str)
def test_rows_that_are_no_mask_of_the_batch_are_refused(streamed, active):
    _, stream = streamed
    with pytest.raises(ValueError, match=r"`active` must be bool \[3\]; received"):
        stream.push(np.zeros((BATCH, 1, 2), "float32"), active=active)


def test_a_chunk_of_no_steps_says_no_dtype_where_rows_are_apart():
    layer, active = kseq.Delay(1, delay_layer_output=False), np.array([True, False])
    layer.build((None, None, 2))
    stream = kseq.Stream(layer, batch_size=2)
    stream.push(np.zeros((2, 0, 2), "float64"), active=active)
    found = stream.push(np.ones((2, 3, 2), "float32"), active=active)
    assert [(row.dtype, len(row)) for row in found] == [("float32", 2), ("float32", 0)]
