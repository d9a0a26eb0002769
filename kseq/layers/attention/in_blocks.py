"""Attention over many steps in blocks of queries, so that time and memory grow with what is seen and not with all."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from ..rematerialize import rematerialized
from .visibility import Steps

# Queries that attend together where all look at one window: keys are read once a block rather than once a query.
_BLOCK = 64
# Queries that attend together where they see all keys, at least; no more than so many blocks, each compiled by itself.
_LONG_BLOCK, _MOST_BLOCKS = 256, 16


class Queries(NamedTuple):
    """Queries [..., H, Q, D] and what is known of their steps."""

    query: Any
    steps: Steps


class Keys(NamedTuple):
    """Keys [..., H, K, D], values [..., H, K, Dv] and what is known of their steps."""

    key: Any
    value: Any
    steps: Steps


Attend = Callable[[Queries, Keys], Any]


def in_windows(
    attend: Attend, queries: Queries, keys: Keys, reach: int, block: int = 1, beside: Keys | None = None
) -> Any:
    """What T queries read, of which query `i` sees at most the keys `i` to `i + reach` of the T + reach that there are.

    Args:
        attend: attention to all keys that are visible, [..., H, Q, Dv].
        queries: [B, H, T, D].
        keys: [B, Hkv, T + reach, D].
        reach: other steps in a window.
        block: a block of queries has a multiple of so many.
        beside: keys that every query may see besides.
    """
    time = queries.query.shape[2]
    size = -(-min(_BLOCK, max(16, reach + 1)) // block) * block
    if not isinstance(time, int) or time <= 2 * size:
        return attend(queries, joined(keys, beside))
    # Block `n` of queries reads the blocks `n` to `n + more` of keys.
    blocks, more = -(-time // size), -(-reach // size)
    query = _split(_padded(queries.query, blocks * size - time, 2), 2, blocks, 0, size)
    of_query = _map(queries.steps, lambda x: _split(_padded(x, blocks * size - time, -1), -1, blocks, 0, size))
    missing = (blocks + more) * size - (time + reach)
    key, value = (_split(_padded(x, missing, 2), 2, blocks, more, size) for x in keys[:2])
    of_key = _map(keys.steps, lambda x: _split(_padded(x, missing, -1), -1, blocks, more, size))
    near = Keys(key, value, of_key)
    if beside is not None:
        near = joined(near, _for_each(beside, blocks))
    y = attend(Queries(query, of_query), near)  # [B, N, H, size, Dv]
    y = ops.transpose(y, (0, 2, 1, 3, 4))
    return ops.reshape(y, (*ops.shape(y)[:2], blocks * size, y.shape[-1]))[:, :, :time]


def in_parts(attend: Attend, queries: Queries, keys: Keys, ahead: int | None, variables: Any) -> Any:
    """What queries read that may see all keys, a part of the queries at a time.

    Args:
        attend: attention to all keys that are visible, [B, H, Q, Dv].
        queries: [B, H, T, D].
        keys: [B, Hkv, K, D].
        ahead: where it is known that key `i` is that of query `i`: how many keys after its own a query sees at most.
        variables: of the layer, which `attend` reads.
    """
    time = queries.query.shape[2]
    if not isinstance(time, int) or time <= 2 * _LONG_BLOCK:
        return attend(queries, keys)
    size = max(_LONG_BLOCK, -(-time // _MOST_BLOCKS))
    found = []
    for start in range(0, time, size):
        stop = min(start + size, time)
        end = None if ahead is None else stop + ahead
        part = Queries(queries.query[:, :, start:stop], _map(queries.steps, lambda x: x[..., start:stop]))  # noqa: B023
        seen = Keys(keys.key[:, :, :end], keys.value[:, :, :end], _map(keys.steps, lambda x: x[..., :end]))  # noqa: B023
        # Its weights are computed again for their gradients: those of all parts would fill the memory.
        found.append(rematerialized(attend, (part, seen), variables, keras.remat)[0])
    return ops.concatenate(found, axis=2)


def _map(steps, fn) -> Steps:
    return Steps(*(None if part is None else fn(part) for part in steps))


def _padded(x, count, axis):
    """An array with `count` zeros at the end of an axis."""
    widths = [(0, 0)] * len(x.shape)
    widths[axis] = (0, count)
    return ops.pad(x, widths, constant_values=False if keras.backend.standardize_dtype(x.dtype) == "bool" else 0)


def _split(x, axis, blocks, more, size):
    """An axis of `(blocks + more) * size` as blocks, each with the `more` after it; blocks come before heads."""
    axis %= len(x.shape)
    shape = ops.shape(x)
    x = ops.reshape(x, (*shape[:axis], blocks + more, size, *shape[axis + 1 :]))
    if more:
        cut = [slice(None)] * axis
        x = ops.concatenate([x[(*cut, slice(i, i + blocks))] for i in range(more + 1)], axis=axis + 1)
    return x if axis < 2 else ops.transpose(x, (0, 2, 1, *range(3, len(x.shape))))


def _for_each(keys, blocks) -> Keys:
    """Keys that are the same for each block."""
    key, value = (ops.repeat(x[:, None], blocks, axis=1) for x in keys[:2])
    return Keys(key, value, _map(keys.steps, lambda x: ops.repeat(x[..., None, :], blocks, axis=-2)))


def joined(a: Keys, b: Keys | None) -> Keys:
    """Keys and others after them, if any."""
    if b is None:
        return a
    key, value = (ops.concatenate([x, y], axis=-2) for x, y in zip(a[:2], b[:2], strict=True))
    steps = [None if x is None else ops.concatenate(_alike(x, y), axis=-1) for x, y in zip(a[2], b[2], strict=True)]
    return Keys(key, value, Steps(*steps))


def _alike(x, y):
    """Two arrays, broadcast to one shape but for the last axis."""
    if len(x.shape) == len(y.shape) and x.shape[:-1] == y.shape[:-1]:
        return x, y
    rank = max(len(x.shape), len(y.shape))
    x, y = (ops.reshape(z, (*[1] * (rank - len(z.shape)), *ops.shape(z))) for z in (x, y))
    shape = [
        b if isinstance(a, int) and a == 1 else a for a, b in zip(ops.shape(x)[:-1], ops.shape(y)[:-1], strict=True)
    ]
    return ops.broadcast_to(x, (*shape, ops.shape(x)[-1])), ops.broadcast_to(y, (*shape, ops.shape(y)[-1]))
