"""A flush gives all that layer mode gives, however short the stream and however far its rows have come."""

import keras
import numpy as np
import pytest
from keras import ops
from sampling import todays

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.6, "tensorflow": 0.6}

CHAINS = {
    "lookahead, delay": lambda: [kseq.Lookahead(3), kseq.Delay(2)],
    "delay, lookahead": lambda: [kseq.Delay(2), kseq.Lookahead(3)],
    "twice": lambda: [kseq.Lookahead(2), kseq.Delay(4), kseq.Lookahead(3), kseq.Delay(1)],
    "blocks": lambda: [
        kseq.Lookahead(3),
        kseq.Delay(2),
        kseq.MaxPooling1D(2, padding="reverse_causal"),
        kseq.Lookahead(1),
        kseq.Delay(3),
    ],
    "latency hidden": lambda: [kseq.Delay(3, delay_layer_output=False), kseq.Lookahead(5), kseq.Delay(1)],
}


def whole(layer, x):
    y = layer(kseq.Sequence(x)).with_mask()
    return ops.convert_to_numpy(y.values), ops.convert_to_numpy(y.mask)


def draw(rows, time):
    return np.random.default_rng(time).normal(size=(rows, time, 1)).astype("float32")


def same(found, wanted):
    values, mask = wanted
    np.testing.assert_array_equal(found[1], mask)
    np.testing.assert_allclose(found[0][mask], values[mask])


@pytest.mark.parametrize(
    ("chain", "time"),
    todays(
        [pytest.param(chain, time, id=f"{chain}, {time} steps") for chain in CHAINS for time in (1, 2, 3, 7)],
        of="flushes",
        jax=0.4,
        tensorflow=0.4,
    ),
)
def test_flush_gives_what_is_left(chain, time):
    layer = kseq.Serial(CHAINS[chain]())
    layer.build((None, None, 1))
    x = draw(1, time)
    assert layer.timing.output_length(time) == layer.output_length(time) == whole(layer, x)[0].shape[1]
    stream = kseq.Stream(layer)
    found = [stream.push(kseq.Sequence(x[:, :1])), stream.push(kseq.Sequence(x[:, 1:])), stream.flush()]
    found = kseq.Sequence.concatenate([y.with_mask() for y in found])
    same(found, whole(layer, x))


@pytest.mark.parametrize("chain", ["twice", "blocks"])
def test_flush_of_rows_that_came_differently_far(chain):
    layer = kseq.Serial(CHAINS[chain]())
    layer.build((None, None, 1))
    x, lengths = draw(4, 6), np.array([0, 1, 3, 6])
    stream, found = kseq.Stream(layer, batch_size=4), []
    for t in range(6):
        found.append(stream.push(kseq.Sequence(x[:, t : t + 1]), active=lengths > t))
    ending = np.array([True, False, True, True])
    found.append(stream.flush(ending))
    found.append(stream.flush())
    for row, length in enumerate(lengths):
        y = [np.concatenate([call[row][part] for call in found])[None] for part in (0, 1)]
        if length == 0:
            assert y[0].shape[1] == 0
        else:
            same(y, whole(layer, x[row : row + 1, :length]))


def test_some_rows_end_where_all_came_equally_far():
    layer = kseq.Serial(CHAINS["lookahead, delay"]())
    layer.build((None, None, 1))
    stream = kseq.Stream(layer, batch_size=2)
    stream.push(draw(2, 1))
    first = stream.flush(np.array([False, True]))
    assert [len(row) for row in first] == [0, 2]
    assert [len(row) for row in stream.flush()] == [2, 0]


def test_a_stream_that_got_nothing_gives_nothing():
    layer = kseq.Delay(3)
    layer.build((None, None, 1))
    stream = kseq.Stream(layer)
    assert stream.flush().shape == (1, 0, 1)
    assert stream.push(np.zeros((1, 0, 1), "float32")).shape == (1, 0, 1)
    assert stream.flush().shape == (1, 0, 1)


def test_outputs_of_unequal_length_all_come_out():
    x = keras.Input((None, 1))
    model = keras.Model(x, [kseq.Delay(4)(x), kseq.Lookahead(2)(x), kseq.MaxPooling1D(3, padding="causal")(x)])
    stream, steps = kseq.Stream(model), draw(1, 2)
    pushed, left = stream.push(steps), stream.flush()
    assert [a.shape[1] + b.shape[1] for a, b in zip(pushed, left, strict=True)] == [6, 0, 1]
