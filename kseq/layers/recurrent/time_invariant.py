"""Diagonal state spaces that are the same at every step, over all steps at once by matrix products.

Of each channel the states are h[t] = a h[t - 1] + x[t], complex and `N` of them, and the output is the real part of
their sum, weighed. Steps are cut into chunks. Within a chunk outputs are the product of its inputs with a triangular
matrix, the first terms of the impulse response; what a chunk leaves to the next is a product with powers of `a`, and a
scan over the chunks, which are few, gives the states in which they begin. The states of single steps are never made.

Invalid steps would spoil the powers: valid ones are brought together first, and outputs put back in their places.
"""

from typing import Any

from keras import ops

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
    if steps == 0:
        return x, initial
    if steps == 1:
        return _one_step(a, weights, x, initial, mask)
    size = min(CHUNK, steps) if isinstance(steps, int) else CHUNK
    if mask is None:
        count, places = ops.full((batch,), steps, dtype="int32"), None
    else:
        count, places, order = _compaction(mask)
        x = _at(x, order)
    # One chunk more than is full has the rest, maybe of no steps.
    chunks = steps // size + 1
    x = ops.concatenate([x, ops.zeros((batch, chunks * size - steps, channels), dtype=x.dtype)], axis=1)
    x = ops.reshape(x, (batch, chunks, size, channels))

    powers = _powers(a, size + 1)  # parts [C, N, size + 1]
    ends = _left(powers, x)
    whole = tuple(part[..., size] for part in powers)
    after, _ = linear_scan(whole, ends, initial)  # parts [B, chunks, C, N]
    starts = tuple(
        ops.concatenate([first[:, None], part[:, :-1]], axis=1) for first, part in zip(initial, after, strict=True)
    )
    y = ops.einsum("cij,bkjc->bkic", _triangle(powers, weights), x) + _of_starts(powers, weights, starts)
    y = ops.reshape(y, (batch, chunks * size, channels))
    y = y[:, :steps] if places is None else _at(y, places)
    return y, _state_after(count, powers, x, starts)


def _one_step(a, weights, x, initial, mask):
    states = product(a, initial)
    states = states[0] + x[:, 0, :, None], states[1]
    if mask is not None:
        states = tuple(ops.where(mask[..., None], new, old) for new, old in zip(states, initial, strict=True))
    return ops.sum(product(weights, states)[0], axis=-1)[:, None], states


def _at(x, steps):
    """The steps [B, T] of x [B, U, ...]."""
    shape = ops.shape(x)
    rows = ops.cast(ops.arange(shape[0])[:, None] * shape[1], "int32") + ops.cast(steps, "int32")
    return ops.take(ops.reshape(x, (-1, *shape[2:])), rows, axis=0)


def _compaction(mask):
    """The number of valid steps [B], the place of each among them, and the steps in order, valid ones first [B, T]."""
    number = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    step = ops.cumsum(ops.ones_like(number), axis=1)
    order = ops.argsort(ops.where(mask, step, step + ops.max(step, initial=0)), axis=1)
    return ops.max(number, axis=1, initial=0), ops.maximum(number - 1, 0), order


def _powers(a, count):
    """Powers from 0 on, by squaring: these need no logarithm, and are exact for large angles too."""
    factor = tuple(part[..., None] for part in a)
    powers = ops.ones_like(factor[0]), ops.zeros_like(factor[1])
    while powers[0].shape[-1] < count:
        powers = tuple(ops.concatenate(both, axis=-1) for both in zip(powers, product(powers, factor), strict=True))
        factor = product(factor, factor)
    return tuple(part[..., :count] for part in powers)


def _left(powers, x):
    """What the steps of a chunk [B, K, size, C] leave to the next."""
    size = x.shape[2]
    return tuple(ops.einsum("cnj,bkjc->bkcn", ops.flip(part[..., :size], axis=-1), x) for part in powers)


def _triangle(powers, weights):
    """The matrix [C, size, size] from a chunk's inputs to its outputs."""
    size = powers[0].shape[-1] - 1
    response = sum(
        sign * ops.einsum("cn,cni->ci", w, p[..., :size]) for sign, w, p in zip((1, -1), weights, powers, strict=True)
    )
    age = ops.arange(size)[:, None] - ops.arange(size)
    terms = ops.take(response, ops.maximum(age, 0), axis=1)
    return ops.where(age >= 0, terms, ops.zeros_like(terms))


def _of_starts(powers, weights, starts):
    """What outputs have of the states in which their chunks begin."""
    later, weights = (tuple(part[..., 1:] for part in powers), tuple(part[..., None] for part in weights))
    real, imaginary = product(weights, later)
    return ops.einsum("cni,bkcn->bkic", real, starts[0]) - ops.einsum("cni,bkcn->bkic", imaginary, starts[1])


def _state_after(count, powers, x, starts):
    """The states after so many steps [B]: those in which the last chunk begins, and what its steps leave."""
    size = x.shape[2]
    chunk, rest = (count // size)[:, None], count % size
    begin = tuple(_at(part, chunk)[:, 0] for part in starts)
    # The rest of its inputs at the end of a chunk: zeros before them leave nothing.
    place = ops.cast(ops.arange(size), "int32") - (size - rest)[:, None]
    inputs = _at(_at(x, chunk)[:, 0], ops.maximum(place, 0))
    inputs = ops.where((place >= 0)[..., None], inputs, ops.zeros_like(inputs))
    decay = tuple(ops.moveaxis(ops.take(part, rest, axis=2), 2, 0) for part in powers)
    return tuple(
        old + new[:, 0] for old, new in zip(product(decay, begin), _left(powers, inputs[:, None]), strict=True)
    )
