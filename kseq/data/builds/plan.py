"""Which rows of a source go into which split of a build."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from kseq.arguments import as_integer

from ..errors import BuildError
from ..store.splits import share_ends, split_indices
from .rows import SourceRows, read_rows

_SHARES = {"train": 0.8, "eval": 0.1, "test": 0.1}


@dataclasses.dataclass(frozen=True)
class Division:
    """The rows of a build by the splits, or folds, that they belong to.

    Attributes:
        parts: for each its `SourceRows`.
        shares: for each its share, where they were divided by shares.
        checksums: of the files of the rows, by the split that each was given for, or "".
    """

    parts: dict[str, SourceRows]
    shares: dict[str, float] | None
    checksums: dict[str, str | None]


def divide(
    source: Any,
    splits: Mapping[str, float] | None = None,
    folds: int | None = None,
    seed: int | None = 0,
    by: str | int | None = None,
    header: bool | list[str] = True,
) -> Division:
    """Read the rows of a source and divide them, as `build` says.

    Raises:
        ValueError: shares that do not sum to 1, names that are none of folders, arguments that exclude each other.
        BuildError: a row without the value that is divided by.
    """
    if isinstance(source, dict):
        if splits is not None or folds is not None or by is not None:
            raise ValueError("a source for every split leaves nothing to divide: give no splits, folds or by")
        _check_names(source)
        parts = {name: read_rows(each, header) for name, each in source.items()}
        return Division(parts, None, {name: rows.checksum for name, rows in parts.items()})
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
    rows = read_rows(source, header)
    groups = None if by is None else _groups(rows, by)
    numbers = split_indices(len(rows.rows), list(shares.values()), groups, seed)
    parts = {name: rows.take(part.tolist()) for name, part in zip(shares, numbers, strict=True)}
    return Division(parts, splits, {"": rows.checksum})


def _check_names(names):
    taken = {"build.json", "folds.json", *(f"{name}.csv" for name in names)}
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name) or name in taken:
            raise ValueError(f"names of splits must be letters, digits, _, - and ., and no file's; received {name!r}")
    if not names:
        raise ValueError("there must be a split; received none")


def _groups(rows, by):
    numbers, groups = {}, []
    for row in rows.rows:
        try:
            groups.append(numbers.setdefault(rows.value(row, by), len(numbers)))
        except (LookupError, AttributeError):
            raise BuildError(f"there is no {by!r} to divide by", rows.path, row.number, row.line) from None
        except (TypeError, ValueError) as error:
            raise BuildError(f"{by!r} cannot be divided by: {error}", rows.path, row.number, row.line) from error
    return np.array(groups, np.int64)
