"""The rows that a build starts from: read from files, or taken from an iterable."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import FormatError, StoreNotFoundError
from ..formats.csv_files import read_cells
from ..store.shard import file_checksum


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a source.

    Attributes:
        number: its place in the source, from 0.
        line: the line of the file on which it begins, from 1, or None.
        data: the cells of CSV, a line of JSON as bytes, a dict, an array, or a record.
    """

    number: int
    line: int | None
    data: Any


@dataclasses.dataclass(frozen=True)
class SourceRows:
    """Rows of a source.

    Attributes:
        path: of the file, or None.
        header: the columns of CSV, or None where it has none.
        rows: a list of `Row`.
        checksum: of the file, or None.
    """

    path: str | None
    header: list[str] | None
    rows: list[Row]
    checksum: str | None = None

    def take(self, numbers: Iterable[int]) -> "SourceRows":
        """Some of the rows."""
        return dataclasses.replace(self, rows=[self.rows[number] for number in numbers])

    def data(self, row: Row) -> Any:
        """A row as a dict, a list of cells, an array or a record.

        Raises:
            ValueError: a line that is no JSON object.
        """
        if self.header is not None:
            return dict(zip(self.header, row.data, strict=True))
        if not isinstance(row.data, bytes):
            return row.data
        data = json.loads(row.data)
        if not isinstance(data, dict):
            raise ValueError(f"a line must be a JSON object; received {data!r:.100}")
        return data

    def value(self, row: Row, name: Any) -> Any:
        """The value of a row by the name of its column or attribute, or by the number of its cell.

        Raises:
            LookupError, AttributeError, TypeError: there is none.
        """
        data = self.data(row)
        return data[name] if isinstance(data, (dict, list, tuple, np.ndarray)) else getattr(data, name)


def read_rows(source: Any, header: bool | list[str] = True) -> SourceRows:
    """The rows of a CSV, TSV or JSON lines file, of files of another format, or of an iterable.

    Args:
        source: a path or an iterable.
        header: whether the first line of CSV names its columns; or their names, where the file has none.

    Raises:
        StoreNotFoundError: no such file.
        FormatError: a CSV file without its header, or with lines of other numbers of cells.
        TypeError: a source that is none of these.
    """
    if not isinstance(source, (str, os.PathLike)):
        try:
            items = iter(source)
        except TypeError:
            raise TypeError(f"source must be a path or an iterable; received {type(source).__name__}") from None
        return SourceRows(None, None, [Row(number, None, data) for number, data in enumerate(items)])
    path = os.fspath(source)
    suffix = pathlib.PurePath(path).suffix.lower()
    checksum = source_checksum(path)
    columns = None
    if suffix in (".jsonl", ".ndjson"):
        with open(path, "rb") as file:
            lines = [(line, data.strip()) for line, data in enumerate(file, 1) if data.strip()]
    elif suffix in (".csv", ".tsv"):
        columns, lines = _read_csv(path, header)
    else:
        from .. import formats

        lines = ((None, data) for data in formats.read(path))
    return SourceRows(path, columns, [Row(number, *line) for number, line in enumerate(lines)], checksum)


def source_checksum(path: str) -> str | None:
    """The checksum of a file of rows, or None of one of another format.

    Raises:
        StoreNotFoundError: no such file.
    """
    if pathlib.PurePath(path).suffix.lower() not in (".csv", ".tsv", ".jsonl", ".ndjson"):
        return None
    if not os.path.isfile(path):
        raise StoreNotFoundError("no such file", path)
    return file_checksum(path)


def _read_csv(path, header):
    """The columns, or None, and of each row the line on which it begins and its cells."""
    found = [(line, cells) for line, cells in read_cells(path) if cells or (header is True and line == 1)]
    if header is True:
        columns = found.pop(0)[1] if found else []
    else:
        columns = None if header is False else header
    if columns is not None and (not columns or not all(columns) or len(set(columns)) < len(columns)):
        raise FormatError(f"the first line must be names of columns that differ; received {columns}", path)
    wanted = len(columns or (found[0][1] if found else ()))
    for line, cells in found:
        if len(cells) != wanted:
            raise FormatError(f"line {line}: {wanted} cells must be there; received {len(cells)}", path)
    return columns, found
