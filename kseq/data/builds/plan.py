"""Which rows of a source go into which split of a build."""

import re

import numpy as np

from kseq.arguments import as_integer

from ..errors import BuildError
from ..store.splits import share_ends, split_indices
from .rows import read_rows

_SHARES = {"train": 0.8, "eval": 0.1, "test": 0.1}


def divide(source, splits, folds, seed, by):
    """For each split its `SourceRows` and the numbers of those that are its; beside the checksums and shares.

    Raises:
        ValueError: shares that do not sum to 1, names that are none of folders, arguments that exclude each other.
        BuildError: a row without the value that is divided by.
    """
    if isinstance(source, dict):
        if splits is not None or folds is not None or by is not None:
            raise ValueError("a source for every split leaves nothing to divide: give no splits, folds or by")
        _check_names(source)
        read = {name: read_rows(each) for name, each in source.items()}
        parts = {name: (rows, range(len(rows.rows))) for name, rows in read.items()}
        return parts, {name: rows.checksum for name, rows in read.items()}, None
    if folds is not None:
        if splits is not None:
            raise ValueError("give splits or folds, not both")
        folds = as_integer("folds", folds, 2)
        shares = {f"fold-{number}": 1 / folds for number in range(folds)}
    else:
        splits = shares = dict(_SHARES if splits is None else splits)
        _check_names(shares)
        if len(share_ends(list(shares.values()))) > len(shares):
            raise ValueError(f"the shares of the splits must sum to 1; received {shares}")
    rows = read_rows(source)
    groups = None if by is None else _groups(rows, by)
    numbers = split_indices(len(rows.rows), list(shares.values()), groups, seed)
    parts = {name: (rows, part.tolist()) for name, part in zip(shares, numbers, strict=True)}
    return parts, {"": rows.checksum}, splits


def _check_names(names):
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(f"names of splits must be letters, digits, _, - and .; received {name!r}")
    if not names:
        raise ValueError("there must be a split; received none")


def _groups(rows, by):
    numbers, groups = {}, []
    for row in rows.rows:
        try:
            value = rows.value(row, by)
            groups.append(numbers.setdefault(value, len(numbers)))
        except (KeyError, AttributeError):
            raise BuildError(f"there is no {by!r} to divide by", rows.path, row.number, row.line) from None
        except (TypeError, ValueError) as error:
            raise BuildError(f"{by!r} cannot be divided by: {error}", rows.path, row.number, row.line) from error
    return np.array(groups, np.int64)
