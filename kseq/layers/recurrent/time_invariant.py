"""Diagonal state spaces that are the same at every step, over all steps at once by matrix products.

Of each channel the states are h[t] = a h[t - 1] + x[t], complex and `N` of them, and the output is the real part of
their sum, weighed. Steps are cut into chunks. Within a chunk outputs are the product of its inputs with a triangular
matrix, the first terms of the impulse response; what a chunk leaves to the next is a product with powers of `a`, and a
scan over the chunks, which are few, gives the states in which they begin. The states of single steps are never made.

Invalid steps would spoil the powers: valid ones are brought together first, and outputs put back in their places.
"""

from typing import Any

from keras import ops

from ...hints import barrier
from ...padding import valid_so_far
from ..reordering import at_steps, valid_first
from .linear_scan import linear_scan
from .state_space import product

#: Steps of a chunk.
CHUNK = 64


def time_invariant(a: Any, weights: Any, x: Any, initial: Any, mask: Any = None) -> tuple[Any, Any]:
    """Outputs after every step [B, T, C], and the states after the last one.

    Args:
        a: factors, real and imaginary parts, each [C, N].
        weights: of the states in the outputs, real and imaginary parts, each [C, N].
        x: inputs [B, T, C], zero at invalid steps.
        initial: states before the first step, real and imaginary parts, each [B, C, N].
        mask: bool [B, T], false where a step leaves the states as they are; `None` where none does.
    """
    batch, steps, channels = ops.shape(x)
    known = x.shape[1]
    if known == 0:
        return x, initial
    if known == 1:
        return _one_step(a, weights, x, initial, mask)
    size = CHUNK if known is None else min(CHUNK, known)
    if mask is None:
        count, places = ops.zeros((batch,), dtype="int32") + steps, None
    else:
        count, places, order = _compaction(mask)
        x = at_steps(x, order)
    # One chunk more than is full has the rest, maybe of no steps.
    chunks = steps // size + 1
    x = ops.concatenate([x, ops.zeros((batch, chunks * size - steps, channels), dtype=x.dtype)], axis=1)
    x = ops.reshape(x, (batch, chunks, size, channels))

    powers = barrier(_powers(a, size))  # [C, 2 N, size]
    whole = product(a, _halves(powers[..., -1]))
    after, _ = linear_scan(whole, _left(powers, x), initial)  # [B, chunks, C, N]
    ends = zip(initial, after, strict=True)
    starts = tuple(ops.concatenate([first[:, None], part[:, :-1]], axis=1) for first, part in ends)
    y = ops.einsum("cji,bkjc->bkic", _triangle(powers, weights), x)
    y = y + ops.einsum("cni,bkcn->bkic", powers, _real_part(product(weights, product(a, starts))))
    y = ops.reshape(y, (batch, chunks * size, channels))
    y = y[:, :steps] if places is None else at_steps(y, places)
    return y, _state_after(count, powers, x, starts)


def _one_step(a, weights, x, initial, mask):
    states = product(a, initial)
    states = states[0] + x[:, 0, :, None], states[1]
    if mask is not None:
        states = tuple(ops.where(mask[..., None], new, old) for new, old in zip(states, initial, strict=True))
    return ops.sum(product(weights, states)[0], axis=-1)[:, None], states


def _compaction(mask):
    """The number of valid steps [B], the place of each among them, and the steps in order, valid ones first [B, T]."""
    number = valid_so_far(mask)
    return ops.max(number, axis=1, initial=0), ops.maximum(number - 1, 0), valid_first(mask)


def _powers(a, count):
    """Powers from 0 on, without logarithms: the real parts, then the imaginary ones [C, 2 N, count]."""
    low, factor = _first_powers(tuple(part[..., None] for part in a), min(count, 8))
    if count > 8:  # each is one of the first eight times a power of the eighth
        high, _ = _first_powers(factor, -(-count // 8))
        low = product(tuple(part[..., None] for part in high), tuple(part[..., None, :] for part in low))
        low = tuple(ops.reshape(part, (*part.shape[:-2], -1))[..., :count] for part in low)
    return ops.concatenate(low, axis=-2)


def _first_powers(factor, count):
    """Powers from 0 on of [..., 1], and the one after them, if `count` is a power of two."""
    powers = ops.ones_like(factor[0]), ops.zeros_like(factor[1])
    while powers[0].shape[-1] < count:
        powers = tuple(ops.concatenate(both, axis=-1) for both in zip(powers, product(powers, factor), strict=True))
        factor = product(factor, factor)
    return tuple(part[..., :count] for part in powers), factor


def _halves(x):
    """Real and imaginary parts that lie one after the other along the last axis."""
    count = x.shape[-1] // 2
    return x[..., :count], x[..., count:]


def _real_part(z):
    """By what the parts of powers are multiplied, for the real part of their product with z in sum."""
    return ops.concatenate([z[0], -z[1]], axis=-1)


def _left(powers, x):
    """What the steps of chunks [B, K, size, C] leave to the next ones, [B, K, C, N]."""
    return _halves(ops.einsum("cnj,bkjc->bkcn", ops.flip(powers, axis=-1), x))


def _triangle(powers, weights):
    """The matrix [C, size, size] from a chunk's inputs to its outputs, inputs first."""
    response = ops.einsum("cni,cn->ci", powers, _real_part(weights))
    # Rows of 2 * size, read as rows of one less, each begin a step later; a gather takes far longer.
    channels, size = response.shape
    row = ops.concatenate([response, ops.zeros_like(response)], axis=-1)
    rows = ops.reshape(ops.broadcast_to(row[:, None], (channels, size, 2 * size)), (channels, -1))
    return ops.reshape(rows[:, :-size], (channels, size, 2 * size - 1))[..., :size]


def _state_after(count, powers, x, starts):
    """The states after so many steps [B]: those in which the last chunk begins, and what its steps leave."""
    size = x.shape[2]
    chunk, rest = (count // size)[:, None], count % size
    begin = tuple(at_steps(part, chunk)[:, 0] for part in starts)
    # The rest of its inputs at the end of a chunk: zeros before them leave nothing.
    place = ops.cast(ops.arange(size), "int32") - (size - rest)[:, None]
    inputs = at_steps(at_steps(x, chunk)[:, 0], ops.maximum(place, 0))
    inputs = ops.where((place >= 0)[..., None], inputs, ops.zeros_like(inputs))
    decay = _halves(ops.transpose(ops.take(powers, rest, axis=2), (2, 0, 1)))
    old, new = product(decay, begin), _left(powers, inputs[:, None])
    return old[0] + new[0][:, 0], old[1] + new[1][:, 0]
