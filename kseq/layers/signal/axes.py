"""A function along another axis than the last."""

from collections.abc import Callable
from typing import Any

from keras import ops


def along(axis: int, fn: Callable[[Any], Any], x: Any) -> Any:
    """`fn`, a function along the last axis, along another one: of a tensor, a tensor or a tuple of them."""
    if axis in (-1, len(x.shape) - 1):
        return fn(x)
    y = fn(ops.moveaxis(x, axis, -1))
    return tuple(ops.moveaxis(part, -1, axis) for part in y) if type(y) is tuple else ops.moveaxis(y, -1, axis)
