"""Recurrences of matrices, many steps at once: S_t = G_t S_{t-1} + W_t, and what is read of S_t by a query.

A step makes one matrix of another, which as a loop over steps is bound by memory. Here time is cut into chunks. Of a
whole chunk the state after it is linear in the state before, and so is all that is read within: both maps are matrix
products of the chunk's own keys, values and decays (`matrix_products.py`), of all chunks at once. The only loop is the
one over chunks (`carry`), of a few products of small matrices each, which has a gradient of its own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from ...gradients import with_gradient
from ..loops import scan


class MatrixChunks(NamedTuple):
    """What chunks make of the state before them, [n, B, H, K, V], for n chunks.

    Attributes:
        transition: what the state is multiplied by, [n, B, H, K, 1] along its keys, or matrices [n, B, H, K, K].
        update: what is added, [n, B, H, K, V].
        read: a function of the states before, that gives what is read at each step, [n, B, H, L, V].
    """

    transition: Any
    update: Any
    read: Callable[[Any], Any]


def scan_chunks(chunks: MatrixChunks, state: Any) -> tuple[Any, Any]:
    """What is read at each step [n, B, H, L, V], and the state after the last [B, H, K, V]."""
    after = carry(chunks.transition, chunks.update, state)
    return chunks.read(ops.concatenate([state[None], after[:-1]])), after[-1]


def carry(transition: Any, update: Any, start: Any) -> Any:
    """States after every chunk, [n, B, H, K, V], where each is `transition` times the one before plus `update`."""
    if update.shape[0] == 1:
        return (_times(transition[0], start) + update[0])[None]
    hidden = ops.stop_gradient  # the loop itself is hidden from the backend's gradients
    value = _loop(hidden(transition), hidden(update), hidden(start))
    return with_gradient(value, _pull, transition, update, start)


def _times(transition, state):
    if transition.shape[-1] == 1:
        return transition * state
    return ops.einsum("bhkj,bhjv->bhkv", transition, state)


def _transposed(transition):
    return transition if transition.shape[-1] == 1 else ops.swapaxes(transition, -1, -2)


def _loop(transition, update, start):
    def step(state, inputs):
        state = _times(inputs[1], state) + inputs[0]
        return state, state

    return scan(step, start, (update, transition))[1]


def _pull(states, transition, update, start):
    """Of the gradient of all states, those of transitions, updates and start: the same recurrence, backwards."""
    before = ops.concatenate([start[None], states[:-1]])
    backwards = _transposed(transition)

    def step(later, inputs):
        gradient = inputs[0] + later
        return _times(inputs[1], gradient), gradient

    def pull(upstream):
        of_start, of_updates = scan(step, ops.zeros_like(start), (upstream, backwards), reverse=True)
        if transition.shape[-1] == 1:
            of_transitions = ops.sum(of_updates * before, axis=-1, keepdims=True)
        else:
            of_transitions = ops.einsum("nbhkv,nbhjv->nbhkj", of_updates, before)
        return of_transitions, of_updates, of_start

    return pull


# Time in chunks.


def in_chunks(x: Any, size: int) -> Any:
    """x [B, T, H, ...] as [n, B, H, size, ...], with zeros after the last step."""
    steps = ops.shape(x)[1]
    if isinstance(steps, int):
        more = -steps % size
        number = (steps + more) // size
    else:  # at least one chunk, since a loop over none has no last state
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


def chunk_size(steps: Any, size: int) -> int:
    """`size`, or where there are fewer steps the power of two that holds them."""
    return min(size, 1 << (steps - 1).bit_length()) if isinstance(steps, int) else size
