"""What is refused, whatever and whenever it is, leaves a stream as it was: its bytes say so, and what it gives then."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sampling import examples

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.15, "tensorflow": 0.15}

BATCH, CHANNELS, LONGEST = 2, 3, 12


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def text(seed, steps=4):
    return kseq.Sequence(numbers(seed, BATCH, steps, 5), numbers(seed + 1, BATCH, steps) > 0)


def chunk(seed, steps, masked=False):
    x = numbers(seed, BATCH, steps, CHANNELS)
    return kseq.Sequence(x, numbers(seed + 1, BATCH, steps) > 0) if masked else x


def rows(seed):
    return numbers(seed, BATCH) > 0


# What a stream is asked, some of it in vain: where it has no room, or does not remember so much.
CALLS = {
    "push": lambda s, n: s.push(chunk(n, n % 4)),
    "push masked": lambda s, n: s.push(chunk(n, n % 3, masked=True)),
    "push long": lambda s, n: s.push(chunk(n, LONGEST - n % 5)),
    "push rows": lambda s, n: s.push(chunk(n, 1 + n % 2), active=rows(n)),
    "push context": lambda s, n: s.push(chunk(n, n % 3), context={"text": text(n, 1 + n % 5)}),
    "peek": lambda s, n: s.peek(chunk(n, n % 3), active=rows(n) if n % 2 else None),
    "rollback": lambda s, n: s.rollback(n % 6),
    "rollback rows": lambda s, n: s.rollback([n % 4, 1], active=rows(n)),
    "copy": lambda s, n: s.copy_rows([n % 2], [1 - n % 2]),
    "reset rows": lambda s, n: s.reset(active=rows(n)),
    "flush rows": lambda s, n: s.flush(active=rows(n)),
    "flush": lambda s, n: s.flush(),
    "reset": lambda s, n: s.reset(),
    "frames": lambda s, n: s.frames(1 + n).delay,
}
# What is refused at any time.
WRONG = {
    "channels": lambda s: s.push(np.zeros((BATCH, 1, CHANNELS + 1))),
    "rows": lambda s: s.push(np.zeros((BATCH + 1, 1, CHANNELS))),
    "rank": lambda s: s.push(np.zeros((1, CHANNELS))),
    "complex": lambda s: s.push(np.zeros((BATCH, 1, CHANNELS), complex)),
    "text": lambda s: s.push(np.full((BATCH, 1, CHANNELS), "a")),
    "nothing": lambda s: s.push(None),
    "ragged": lambda s: s.push([[[0.0] * CHANNELS]] * BATCH + [[0.0]]),
    "two": lambda s: s.push([chunk(0, 1), chunk(0, 1)]),
    "names": lambda s: s.push({"a": chunk(0, 1), "b": chunk(0, 1)}),
    "mask": lambda s: s.push(kseq.Sequence(chunk(0, 2), np.ones((BATCH, 1), bool))),
    "mask of numbers": lambda s: s.push(kseq.Sequence(chunk(0, 2), np.ones((BATCH, 2)))),
    "active": lambda s: s.push(chunk(0, 2), active=[True]),
    "active of numbers": lambda s: s.push(chunk(0, 2), active=[1, 0]),
    "no context": lambda s: s.push(chunk(0, 2), context={"speaker": text(0)}),
    "context": lambda s: s.push(chunk(0, 2), context={"text": text(0).values[..., :1]}),
    "long context": lambda s: s.push(chunk(0, 2), context={"text": text(0, 9)}),
    "peek": lambda s: s.peek(chunk(0, 2)[..., :1], context={"text": text(0)}),
    "too long": lambda s: s.push(chunk(0, 99)),
    "back": lambda s: s.rollback(-1),
    "half back": lambda s: s.rollback(0.5),
    "too far back": lambda s: s.rollback(999),
    "row": lambda s: s.copy_rows([BATCH], [0]),
    "row twice": lambda s: s.copy_rows([0, 1], [1, 1]),
    "flush": lambda s: s.flush(active=np.ones(1, bool)),
    "reset": lambda s: s.reset(active="rows"),
    "blocks": lambda s: s.frames(0),
    "run": lambda s: s.run(1),
    "rate": lambda s: s.latency_seconds(0),
}


@pytest.fixture(scope="module")
def layer():
    """It reads context, remembers, goes back, and is full some time."""
    found = kseq.Serial(
        [
            kseq.CrossAttention(1, 2, source="text"),
            kseq.SelfAttention(1, 2, max_length=3 * LONGEST, max_future_horizon=1, max_rollback=4),
        ]
    )
    found.build((None, None, CHANNELS), context_shape={"text": (None, None, 5)})
    return found


def same(a, b):
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return np.array_equal(a, b)


asked = st.tuples(
    st.sampled_from(sorted(CALLS)), st.integers(0, 60), st.lists(st.sampled_from(sorted(WRONG)), max_size=2)
)


@settings(
    max_examples=examples(30),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(asked, min_size=3, max_size=12))
def test_what_is_refused_leaves_no_trace(layer, calls):
    harmed, other = (kseq.Stream(layer, BATCH, context={"text": text(0, 5)}) for _ in range(2))
    for name, number, wrong in calls:
        before = harmed.save()
        for bad in wrong:
            with pytest.raises((ValueError, TypeError)):
                WRONG[bad](harmed)
        assert harmed.save() == before
        try:
            y = CALLS[name](harmed, number)
        except ValueError:  # no room, or not so far back
            assert harmed.save() == before
            continue
        assert same(y, CALLS[name](other, number))
        assert harmed.save() == other.save()


@pytest.mark.parametrize("bad", sorted(WRONG))
def test_each_wrong_input_before_anything_else(layer, bad):
    stream = kseq.Stream(layer, BATCH, context={"text": text(0, 5)})
    before = stream.save()
    with pytest.raises((ValueError, TypeError)):
        WRONG[bad](stream)
    assert stream.save() == before


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="bytes are the same whatever has made them")
def test_every_byte_of_a_saved_stream_counts():
    layer = kseq.Dense(1)
    layer.build((None, None, 1))
    stream = kseq.Stream(layer)
    stream.push(np.ones((1, 1), "float32"))
    saved = stream.save()
    for place in range(len(saved)):
        damaged = bytearray(saved)
        damaged[place] ^= 0x55
        with pytest.raises(ValueError, match=r"not a stream that kseq has written|damaged or cut off"):
            kseq.Stream.load(layer, bytes(damaged))
