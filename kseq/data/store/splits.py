"""Records divided into parts by shares, or into folds; groups of them stay together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..permutation import permute


def split_indices(
    count: int, shares: Sequence[float], groups: NDArray[np.int64] | None = None, seed: int | None = None
) -> list[NDArray[Any]]:
    """Divide `count` records into parts of about the given shares, and one more of what they leave of 1.

    Args:
        count: number of records.
        shares: a number a part, each above 0, at most 1 in all.
        groups: int64 [count], numbers from 0 of groups that stay together.
        seed: of the random choice; None spreads every part evenly over the order of the records or groups.

    Returns:
        For each part the record numbers, ascending: int64.

    Raises:
        ValueError: shares that are not positive, or sum to more than 1.

    Example:
        >>> [part.tolist() for part in split_indices(6, (0.5,))]
        [[0, 2, 4], [1, 3, 5]]
    """
    ends = share_ends(shares)
    members = np.arange(count) if groups is None else groups
    units = count if groups is None else int(members.max(initial=-1)) + 1
    sizes = np.ones(units, np.int64) if groups is None else np.bincount(members, minlength=units)
    if seed is None:
        part_of_unit = _spread(sizes, ends)
    else:
        order = permute(0, units, units, (seed, 0))
        before = np.cumsum(sizes[order]) - sizes[order] / 2  # the middle of each unit on the line of all records
        part_of_unit = np.empty(units, np.int64)
        part_of_unit[order] = np.searchsorted(ends[:-1] * count, before, "right")
    parts = part_of_unit[members]
    return [np.flatnonzero(parts == part) for part in range(len(ends))]


def share_ends(shares: Sequence[float]) -> NDArray[np.float64]:
    """Where each part ends on the line from 0 to 1, the rest included if there is one.

    Raises:
        ValueError: shares that are not positive, or sum to more than 1.
    """
    values = np.array([float(share) for share in shares])
    # Sums of decimal shares miss 1 by their last digit.
    if not len(values) or not (values > 0).all() or values.sum() > 1 + 1e-9:
        raise ValueError(f"shares must be above 0 and sum to at most 1; received {shares}")
    ends = np.cumsum(values)
    if ends[-1] > 1 - 1e-9:
        ends[-1] = 1.0
        return ends
    return np.append(ends, 1.0)


def _spread(sizes, ends):
    """The part of each unit: in order, the one that is furthest behind its share."""
    shares = np.diff(ends, prepend=0.0)
    if (sizes == 1).all():
        # The same in one step: the positions at which each part is due, merged.
        counts = np.diff(np.round(ends * len(sizes)).astype(np.int64), prepend=0)
        due = np.concatenate([(np.arange(count) + 0.5) / max(count, 1) for count in counts])
        return np.repeat(np.arange(len(ends)), counts)[np.argsort(due, kind="stable")]
    taken, parts = np.zeros(len(ends)), np.empty(len(sizes), np.int64)
    for unit, size in enumerate(sizes):
        parts[unit] = np.argmax(shares * (taken.sum() + size) - taken)
        taken[parts[unit]] += size
    return parts


def fold_indices(
    count: int, folds: int, groups: NDArray[np.int64] | None = None, seed: int | None = None
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Divide `count` records into folds of equal share, for cross-validation: pairs (train, test) of record numbers.

    Args:
        count: number of records.
        folds: number of folds, at least 2.
        groups: as in `split_indices`.
        seed: as in `split_indices`.

    Raises:
        ValueError: fewer than 2 folds.

    Example:
        >>> [test.tolist() for train, test in fold_indices(5, 2)]
        [[1, 3], [0, 2, 4]]
    """
    if folds < 2:
        raise ValueError(f"folds must be at least 2; received {folds}")
    parts = split_indices(count, [1 / folds] * folds, groups, seed)
    everything = np.arange(count)
    return [(np.setdiff1d(everything, part, assume_unique=True), part) for part in parts]
