"""Axes that name channels, counted as Keras counts them: batch is 0 and time 1."""

from typing import Any


def channel_axes(axis: int | tuple[int, ...] | list[int], rank: int, name: str = "axis") -> tuple[int, ...]:
    """The axes that an argument names, counted from the front, in its order.

    Args:
        axis: one axis or several; negative ones are counted from the end.
        rank: of the values, batch and time included.
        name: of the argument.

    Raises:
        ValueError: batch, time, an axis that is not there, or one that is named twice.

    Example:
        >>> channel_axes((-1, 2), rank=4)
        (3, 2)
    """
    given = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    found = tuple(a + rank if a < 0 else a for a in given)
    if any(a < 2 or a >= rank for a in found):
        there = f"2 to {rank - 1}, or negative" if rank > 2 else "of which the values have none"
        raise ValueError(f"`{name}` must name channel axes ({there}); received {axis} for values of rank {rank}")
    if len(set(found)) < len(found):
        raise ValueError(f"`{name}` names an axis twice; received {axis} for values of rank {rank}")
    return found


def as_axes(axis: Any) -> Any:
    """An argument that names axes as it is kept: an integer, `None`, or a tuple in the place of a list."""
    return tuple(axis) if isinstance(axis, (tuple, list)) else axis
