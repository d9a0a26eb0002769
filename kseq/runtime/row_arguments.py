"""What a caller says of the rows of a batch of streams, checked."""

from typing import Any

import numpy as np

from ..arguments import as_integer, as_integers


def as_active(active: Any, batch_size: int) -> Any:
    """Rows that something is for, bool [B].

    Raises:
        ValueError: another shape or dtype.
    """
    active = np.asarray(active)
    if active.shape != (batch_size,) or active.dtype != bool:
        raise ValueError(f"`active` must be bool [{batch_size}]; received {active.dtype} of shape {active.shape}")
    return active


def as_row_steps(steps: Any, active: Any, batch_size: int) -> Any:
    """Steps of rows: one number where all rows have as many, else int64 [B], 0 where `active` says so.

    Raises:
        TypeError: no integers.
        ValueError: negative numbers, or as many as there are no rows.
    """
    if np.ndim(steps):
        steps = as_integers("`steps`", steps)
        if len(steps) != batch_size:
            raise ValueError(
                f"`steps` must be an integer, or one for each of {batch_size} rows; received {len(steps)} of them"
            )
    else:
        steps = as_integer("`steps`", steps)
    if np.min(steps, initial=0) < 0:
        raise ValueError(f"`steps` must not be negative; received {np.min(steps)}")
    return steps if active is None else np.where(as_active(active, batch_size), steps, 0)


def as_row_pairs(sources: Any, targets: Any, batch_size: int) -> tuple[Any, Any]:
    """Rows that are copied and rows that they are copied to, int64 [N] each.

    Raises:
        TypeError: no integers.
        ValueError: rows that there are not, unequally many, or a target twice.
    """
    sources, targets = as_integers("`sources`", sources), as_integers("`targets`", targets)
    for name, rows in (("`sources`", sources), ("`targets`", targets)):
        if len(rows) and not 0 <= rows.min() <= rows.max() < batch_size:
            raise ValueError(f"{name} must be rows from 0 to {batch_size - 1}; received {rows.tolist()}")
    if len(sources) != len(targets) or len(np.unique(targets)) != len(targets):
        raise ValueError(
            f"`targets` must be as many rows as `sources`, each once; received {targets.tolist()} for "
            f"{sources.tolist()}"
        )
    return sources, targets


def of_rows(active: np.ndarray, leaves: list[np.ndarray], others: list[np.ndarray]) -> list[np.ndarray]:
    """Leaves [B, ...] in the rows that are active, bool [B], and the others' in those that are not."""
    pairs = zip(leaves, others, strict=True)
    return [np.where(active.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs]
