"""Linear recurrences of vectors, h[t] = a[t] * h[t - 1] + b[t], over all steps at once.

Numbers are real, or pairs (real part, imaginary part): every backend and every file format of models has those. Within,
all are tuples of parts with time first, and a step takes a carry to the next carry and an output.

Where a backend launches every operation of a loop by itself, steps are cut into chunks: what the steps of a chunk do to
a state is one step (a product and a sum, found by halving), the same scan over these, far fewer, gives the state in
which each chunk begins, and then all chunks go through their steps together. No quotients and no logarithms are taken,
so factors may be of any size, zero too.
"""

from typing import Any

import keras
from keras import ops

from ...gradients import with_gradient
from ...hints import is_exporting, loops_are_cheap
from ..complex_values import real_dtype
from ..loops import scan

#: Steps of a chunk, a power of two.
CHUNK = 32


def linear_scan(a: Any, b: Any, initial: Any, mask: Any = None) -> tuple[Any, Any]:
    """The states after every step, and after the last one.

    The sum is accumulated in float32 at least, in which the states are. Gradients are those of a scan in reverse.

    Args:
        a: factors, an array that broadcasts to the shape of `b`, or a pair of them for complex numbers.
        b: summands [B, T, ...], one array or two, as `a`.
        initial: the state before the first step [B, ...], likewise.
        mask: bool [B, T], false where a step leaves the state as it is; `None` where none does.
    """
    several = isinstance(b, tuple)
    a, b, initial = (_wide(x) if several else _wide((x,)) for x in (a, b, initial))
    a = tuple(ops.broadcast_to(part, ops.shape(b[0])) for part in a)
    if mask is not None:
        valid = ops.reshape(mask, (*ops.shape(mask), *[1] * (len(b[0].shape) - 2)))
        one = (1.0, 0.0)
        a = tuple(ops.where(valid, part, ops.full_like(part, fill)) for part, fill in zip(a, one, strict=False))
        b = tuple(ops.where(valid, part, ops.zeros_like(part)) for part in b)
    steps = b[0].shape[1]
    if steps == 0:
        states, last = b, initial
    elif steps == 1:
        last = _plus(_times(a, tuple(part[:, None] for part in initial)), b)
        states, last = last, tuple(part[:, 0] for part in last)
    else:
        states = _connected(_time_first(a), _time_first(b), initial)
        states, last = _time_first(states), _last(states, initial)
    return (states, last) if several else (states[0], last[0])


def _wide(parts):
    """Parts in the dtype of the sum."""
    return tuple(ops.cast(part, real_dtype(keras.backend.standardize_dtype(part.dtype))) for part in parts)


def _time_first(parts):
    return tuple(ops.swapaxes(part, 0, 1) for part in parts)


def _last(states, initial):
    """The last of the states [T, B, ...], or the initial one if there is none."""
    if states[0].shape[0] is not None:
        return tuple(part[-1] for part in states)
    ends = zip(states, initial, strict=True)
    return tuple(ops.concatenate([first[None], part[-1:]])[-1] for part, first in ends)


def _times(x, y):
    if len(x) == 1:
        return (x[0] * y[0],)
    return x[0] * y[0] - x[1] * y[1], x[0] * y[1] + x[1] * y[0]


def _plus(x, y):
    return tuple(p + q for p, q in zip(x, y, strict=True))


# The scan as one operation with a gradient.


def _connected(a, b, initial):
    """The states, as a function of all parts that a backend differentiates by the scan in reverse."""
    count = len(b)
    parts = (*a, *b, *initial)
    hidden = tuple(map(ops.stop_gradient, parts))
    states = _scan(_forward, *_thirds(hidden))[1]
    states = with_gradient(ops.stack(states), _pull, *parts)  # one array: more would not pass through torch
    return tuple(states[i] for i in range(count))


def _thirds(parts):
    count = len(parts) // 3
    return parts[:count], parts[count : 2 * count], parts[2 * count :]


def _pull(states, *parts):
    a, b, initial = _thirds(parts)
    states = tuple(states[i] for i in range(len(b)))
    before = tuple(ops.concatenate([i[None], s[:-1]]) for i, s in zip(initial, states, strict=True))
    a, before = _conjugate(a), _conjugate(before)

    def pull(upstream):
        upstream = tuple(upstream[i] for i in range(len(b)))
        end = tuple(map(ops.zeros_like, initial))
        of_initial, of_b = _scan(_backward, a, upstream, end, reverse=True)
        return *_times(before, of_b), *of_b, *of_initial

    return pull


def _conjugate(x):
    return x if len(x) == 1 else (x[0], -x[1])


# Steps: of a carry, a factor and a summand the next carry, and what the step gives.


def _forward(state, a, b):
    state = _plus(_times(a, state), b)
    return state, state


def _backward(later, a, upstream):
    gradient = _plus(upstream, later)
    return _times(a, gradient), gradient


def _before(state, a, b):
    return _plus(_times(a, state), b), state


# The scan itself.


def _scan(step, a, b, carry, reverse=False):
    """The last carry, and what each step gives [T, B, ...]."""
    length = b[0].shape[0]
    if loops_are_cheap() or (length is None and is_exporting()):  # LiteRT's loops gather arrays of known shapes alone
        return _loop(step, a, b, carry, reverse)
    if length is not None and length <= 2 * CHUNK:
        return _loop(step, a, b, carry, reverse)
    chunked_a, chunked_b = (tuple(_chunked(part, fill) for part in x) for x, fill in ((a, 1.0), (b, 0.0)))
    if len(a) == 2:
        chunked_a = chunked_a[0], _chunked(a[1], 0.0)
    summands = _times(chunked_a, chunked_b) if step is _backward else chunked_b
    whole = _composed(chunked_a, summands, reverse)
    among_chunks = _loop if length is None else _scan
    last, starts = among_chunks(_before, *whole, carry, reverse)
    _, outputs = _loop(step, chunked_a, chunked_b, starts, reverse)
    return last, tuple(_joined(part, ops.shape(b[0])) for part in outputs)


def _loop(step, a, b, carry, reverse):
    return scan(lambda carry, given: step(carry, *given), carry, (a, b), reverse=reverse)


def _chunked(x, fill):
    """[T, ...] as [CHUNK, number of chunks, ...], filled up at the end."""
    length, *rest = ops.shape(x)
    chunks = -(-length // CHUNK)
    if not isinstance(length, int) or length % CHUNK:
        more = ops.full((chunks * CHUNK - length, *rest), fill, dtype=x.dtype)
        x = ops.concatenate([x, more])
    return ops.swapaxes(ops.reshape(x, (chunks, CHUNK, *rest)), 0, 1)


def _joined(x, shape):
    """What was chunked, [T, ...] again."""
    return ops.reshape(ops.swapaxes(x, 0, 1), (-1, *shape[1:]))[: shape[0]]


def _composed(a, b, reverse):
    """What all steps of a chunk do to a state, as a factor and a summand."""
    size = CHUNK
    while size > 1:
        size //= 2
        (a_even, b_even), (a_odd, b_odd) = ([tuple(part[i::2] for part in x) for x in (a, b)] for i in (0, 1))
        second, b_second, b_first = (a_even, b_even, b_odd) if reverse else (a_odd, b_odd, b_even)
        a, b = _times(a_even, a_odd), _plus(_times(second, b_first), b_second)
    return tuple(part[0] for part in a), tuple(part[0] for part in b)
