"""A push that raises leaves the stream as it was; arrays that go in and come out belong to the caller."""

import pathlib
import sys

import keras
import numpy as np
import pytest

import kseq

BATCH = 2
# On jax a call takes the memory of the state.
CAN_BE_BROKEN_OFF = keras.backend.backend() != "jax"
HOUSE = str(pathlib.Path(kseq.__file__).parent)


class BrokenOff(BaseException):
    """As KeyboardInterrupt: no `Exception`."""


def model_of():
    x = keras.Input((None, 3))
    y = kseq.Conv1D(4, 3, padding="reverse_causal")(x)
    y = keras.layers.Dropout(0.3, seed=1)(y, training=True)
    y = kseq.Conv1D(3, 2, strides=2)(kseq.LocalSelfAttention(1, 4, max_past_horizon=3, max_future_horizon=1)(y))
    return keras.Model(x, [kseq.GRU(2)(y), kseq.Dense(1)(y)])


def broken_off(call, line):
    """What `call()` gives, and whether it was left to end: it is broken off at its `line`-th line in the package."""
    lines = 0

    def each(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        if lines == line:
            sys.settrace(None)
            raise BrokenOff
        return each

    def called(frame, event, argument):
        here = frame.f_code.co_filename.startswith(HOUSE)
        return each if here and frame.f_code.co_name != "_go_back" else None

    before = sys.gettrace()
    sys.settrace(called)
    try:
        return call(), True
    except BrokenOff:
        return None, False
    finally:
        sys.settrace(before)


def equal(a, b):
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return a is b if a is None else a.dtype == b.dtype and np.array_equal(a, b)


BAD = [
    lambda stream: stream.push(np.zeros((BATCH, 2, 4))),
    lambda stream: stream.push(kseq.Sequence(np.zeros((BATCH, 2, 3)), np.ones((BATCH, 3), bool))),
    lambda stream: stream.push(np.zeros((BATCH, 2, 3), "complex64")),
    lambda stream: stream.push(np.zeros((BATCH, 2, 3)), active=np.ones(BATCH)),
    lambda stream: stream.flush(active=[True]),
    lambda stream: stream.reset(active=[True]),
]


KINDS = [*["push"] * 5, "masked", "rows", "flush", "reset", "flush rows", "reset rows"]


def calls(rng):
    """What streams are asked, forever: functions of a stream."""
    while True:
        kind = rng.choice(
            ["push", "masked", "rows", "flush", "reset", "flush rows", "reset rows"],
            p=(0.5, *[0.1] * 3, *[0.2 / 3] * 3),
        )
        x = rng.normal(size=(BATCH, int(rng.choice([0, 1, 2, 3, 9])), 3)).astype("float32")
        mask, active = rng.random(x.shape[:2]) < 0.7, rng.random(BATCH) < 0.6
        yield {
            "push": lambda stream, x=x: stream.push(x),
            "masked": lambda stream, x=x, mask=mask: stream.push(kseq.Sequence(x, mask)),
            "rows": lambda stream, x=x, active=active: stream.push(x, active=active),
            "flush": lambda stream: stream.flush(),
            "reset": lambda stream: stream.reset(),
            "flush rows": lambda stream, active=active: stream.flush(active=active),
            "reset rows": lambda stream, active=active: stream.reset(active=active),
        }[kind]


def test_what_raises_leaves_no_trace():
    model, rng = model_of(), np.random.default_rng(0)
    harmed, other = kseq.Stream(model, BATCH), kseq.Stream(model, BATCH)
    times_broken = 0
    for _, call in zip(range(60), calls(rng), strict=False):
        for bad in rng.choice(BAD, 2):
            with pytest.raises((ValueError, TypeError)):
                bad(harmed)
        for line in rng.integers(1, 120, size=2) if CAN_BE_BROKEN_OFF else ():
            y, ended = broken_off(lambda call=call: call(harmed), int(line))
            if ended:
                break
            times_broken += 1
        else:
            y = call(harmed)
        assert equal(y, call(other))
    assert times_broken > 40 or not CAN_BE_BROKEN_OFF


class Fragile(kseq.SequenceLayer):
    """A layer whose step fails when it is told to."""

    broken = False

    def call_step(self, x, state, *, training=False):
        if Fragile.broken:
            raise RuntimeError("told to")
        return x, state


def test_an_error_in_the_step_of_the_second_of_two_calls(monkeypatch):
    layer = kseq.Serial([kseq.GRU(2), Fragile()])
    layer.build((None, None, 3))
    stream, other = kseq.Stream(layer), kseq.Stream(layer)
    x = np.random.default_rng(0).normal(size=(9, 3)).astype("float32")
    for one in (stream, other):
        one.push(x[:4])
    monkeypatch.setattr(Fragile, "broken", True)
    with pytest.raises(RuntimeError, match="told to"):
        stream.push(x[4:])  # four steps, compiled already, and one, which is not
    monkeypatch.setattr(Fragile, "broken", False)
    np.testing.assert_array_equal(stream.push(x[4:]), other.push(x[4:]))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="a host callback of jax's")
