"""An axis of channels that a layer works along."""

from collections.abc import Callable
from typing import Any

from keras import ops

from ...annotations import Shape


def channel_axis(axis: int, channels: Shape, layer: Any) -> int:
    """The axis, counted with batch and time, as an index of `channels`.

    Raises:
        ValueError: an axis that there is not, or that is batch or time.
    """
    rank = len(channels) + 2
    found = axis + rank if axis < 0 else axis
    if not 2 <= found < rank:
        raise ValueError(
            f"`axis` of {type(layer).__name__} must be one of the channels of values [batch, time, ...] of rank "
            f"{rank}; received {axis}"
        )
    return found - 2


def along_last(fn: Callable[[Any], Any], x: Any, axis: int) -> Any:
    """`fn`, a function along the last axis, along another: of a tensor, a tensor or a tuple of them."""
    if axis in (-1, len(x.shape) - 1):
        return fn(x)
    y = fn(ops.moveaxis(x, axis, -1))
    return tuple(ops.moveaxis(part, -1, axis) for part in y) if type(y) is tuple else ops.moveaxis(y, -1, axis)
