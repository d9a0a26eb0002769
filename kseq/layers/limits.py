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
        counts_valid: whether invalid steps are free, so that only a step itself can tell that there were too many: its
            state then allows less than none.
    """

    layer: str
    steps: Any
    advice: str | None
    counts_valid: bool = False


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
    for limit, known, wanted, row in _exceeded([one for one in limits if not one.counts_valid], steps):
        stands = "" if at is None else f" after {_counted(np.broadcast_to(at, known.shape)[row])} of the stream"
        raise ValueError(
            f"{limit.layer} takes {_counted(known[row], 'more step')}{stands}{_named_row(limit, row)}; "
            f"received {what} of {_counted(wanted[row])}{_advice(limit)}"
        )


def check_overfull(limits: list[Limit], before: list[Limit], what: str) -> None:
    """Refuse what a state turns out to have taken more valid steps of than it may.

    Args:
        limits: of the state after it was fed; those without values are not looked at.
        before: of the state that was fed.
        what: was fed, in words.

    Raises:
        ValueError: a row that has too many, by the layer's name, with what to change.
    """
    for limit, old in zip(limits, before, strict=True):
        known, had = in_numpy(limit.steps), in_numpy(old.steps)
        if not limit.counts_valid or known is None or had is None:
            continue
        for row in np.flatnonzero(known < 0)[:1]:
            raise ValueError(
                f"{limit.layer} takes {_counted(had[row], 'more valid step')}{_named_row(limit, row)}; "
                f"received {what} that has {had[row] - known[row]}{_advice(limit)}"
            )


def check_history(limits: list[Limit], steps: Any) -> None:
    """Refuse to roll a state back to where it does not remember.

    Raises:
        ValueError: more steps than a row's state remembers, by the layer's name, with what to change.
    """
    for limit, known, wanted, row in _exceeded(limits, steps):
        raise ValueError(
            f"{limit.layer} can be rolled back by {_counted(known[row])}{_named_row(limit, row)}; "
            f"received {wanted[row]}{_advice(limit)}"
        )


def as_steps(steps: Any, like: Any, block_size: int) -> Any:
    """Steps to roll back by, a number or one for each row, as int32 [B].

    Args:
        steps: a number, or integers [B].
        like: an array [B, ...].
        block_size: of which they are multiples.

    Raises:
        TypeError: no integers.
        ValueError: another shape, negative numbers, or numbers that are no multiple of the block.
    """
    batch = like.shape[0]
    if not hasattr(steps, "shape"):
        steps = np.asarray(steps) if isinstance(steps, (list, tuple)) else as_integer("`steps`", steps)
    given = np.asarray(steps) if isinstance(steps, (int, np.generic)) else steps
    if "int" not in str(given.dtype):
        raise TypeError(f"`steps` must be an integer or int32 [B]; received {given.dtype}")
    fits = len(given.shape) == 1 and (None in (batch, given.shape[0]) or given.shape[0] == batch)
    if len(given.shape) and not fits:
        raise ValueError(f"`steps` must be an integer or int32 [B (={batch})]; received shape {tuple(given.shape)}")
    known = given if isinstance(given, np.ndarray) else in_numpy(given)
    if known is not None and ((known < 0) | (known % block_size != 0)).any():
        raise ValueError(
            f"`steps` must not be negative, and a multiple of {block_size}, the block; received {known.tolist()}"
        )
    return ops.broadcast_to(ops.cast(given, "int32"), (ops.shape(like)[0],))


def _exceeded(limits, steps):
    """Limits that are exceeded, what their rows allow, what is wanted of them, and the first that wants too much."""
    for limit in limits:
        known, wanted = in_numpy(limit.steps), steps if isinstance(steps, (int, np.ndarray)) else in_numpy(steps)
        if known is None or wanted is None:
            continue
        wanted = np.broadcast_to(wanted, known.shape)
        for row in np.flatnonzero((wanted > known) & (wanted > 0))[:1]:
            yield limit, known, wanted, int(row)


def _named_row(limit, row):
    return f" in row {row}" if limit.steps.shape[0] != 1 else ""


def _counted(number, noun="step"):
    number = max(int(number), 0)
    return f"{number} {noun}" + "s" * (number != 1)


def _advice(limit):
    return f": {limit.advice}" if limit.advice else ""