def test_an_error_while_the_step_runs(monkeypatch):
    jax = pytest.importorskip("jax")

    class Calls(kseq.SequenceLayer):
        fails = False

        def call_step(self, x, state, *, training=False):
            def host(values):
                if Calls.fails:
                    raise RuntimeError("the host fails")
                return values

            shape = jax.ShapeDtypeStruct(x.values.shape, x.values.dtype)
            return kseq.Sequence(jax.pure_callback(host, shape, x.values), x.mask), state

    layer = kseq.Serial([kseq.GRU(2), Calls()])
    layer.build((None, None, 3))
    stream, x = kseq.Stream(layer), np.ones((1, 1, 3), "float32")
    expected = stream.push(x)
    monkeypatch.setattr(Calls, "fails", True)
    with pytest.raises(Exception, match="the host fails"):
        stream.push(x)
    monkeypatch.setattr(Calls, "fails", False)
    for use in (lambda: stream.push(x), lambda: stream.reset(np.array([True]))):
        with pytest.raises(RuntimeError, match=r"was broken off; `reset\(\)` begins anew"):
            use()
    stream.reset()
    np.testing.assert_array_equal(stream.push(x), expected)


# Arrays.


def shapes_of(x):
    """The same numbers in memory of every kind."""
    spread = np.zeros((x.shape[0], 2 * x.shape[1], x.shape[2]), x.dtype)
    spread[:, ::2] = x
    yield np.asfortranarray(x)
    yield spread[:, ::2]
    yield x[:, ::-1].copy()[:, ::-1]
    yield x[..., ::-1].copy()[..., ::-1]
    yield x.astype(x.dtype.newbyteorder(">"))
    yield x.astype("float64")
    yield x.tolist()
    frozen = x.copy()
    frozen.flags.writeable = False
    yield frozen
    yield np.broadcast_to(x, x.shape)


def memory_delay():
    layer = kseq.Serial([kseq.Delay(1), kseq.GRU(3)])
    layer.build((None, None, 3))
    return layer


def test_arrays_of_every_layout():
    x = np.random.default_rng(0).integers(-8, 8, size=(1, 3, 3)).astype("float32")
    stream = kseq.Stream(memory_delay())
    expected = [stream.push(x[:, t : t + 1]) for t in range(3)]
    for given in shapes_of(x):
        stream.reset()
        found = [
            stream.push(given[:, t : t + 1] if isinstance(given, np.ndarray) else [given[0][t : t + 1]])
            for t in range(3)
        ]
        np.testing.assert_array_equal(found, expected)
        stream.reset()
        np.testing.assert_allclose(stream.push(given), np.concatenate(expected, 1), atol=1e-6)


@pytest.mark.parametrize(
    "chunk",
    [np.float32(1), np.array(None), np.array([["a"] * 3]), np.array([[None] * 3]), [[1.0], [1.0, 2.0]]],
    ids=str,
)
def test_what_is_no_array_of_numbers_is_refused(chunk):
    stream, x = kseq.Stream(memory_delay()), np.ones((2, 3), "float32")
    stream.push(x)
    with pytest.raises((ValueError, TypeError)):
        stream.push(chunk)
    assert stream.push(x).shape == (2, 3)


@pytest.mark.parametrize("masked", [False, True])
def test_outputs_are_the_callers_and_no_state(masked):
    layer = kseq.Parallel([kseq.GRU(3, name="memory"), kseq.Delay(1), kseq.Dense(3)], combination="concat")
    layer.build((None, None, 3))
    x = np.random.default_rng(0).normal(size=(6, 2, 1, 3)).astype("float32")
    plain, scribbled = kseq.Stream(layer, 2), kseq.Stream(layer, 2)
    mask = np.array([[True], [False]])
    for t in range(6):
        chunk = x[t].copy()
        valid = mask.copy()
        y = plain.push(kseq.Sequence(chunk, valid) if masked else chunk)
        z = scribbled.push(kseq.Sequence(chunk, valid) if masked else chunk)
        assert equal(y, z)
        for part in z if masked else [z]:
            part[...] = 0
        chunk[...], valid[...] = np.nan, True


