"""Positions of steps, counted from where a state stands."""

from typing import Any, Literal

from keras import ops

from ..padding import started, valid_so_far

#: What is counted: valid steps, or all steps since the first valid one.
Counted = Literal["valid", "all"]
COUNTED = ("valid", "all")


def count(mask: Any, time: Any, before: Any, counted: str) -> tuple[Any, Any]:
    """Positions of steps, int32 [B, T], and that of the next one, int32 [B].

    Args:
        mask: bool [B, T], or `None` where all steps are valid.
        time: T.
        before: int32 [B] or [1], steps that were counted before; 0 before the first step that counts.
        counted: `"valid"` or `"all"`.
    """
    if mask is None:
        return before[:, None] + ops.arange(0, time, dtype="int32")[None, :], before + time
    if counted == "all":
        mask = ops.logical_or(started(mask), (before != 0)[:, None])
    total = before[:, None] + valid_so_far(mask)
    return total - 1, total[:, -1]


def bounded(x: Any, least: int, most: Any) -> Any:
    """Whole numbers within bounds; `ops.clip` from 0 to 6 is, in LiteRT, an activation that takes no integers."""
    return ops.minimum(ops.maximum(x, least), most)
