"""A function along another axis than the last."""

from collections.abc import Callable
from typing import Any

from keras import ops


def along(axis: int, fn: Callable[[Any], Any], x: Any) -> Any:
    """`fn`, a function along the last axis, along another one: of a tensor, a tensor or a tuple of them."""
    last = len(x.shape) - 1
    if axis == last:
        return fn(x)
    y = fn(ops.moveaxis(x, axis, last))  # by its number: of -1 some exporters make no axis
    return tuple(_back(part, axis) for part in y) if type(y) is tuple else _back(y, axis)


def _back(y, axis):
    return ops.moveaxis(y, len(y.shape) - 1, axis)
