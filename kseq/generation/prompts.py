"""What generation begins with: ragged prompts as rows, checked, and the new steps in the form of the prompts."""

from typing import Any, NamedTuple

import numpy as np

from ..ragged import Ragged
from ..sequence import Sequence


class Prompts(NamedTuple):
    """What rows begin with.

    Attributes:
        rows: an array [T, ...] for each.
        alone: whether one prompt was given, in no list.
    """

    rows: list[np.ndarray]
    alone: bool


def read_prompts(prompts: Any, shape: tuple[int, ...], kind: str, start: Any = None) -> Prompts:
    """Prompts as rows.

    Args:
        prompts: one row [T, ...], an array or a list; or several: a list of them, a `Ragged`, an array [B, T, ...], or
            a `Sequence`, of which the valid steps are the rows.
        shape: of a step.
        kind: dtype of steps: integers where it is an integer's.
        start: a step that is put before every row, or `None`.

    Raises:
        ValueError: steps or a `start` of another shape, no rows, or a row without steps.
        TypeError: what is no number, or no integers where these are wanted.
    """
    if isinstance(prompts, Sequence):
        prompts = prompts.to_ragged()
    if isinstance(prompts, Ragged):
        rows, alone = [np.asarray(row) for row in prompts], False
    elif isinstance(prompts, (list, tuple)) and (not prompts or np.ndim(prompts[0]) != len(shape)):
        rows, alone = [_array(row, shape) for row in prompts], False
        # The empty list is a prompt of no steps: a batch has one row at least.
        rows, alone = (rows, False) if rows else ([_array([], shape)], True)
    else:
        given = _array(prompts, shape)
        alone = given.ndim == 1 + len(shape)
        rows = [given] if alone or given.ndim != 2 + len(shape) else list(given)
    if not rows:
        raise ValueError("`prompts` must have at least one row; received none")
    if start is not None:
        first = _array([start], shape)
        if first.shape[1:] != shape:
            raise ValueError(f"`start` must be one step, of shape {shape}; received one of shape {first.shape[1:]}")
        rows = [np.concatenate([first, row]) if row.shape[1:] == first.shape[1:] else row for row in rows]
    return Prompts([_checked(row, n, shape, kind) for n, row in enumerate(rows)], alone)


def _array(row, shape):
    array = np.asarray(row)
    return np.zeros((0, *shape), np.int32) if array.size == 0 and array.ndim == 1 else array


def _checked(row, number, shape, kind):
    if row.shape[1:] != shape or not row.ndim:
        wanted = ", ".join(map(str, ("time", *shape)))
        raise ValueError(f"a prompt must have shape [{wanted}]; received {row.shape} in row {number}")
    if not len(row):
        raise ValueError(
            f"a prompt must have at least one step, which the model goes on from; row {number} has none: give "
            f"`start`, the step that every sequence begins with"
        )
    whole = "int" in kind
    if row.dtype.kind not in ("iu" if whole else "iuf"):
        raise TypeError(
            f"a prompt must be of {'integers' if whole else 'numbers'}; received {row.dtype} in row {number}"
        )
    if not whole and not np.isfinite(row).all():
        raise ValueError(f"a prompt must be of finite numbers; received others in row {number}")
    return row.astype(np.int32 if whole else kind)


class Generated(list[np.ndarray]):
    """The new steps of every row, a list of arrays [N_i, ...], and how each row has ended.

    Attributes:
        reasons: for each row `"stop"`, `"length"` where it has as many steps as were asked for, or `"error"`.
        errors: by the number of a row that ended with an error what it was.
        scores: for each row, where there were beams, the logarithm of the probability of its steps, by the length
            penalty; else `None`.
    """

    reasons: list[str]
    errors: dict[int, str]
    scores: list[float] | None

    def __init__(
        self, rows: list[np.ndarray], reasons: list[str], errors: dict[int, str], scores: list[float] | None = None
    ) -> None:
        super().__init__(rows)
        self.reasons, self.errors, self.scores = reasons, errors, scores
