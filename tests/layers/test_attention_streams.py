"""Streams of attention: rolled back, copied, looked ahead, begun by a prefill, and very long."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.testing import transforms

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.5, "tensorflow": 0.5}

ROTARY = kseq.RotaryPosition(1000.0)
CACHES = {
    "window": {"max_past_horizon": 5, "max_rollback": 4},
    "ahead": {"max_past_horizon": 5, "max_future_horizon": 2, "max_rollback": 4},
    "ahead, gate": {"max_past_horizon": 3, "max_future_horizon": 1, "max_rollback": 6, "use_gate": True},
    "growing": {"max_length": 64},
    "growing, ahead": {"max_length": 64, "max_future_horizon": 2, "max_rollback": 4},
    "slide": {"max_length": 6, "overflow": "slide", "max_rollback": 4},
    "prefix": {"max_past_horizon": 5, "prefix_length": 3, "max_rollback": 4},
    "blocks": {"max_past_horizon": 1, "max_future_horizon": 1, "block_size": 2, "max_rollback": 4},
    "rotary": {"max_past_horizon": 5, "max_rollback": 4, "position": ROTARY},
    "t5": {"max_past_horizon": 5, "max_future_horizon": 1, "max_rollback": 4, "position": kseq.T5Position(6, 8)},
    "int8": {"max_past_horizon": 5, "max_rollback": 4, "cache_dtype": "int8", "position": "AlibiPosition"},
}
OTHERS = {
    "sinks": {"max_past_horizon": 3, "num_sink_steps": 2, "position": ROTARY},
    "sinks, ahead": {"max_past_horizon": 3, "num_sink_steps": 2, "max_future_horizon": 2, "cache_dtype": "bfloat16"},
}
torch_only = pytest.mark.skipif(keras.backend.backend() != "torch", reason="many shapes, each of them once")


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def attention(config):
    layer = kseq.SelfAttention(2, 4, **config)
    layer.build((None, None, 3))
    layer.set_weights([0.5 * numbers(*w.shape, seed=i) for i, w in enumerate(layer.get_weights())])
    return layer


def masked(batch, time, seed=0):
    """A sequence with leading invalid steps and holes."""
    rng = np.random.default_rng(seed)
    mask = rng.random((batch, time)) < 0.8
    mask[0, :3] = False
    return kseq.Sequence(numbers(batch, time, 3, seed=seed), mask)


def equal(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


@pytest.mark.parametrize("name", CACHES if keras.backend.backend() == "torch" else ["ahead", "growing"])
def test_a_stream_that_went_back_never_went_there(name):
    """Bit for bit, whatever was fed in between, row by row, as often as there is room."""
    layer, rng = attention(CACHES[name]), np.random.default_rng(0)
    block = layer.timing.block_size
    x, at = masked(3, 60), np.zeros(3, int)
    stream, plain = kseq.Stream(layer, 3), kseq.Stream(layer, 3)

    def chunk(steps):
        rows = [x.slice_time(n, n + steps) for n in at]
        return kseq.Sequence(*(np.stack([part[i][row] for row, part in enumerate(rows)]) for i in (0, 1)))

    for turn in range(5):
        there = masked(3, 4, seed=turn + 1)
        stream.push(kseq.Sequence(there.values * 10, there.mask))
        if turn % 2:
            stream.rollback(4)
        else:
            back = block * rng.integers(0, 4 // block + 1, size=3)
            stream.rollback(back)
            stream.rollback(4 - back)
        active = np.array([True, turn < 3, turn != 1])
        for a, b in zip(stream.push(chunk(2), active), plain.push(chunk(2), active), strict=True):
            equal(a, b)
        at += 2 * active
    for a, b in zip(stream.flush(), plain.flush(), strict=True):
        equal(a, b)


@torch_only
@pytest.mark.parametrize("name", CACHES | OTHERS)
def test_rows_are_copied(name):
    layer, x = attention((CACHES | OTHERS)[name]), masked(3, 24)
    stream, plain = kseq.Stream(layer, 3), kseq.Stream(layer, 3)
    stream.push(x.slice_time(0, 8))
    stream.copy_rows([0, 1], [1, 2])
    followed = kseq.Sequence(*(part[[0, 0, 1]] for part in x))  # what each row has become
    plain.push(followed.slice_time(0, 8))
    later = masked(3, 24, seed=5)
    equal(stream.push(later), plain.push(later))
    equal(stream.flush(), plain.flush())


@torch_only
@pytest.mark.parametrize("name", CACHES | OTHERS)
@pytest.mark.parametrize("whole", [False, True], ids=["mid-stream", "prefill"])
def test_a_long_chunk_is_many_steps(name, whole):
    """In the outputs, and in what is still to come."""
    layer, x = attention((CACHES | OTHERS)[name]), masked(2, 40)
    block = layer.timing.block_size
    start = 0 if whole else 6

    def stepped(state, start, stop):
        outputs = []
        for t in range(start, stop, block):
            y, state = layer.step(x.slice_time(t, t + block), state)
            outputs.append(y)
        return outputs, state

    with transforms.no_gradients():
        begun = stepped(layer.initial_state(2, kseq.SequenceSpec((3,))), 0, start)[1]
        singly, one_by_one = stepped(begun, start, 30)
        y, at_once = layer(x.slice_time(start, 30), return_state=True, **({} if whole else {"initial_state": begun}))
        more, same = stepped(one_by_one, 30, 40)[0], stepped(at_once, 30, 40)[0]
        peeked = layer.peek(x.slice_time(start, 30), begun)
    equal(peeked, y)
    for found, wanted in [([y], singly), (same, more)]:
        found, wanted = (kseq.Sequence.concatenate(parts) for parts in (found, wanted))
        np.testing.assert_array_equal(*(ops.convert_to_numpy(z.mask) for z in (found, wanted)))
        tolerance = 3e-2 if "cache_dtype" in (CACHES | OTHERS)[name] else 1e-5
        values = (ops.convert_to_numpy(z.mask_invalid().values) for z in (found, wanted))
        np.testing.assert_allclose(*values, atol=tolerance)


def drift(layer, steps, window):
    """The largest difference of a stream's last outputs from layer mode on what they see, and the largest output."""
    x = np.random.default_rng(1).normal(size=(1, 1000, 3)).astype("float32")
    state = layer.initial_state(1, kseq.SequenceSpec((3,)))
    if keras.backend.backend() == "jax":
        import jax

        def step(state, frame):
            y, state = layer.step(kseq.Sequence(frame[None, None]), state)
            return state, y.values[0, 0]

        loop = jax.jit(lambda state, frames: jax.lax.scan(step, state, frames))
        for _ in range(steps // 1000):
            state, y = loop(state, x[0])
    else:
        with transforms.no_gradients():
            for _ in range(steps // 1000):
                found = []
                for t in range(1000):
                    y, state = layer.step(kseq.Sequence(x[:, t : t + 1]), state)
                    found.append(ops.convert_to_numpy(y.values)[0, 0])
            y = np.stack(found)
    recent = x[:, -200 - window :]
    wanted = ops.convert_to_numpy(layer(recent))[0, window:]
    return np.abs(np.asarray(y)[-200:] - wanted).max(), np.abs(wanted).max()


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(2000, marks=pytest.mark.skipif(keras.backend.backend() != "torch", reason="steps one by one")),
        pytest.param(
            100_000,
            marks=[pytest.mark.slow, pytest.mark.skipif(keras.backend.backend() != "jax", reason="a compiled loop")],
        ),
    ],
)
def test_a_long_stream_does_not_drift(steps):
    """What is seen is a window, so nothing adds up: the last outputs are those of layer mode on the last window."""
    layer = attention({"max_past_horizon": 16, "position": ROTARY})
    worst, largest = drift(layer, steps, 16)
    print(f"after {steps} steps outputs differ from layer mode by {worst:.2g}, of {largest:.2g}")
    assert worst < 1e-5 * max(largest, 1)
