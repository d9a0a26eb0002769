"""Rows turned round: a part of each row in reverse order, and the steps outside it where they are."""

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
    batch, time = ops.shape(x)[:2]
    start, stop = (ops.reshape(ops.cast(end, "int32"), (-1, 1)) for end in (start, stop))
    at = ops.arange(time, dtype="int32")[None, :]
    source = ops.where(ops.logical_and(at >= start, at < stop), start + stop - 1 - at, at)
    # One index a step, into all rows one after another: `take_along_axis` would want one for every channel.
    rows = ops.arange(batch, dtype="int32")[:, None] * time
    taken = ops.take(ops.reshape(x, (-1, *x.shape[2:])), ops.reshape(rows + source, (-1,)), axis=0)
    return ops.reshape(taken, (batch, time, *x.shape[2:]))


def flipped(x: Any) -> Any:
    """`x` [B, T, ...] with all steps in reverse order."""
    return ops.flip(x, axis=1)


def first_valid(mask: Any) -> Any:
    """Steps of each row of `mask` [B, T] before its first valid one, int32 [B]; all where none is valid."""
    return ops.sum(ops.cast(ops.logical_not(started(mask)), "int32"), axis=1)


def after_last_valid(mask: Any) -> Any:
    """Steps of each row of `mask` [B, T] up to its last valid one, int32 [B]; none where none is valid."""
    return ops.sum(ops.cast(started(flipped(mask)), "int32"), axis=1)
