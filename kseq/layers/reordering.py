"""Steps of rows in another order: turned round, valid ones first, or whichever are asked for."""

from typing import Any

from keras import ops

from ..padding import started


def reversed_rows(x: Any, start: Any, stop: Any) -> Any:
    """`x` [B, T, ...] with the steps from `start` up to `stop`, of each row or of all, in reverse order.

    Args:
        x: of any dtype; masks too.
        start: the first of these steps, int32 [B] or a number.
        stop: the step after the last of them, int32 [B] or a number; up to `start` nothing moves.
    """
    time = ops.shape(x)[1]
    start, stop = (ops.reshape(ops.cast(end, "int32"), (-1, 1)) for end in (start, stop))
    at = ops.arange(time, dtype="int32")[None, :]
    return at_steps(x, ops.where(ops.logical_and(at >= start, at < stop), start + stop - 1 - at, at))


def at_steps(x: Any, steps: Any) -> Any:
    """Of `x` [B, T, ...] the steps int32 [B, U], or [1, U] of every row: [B, U, ...]."""
    batch, time = ops.shape(x)[:2]
    # One index a step, into all rows one after another: `take_along_axis` would want one for every channel.
    at = ops.arange(batch, dtype="int32")[:, None] * time + ops.cast(steps, "int32")
    taken = ops.take(ops.reshape(x, (-1, *x.shape[2:])), at, axis=0)
    return ops.reshape(taken, (*ops.shape(at), *x.shape[2:]))  # jax's own, of no step, has lost an axis


def valid_first(mask: Any) -> Any:
    """The steps of each row of `mask` [B, T], int32 [B, T]: valid ones in their order, then the others in theirs."""
    step = ops.cumsum(ops.ones_like(mask, dtype="int32"), axis=1)  # whose number may not be known
    return ops.cast(ops.argsort(ops.where(mask, step, step + ops.max(step, initial=0)), axis=1), "int32")


def flipped(x: Any) -> Any:
    """`x` [B, T, ...] with all steps in reverse order."""
    return ops.flip(x, axis=1)


def first_valid(mask: Any) -> Any:
    """Steps of each row of `mask` [B, T] before its first valid one, int32 [B]; all where none is valid."""
    return ops.sum(ops.cast(ops.logical_not(started(mask)), "int32"), axis=1)


def after_last_valid(mask: Any) -> Any:
    """Steps of each row of `mask` [B, T] up to its last valid one, int32 [B]; none where none is valid."""
    return ops.sum(ops.cast(started(flipped(mask)), "int32"), axis=1)