def test_what_is_held_is_a_copy():
    layer = kseq.Conv1D(2, 4, strides=4)
    layer.build((None, None, 3))
    stream, whole = kseq.Stream(layer), kseq.Stream(layer)
    x, mask = np.ones((1, 3, 3), "float32"), np.array([[True, False, True]])
    expected = whole.push(kseq.Sequence(np.ones((1, 4, 3), "float32"), np.array([[True, False, True, True]])))
    stream.push(kseq.Sequence(x, mask))
    x[...], mask[...] = 7, True
    assert equal(stream.push(np.ones((1, 1, 3), "float32")), expected)


# What a chunk says.


def test_the_form_of_a_refused_chunk_is_not_taken():
    layer = kseq.Dense(2)
    layer.build((None, None, 3))
    stream, x = kseq.Stream(layer), np.ones((1, 3), "float32")
    assert type(stream.push(x)) is np.ndarray
    with pytest.raises(ValueError, match="mask"):
        stream.push(kseq.Sequence(x[None], np.ones((1, 9), bool)))
    assert stream.push(x).shape == (1, 2)
    assert stream.push(x[None]).shape == (1, 1, 2)  # and the last form is that of the flush
    assert stream.flush().shape == (1, 0, 2)


def test_a_refused_first_chunk_says_no_dtype_and_reset_forgets_it():
    layer = kseq.Embedding(5, 2)
    layer.build((None, None))
    stream, tokens = kseq.Stream(layer), np.array([1, 2])
    with pytest.raises(TypeError, match="integers"):
        stream.push(np.ones(2, "float32"))
    assert stream.spec.dtype is None
    assert stream.push([]).shape == (0, 2)  # nothing says nothing
    assert stream.push(tokens).shape == (2, 2)
    assert stream.spec.dtype == "int32"
    stream.reset()
    assert stream.spec.dtype is None
    dense = kseq.Stream(memory_delay())
    for chunk in (np.ones((1, 3), "int64"), np.ones((1, 3), "float32")):
        dense.push(chunk)
        assert dense.spec.dtype == ("int32" if chunk.dtype.kind == "i" else "float32")
        dense.reset()
    given = kseq.Stream(memory_delay(), dtype="float32")
    given.push(np.ones((1, 3), "int32"))
    given.reset()
    assert given.spec.dtype == "float32"


def test_a_sequence_needs_no_batch_axis_where_values_need_none():
    layer = kseq.GRU(2)
    layer.build((None, None, 3))
    x, mask = np.random.default_rng(0).normal(size=(4, 3)).astype("float32"), np.array([True, False, True, True])
    expected = kseq.Stream(layer).push(kseq.Sequence(x[None], mask[None]))
    stream = kseq.Stream(layer)
    y = stream.push(kseq.Sequence(x, mask))
    assert equal(y, kseq.Sequence(expected.values[0], expected.mask[0]))
    stream.reset()
    assert stream.push(kseq.Sequence(x)).values.shape == (4, 2)
    for values, wrong in ((x, mask[None]), (x[None], mask), (x, mask[:2])):
        with pytest.raises(ValueError, match="mask"):
            stream.push(kseq.Sequence(values, wrong))
    with pytest.raises(ValueError, match=r"\[batch \(=2\), time, ...\]"):
        kseq.Stream(layer, 2).push(kseq.Sequence(x, mask))


def test_a_mask_input_takes_none_for_all_valid():
    x, mask = keras.Input((None, 3), name="x"), keras.Input((None,), dtype="bool", name="mask")
    model = keras.Model([x, mask], kseq.GRU(2)(kseq.Sequence(x, mask)).values)
    stream, values = kseq.Stream(model, 2), np.ones((2, 3, 3), "float32")
    expected = stream.push([values, np.ones((2, 3), bool)]).values
    for chunk in (kseq.Sequence(values), values, [values, None], {"x": values}, {"x": values, "mask": None}):
        stream.reset()
        y = stream.push(chunk)
        # A step without masks is another program, which may round another way.
        np.testing.assert_allclose(y.values if isinstance(y, kseq.Sequence) else y, expected, rtol=1e-6)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="jax has no float64 unless it is told to")
def test_a_layer_of_float64_loses_nothing():
    layer = kseq.Delay(1, dtype="float64")
    layer.build((None, None, 1))
    stream = kseq.Stream(layer)
    y = stream.push(np.array([[1 + 1e-12], [0.0]]))
    assert stream.spec.dtype == "float64"
    assert y.dtype == "float64"
    assert y[1, 0] == 1 + 1e-12


def test_rows_may_end_before_any_was_treated_by_itself():
    layer = kseq.Conv1D(2, 3, padding="reverse_causal")
    layer.build((None, None, 3))
    stream, x = kseq.Stream(layer, 2), np.ones((2, 4, 3), "float32")
    first = stream.push(x)
    rest = stream.flush(active=np.array([True, False]))
    assert [first.shape[1] + len(row) for row in rest] == [4, 2]
