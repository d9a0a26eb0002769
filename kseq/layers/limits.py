"""How many steps a layer's state still takes, or can be rolled back by, and the errors that say so."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from ..arguments import as_integer
from ..hints import has_values


class Limit(NamedTuple):
    """What one layer of a network allows.

    Attributes:
        layer: its name and type, in words.
        steps: int32 [B]: input steps that the state of each row allows.
        advice: what to change where more are wanted, or `None`.
    """

    layer: str
    steps: Any
    advice: str | None


def least(limits: list[Limit]) -> Any:
    """Steps that all of some limits allow, int32 [B]; `None` where there is no limit."""
    steps = None
    for limit in limits:
        steps = limit.steps if steps is None else ops.minimum(steps, limit.steps)
    return steps


def in_numpy(x: Any) -> Any:
    """An array in NumPy, or `None` while a computation is traced, when it has no values."""
    return ops.convert_to_numpy(x) if has_values(x) else None


def check_room(limits: list[Limit], steps: Any, what: str, at: Any = None) -> None:
    """Refuse to feed a state what it does not take.

    Args:
        limits: of the state; those without values are not looked at.
        steps: that are to be fed: a number, or integers [B].
        what: is fed, in words, "a chunk" for one.
        at: steps that were fed before, a number or [B], or `None` where nobody counts.

    Raises:
        ValueError: more steps than a row's state takes, by the layer's name, with what to change.
    """
    for limit, room, wanted, row in _exceeded(limits, steps):
        stands = "" if at is None else f" after {_counted(np.broadcast_to(at, limit.steps.shape)[row])} of the stream"
        raise ValueError(
            f"{limit.layer} takes {_counted(room)} more{stands}{_named_row(limit, row)}; "
            f"received {what} of {_counted(wanted)}{_advice(limit)}"
        )


def check_history(limits: list[Limit], steps: Any) -> None:
    """Refuse to roll a state back to where it does not remember.

    Raises:
        ValueError: more steps than a row's state remembers, by the layer's name, with what to change.
    """
    for limit, known, wanted, row in _exceeded(limits, steps):
        raise ValueError(
            f"{limit.layer} can be rolled back by {_counted(known)}{_named_row(limit, row)}; "
            f"received {wanted}{_advice(limit)}"
        )


def as_steps(steps: Any, batch_size: Any, block_size: int) -> Any:
    """Steps to roll back by, a number or one for each row, as int32 [B].

    Raises:
        TypeError: no integers.
        ValueError: another shape, negative numbers, or numbers that are no multiple of the block.
    """
    if not hasattr(steps, "shape"):
        steps = np.asarray(steps) if isinstance(steps, (list, tuple)) else as_integer("`steps`", steps)
    given = np.asarray(steps) if isinstance(steps, (int, np.generic)) else steps
    if "int" not in str(given.dtype):
        raise TypeError(f"`steps` must be an integer or int32 [B]; received {given.dtype}")
    if len(given.shape) and (len(given.shape) != 1 or given.shape[0] not in (None, batch_size)):
        raise ValueError(f"`steps` must be an integer or int32 [B (={batch_size})]; received shape {given.shape}")
    known = given if isinstance(given, np.ndarray) else in_numpy(given)
    if known is not None and ((known < 0) | (known % block_size != 0)).any():
        raise ValueError(
            f"`steps` must not be negative, and a multiple of {block_size}, the block; received {known.tolist()}"
        )
    return ops.broadcast_to(ops.cast(given, "int32"), (batch_size,))


def _exceeded(limits, steps):
    """Of limits that are exceeded, what the first such row has and wants, and its number."""
    for limit in limits:
        known, wanted = in_numpy(limit.steps), steps if isinstance(steps, (int, np.ndarray)) else in_numpy(steps)
        if known is None or wanted is None:
            continue
        wanted = np.broadcast_to(wanted, known.shape)
        for row in np.flatnonzero((wanted > known) & (wanted > 0))[:1]:
            yield limit, int(known[row]), int(wanted[row]), int(row)


def _named_row(limit, row):
    return f" in row {row}" if limit.steps.shape[0] > 1 else ""


def _counted(steps):
    steps = max(int(steps), 0)
    return f"{steps} step" + "s" * (steps != 1)


def _advice(limit):
    return f": {limit.advice}" if limit.advice else ""
