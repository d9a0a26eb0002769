"""Chunks that fit into a block go a quick way, which gives what the long way gives, whatever comes between."""

import contextlib

import keras
import numpy as np
import pytest

import kseq

CHANNELS, ROOM = 3, 20


def strided():
    """Blocks of four, and a latency."""
    x = keras.Input((None, CHANNELS))
    y = keras.layers.Conv1D(2, 3, strides=2)(kseq.Conv1D(2, 3, padding="reverse_causal")(x))
    return keras.Model(x, kseq.GRU(2)(keras.layers.MaxPooling1D(2)(y)))


def masked():
    """Blocks of two of a model that reads which steps are there."""
    x = keras.Input((None, CHANNELS))
    y = keras.layers.AveragePooling1D(2)(keras.layers.Masking(0.0)(x))
    return keras.Model(x, keras.layers.LSTM(2, return_sequences=True)(y))


def limited():
    """Blocks of two, of which attention takes but `ROOM`."""
    x = keras.Input((None, CHANNELS))
    y = keras.layers.MaxPooling1D(2)(x)
    return keras.Model(x, keras.layers.MultiHeadAttention(1, 2)(y, y, use_causal_mask=True))


MODELS = [strided, masked, limited]


class LongWay(kseq.Stream):
    """A stream that takes every chunk the long way."""

    def _is_plain(self, chunk):
        return False


class Broken(Exception):
    pass


@contextlib.contextmanager
def broken_off(stream):
    """What a stream is asked in here leaves no trace."""
    with contextlib.suppress(Broken), stream.all_or_nothing():
        yield
        raise Broken


def push_for_nothing(stream, chunks):
    with broken_off(stream):
        for chunk in chunks:
            stream.push(chunk)


def refused(stream, chunk):
    with pytest.raises((ValueError, TypeError)):
        stream.push(chunk)


def outcome(call, stream):
    """What a call gives, or the error of a stream that is full, which begins anew."""
    try:
        return call(stream), ""
    except ValueError as error:
        stream.reset()
        return None, str(error)


def random_call(rng, batch, block):
    """What a stream is asked: a function of a stream that gives what it gives."""
    steps = int(rng.choice([0, 1, 1, 1, 2, 3, block, block + 1, 2 * block]))
    x = rng.normal(size=(batch, steps, CHANNELS)).astype("float32")
    x = x[0] if batch == 1 and rng.random() < 0.3 else x
    bad = [np.zeros((batch, 1, CHANNELS + 1)), np.zeros((batch, 1, CHANNELS), "complex64")][rng.integers(2)]
    calls = [
        (0.6, lambda stream: stream.push(x)),
        (0.1, lambda stream: stream.peek(x)),
        (0.05, lambda stream: stream.push(x.astype("float64"))),
        (0.05, lambda stream: stream.copy_rows([0], [batch - 1])),
        (0.1, lambda stream: push_for_nothing(stream, [-x, 2 * x])),
        (0.05, lambda stream: refused(stream, bad)),
        (0.05, lambda stream: stream.flush()),
    ]
    shares, functions = zip(*calls, strict=True)
    return functions[rng.choice(len(calls), p=shares)]


@pytest.mark.filterwarnings("ignore:.*destroy the mask")
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_the_quick_way_is_the_long_way(make, batch):
    model, rng, errors = make(), np.random.default_rng(batch), 0
    quick, slow = (of(model, batch, max_length=ROOM) for of in (kseq.Stream, LongWay))
    for number in range(200):
        call = random_call(rng, batch, quick.timing.block_size)
        (y, error), (expected, expected_error) = outcome(call, quick), outcome(call, slow)
        np.testing.assert_array_equal(y, expected)
        assert error == expected_error
        errors += bool(error)
        assert (quick.pushed, quick.is_batched) == (slow.pushed, slow.is_batched)
        if number % 20 == 19:  # and between what is saved and loaded
            assert quick.save() == slow.save()
            quick, slow = kseq.Stream.load(model, slow.save()), LongWay.load(model, quick.save())
    assert bool(errors) == (make is limited)


def test_most_chunks_go_the_quick_way(monkeypatch):
    stream, x = kseq.Stream(strided()), np.ones((1, 1, CHANNELS), "float32")
    for chunk in (x, x[0]):
        for _ in range(16):  # past the warm-up
            stream.push(chunk)
        with monkeypatch.context() as patched:
            patched.setattr(stream, "_push", None)
            assert [stream.push(chunk).shape[-2] for _ in range(8)] == [0, 0, 0, 1] * 2


def test_what_a_quick_push_takes_and_gives_is_the_callers():
    stream, other = (kseq.Stream(kind) for kind in [strided()] * 2)
    for n in range(24):
        x = np.full((1, 1, CHANNELS), n, "float32")
        y, expected = stream.push(x), other.push(x.copy())
        np.testing.assert_array_equal(y, expected)
        x[...], y[...] = np.nan, np.nan


def test_what_is_held_can_be_taken_back():
    layer = kseq.Conv1D(2, 4, strides=4)
    layer.build((None, None, CHANNELS))
    stream, other = kseq.Stream(layer), kseq.Stream(layer)
    x = np.random.default_rng(0).normal(size=(1, 12, CHANNELS)).astype("float32")
    for one in (stream, other):
        one.push(x[:, :1])
        for t in (1, 2):
            one.push(x[:, t : t + 1])
    with broken_off(stream):
        stream.rollback(2)
        stream.push(x[:, 9:10])  # where what is held by the stream before lies
    np.testing.assert_array_equal(stream.push(x[:, 3:4]), other.push(x[:, 3:4]))
    stream.push(x[:, 4:6])
    stream.rollback(1)
    other.push(x[:, 4:5])
    np.testing.assert_array_equal(stream.push(x[:, 6:9]), other.push(x[:, 6:9]))


def test_chunks_of_another_dtype_after_what_was_broken_off():
    layer = kseq.MaxPooling1D(2)
    layer.build((None, None, CHANNELS))
    stream, ints = kseq.Stream(layer), np.full((1, 2, CHANNELS), 3, "int32")
    assert stream.push(ints / 2).dtype == "float32"
    with broken_off(stream):
        stream.reset()
        assert stream.push(ints).dtype == "int32"
    y = stream.push(ints)
    assert y.dtype == "float32"
    np.testing.assert_array_equal(y, ints[:, :1])
