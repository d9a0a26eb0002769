"""Recurrences of matrices, many steps at once: S_t = G_t S_{t-1} + W_t, and what is read of S_t by a query.

A step makes one matrix of another, which as a loop over steps is bound by memory. Here time is cut into chunks: the
state after a chunk, and all that is read within, are matrix products of its own queries, keys, values and decays
(`matrix_products.py`). The loop is one over chunks. What a chunk is made of stays in a processor's caches: the products
of all chunks at once, each kept as an array, take two to five times as long.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from ..loops import over_time

#: Steps in a chunk at most: its products are of matrices of this size.
SIZE = 32


def scan_chunks(chunk: Callable[..., Any], state: Any, *arrays: Any) -> tuple[Any, Any]:
    """What is read at each step [B, T, H, V], and the state after the last.

    Args:
        chunk: `chunk(state, arrays)` gives what is read within, [B, H, L, V], and the state after. An array of zeros
            for a step leaves the state as it is.
        state: a structure of arrays, batch first.
        arrays: [B, T, H, ...], which the chunk has as [B, H, L, ...]; the third of them are the values.
    """
    steps = ops.shape(arrays[0])[1]
    size = min(SIZE, 1 << max(steps - 1, 0).bit_length()) if isinstance(steps, int) else SIZE
    chunks = [in_chunks(x, size) for x in arrays]
    if chunks[0].shape[0] == 1:
        y, state = chunk(state, [x[0] for x in chunks])
        y = y[None]
    else:
        y, state = over_time(chunk, state, chunks, like=chunks[2][0])
    return in_time(y, steps), state


def in_chunks(x: Any, size: int) -> Any:
    """x [B, T, H, ...] as [n, B, H, size, ...], with zeros after the last step; at least one chunk."""
    steps = ops.shape(x)[1]
    if isinstance(steps, int):
        number = max(-(-steps // size), 1)
        more = number * size - steps
    else:
        number = (ops.maximum(steps, 1) + size - 1) // size if hasattr(steps, "dtype") else -(-steps // size)
        more = number * size - steps
    rest = tuple(x.shape[2:])
    if not (isinstance(more, int) and more == 0):
        x = ops.pad(x, [(0, 0), (0, more), *[(0, 0)] * len(rest)])
    x = ops.reshape(x, (ops.shape(x)[0], number, size, *rest))
    return ops.transpose(x, (1, 0, 3, 2, *range(4, len(rest) + 3)))


def in_time(y: Any, steps: Any) -> Any:
    """y [n, B, H, size, ...] as [B, T, H, ...], of which there are as many steps as are asked for."""
    y = ops.transpose(y, (1, 0, 3, 2, *range(4, len(y.shape))))
    rest = tuple(y.shape[3:])
    batch, number, size = ops.shape(y)[:3]
    return ops.reshape(y, (batch, number * size, *rest))[:, :steps]
