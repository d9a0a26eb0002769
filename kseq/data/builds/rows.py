"""The rows that a build starts from: read from files, or taken from an iterable."""

import csv
import dataclasses
import json
import os
import pathlib
import sys

from ..errors import FormatError, StoreNotFoundError
from ..store.shard import file_checksum


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a source.

    Attributes:
        number: its place in the source, from 0.
        line: the line of the file on which it begins, from 1, or None.
        data: the cells of CSV, a line of JSON as bytes, a dict, or a record.
    """

    number: int
    line: int | None
    data: object


@dataclasses.dataclass(frozen=True)
class SourceRows:
    """All rows of a source.

    Attributes:
        path: of the file, or None.
        header: the columns of CSV, or None.
        rows: a list of `Row`.
        checksum: of the file, or None.
    """

    path: str | None
    header: list | None
    rows: list
    checksum: str | None = None

    def value(self, row, name):
        """The value of a row by the name of its column or attribute.

        Raises:
            KeyError: there is none.
        """
        data = row_data(row, self.header)
        return data[name] if isinstance(data, dict) else getattr(data, name)


def row_data(row, header):
    """A row as a dict or record.

    Raises:
        ValueError: a line that is no JSON object.
    """
    if header is not None:
        return dict(zip(header, row.data, strict=True))
    if not isinstance(row.data, bytes):
        return row.data
    data = json.loads(row.data)
    if not isinstance(data, dict):
        raise ValueError(f"a line must be a JSON object; received {data!r:.100}")
    return data


def read_rows(source) -> SourceRows:
    """The rows of a CSV, TSV or JSON lines file, of files of another format, or of an iterable.

    Raises:
        StoreNotFoundError: no such file.
        FormatError: a CSV file without a header, or with lines of other numbers of cells.
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
    if suffix not in (".csv", ".tsv", ".jsonl", ".ndjson"):
        from .. import formats

        return SourceRows(path, None, [Row(number, None, data) for number, data in enumerate(formats.read(path))])
    if not os.path.isfile(path):
        raise StoreNotFoundError("no such file", path)
    checksum = file_checksum(path)
    if suffix in (".jsonl", ".ndjson"):
        with open(path, "rb") as file:
            lines = [(line, data) for line, data in enumerate(file, 1) if data.strip()]
        rows = [Row(number, line, data.strip()) for number, (line, data) in enumerate(lines)]
        return SourceRows(path, None, rows, checksum)
    header, *lines = _read_csv(path, "\t" if suffix == ".tsv" else ",")
    return SourceRows(path, header[1], [Row(number, *line) for number, line in enumerate(lines)], checksum)


def _read_csv(path, delimiter):
    """The header and the rows, each with the line on which it begins."""
    found, line, limit = [], 1, csv.field_size_limit(sys.maxsize)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for cells in reader:
                if cells or len(found) == 0:
                    found.append((line, cells))
                line = reader.line_num + 1
    except (csv.Error, UnicodeDecodeError) as error:
        raise FormatError(f"line {line}: {error}", path) from None
    finally:
        csv.field_size_limit(limit)  # the limit is the module's, of all readers
    header = found[0][1] if found else []
    if not header or not all(header) or len(set(header)) < len(header):
        raise FormatError(f"the first line must be names of columns that differ; received {header}", path)
    for line, cells in found[1:]:
        if len(cells) != len(header):
            raise FormatError(f"line {line}: {len(header)} cells must be there; received {len(cells)}", path)
    return found
