"""CSV and TSV files, with a header or without, read and written.

A cell of a sequence or array is a JSON list, one of bytes is base64, an empty cell is a value that is not there (in
columns of text: the empty text, unless a schema says that it may be left out).
"""

import csv
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...annotations import AnyPath, AnyPaths
from ..errors import FormatError, RecordError
from ..store.schema import TEXT, Schema
from ..store.writer import as_schema
from .base import Format, RecordSource
from .cells import check, format_cell, parse_cell
from .files import files_of, no_metadata
from .schemas import Inferred, json_array
from .sidecar import SIDECAR, SidecarSink, agreed, check_names, read_sidecar

_SAYS = "kseq-csv-1"  # the file beside
_KINDS = ("record", "row")  # with a header, or without

# Numbers with leading zeros or plus are codes (postal, telephone), not numbers.
_INT = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|nan|-?inf|NaN|-?Infinity")
_BOOLS = {"true": True, "false": False}


class CsvSource(RecordSource):
    """Records of CSV or TSV files.

    The schema is that of `<path>.schema.json`, if kseq wrote one: then there are its columns and no others. Else a
    first pass over all files finds it: a column whose cells are all `true` or `false` is bool, one of integers int64,
    of numbers float64, of JSON lists of numbers or strings a sequence, anything else string.

    Args:
        path: a file, a pattern, a folder, or a list of files of equal headers.
        schema: `Schema` of the records; columns that it does not name are left out.
        delimiter: by default "," or, of `.tsv` files, a tab.
        header: whether the first line names the columns; by default what `<path>.schema.json` says, else true.
        names: of the columns where no line names them; by default the fields of the schema, else "column_0" and so on.

    Raises:
        FormatError: a file that is not so; the error names the line.
    """

    schema: Schema | None

    def __init__(
        self,
        path: AnyPaths,
        schema: Mapping[str, Any] | None = None,
        delimiter: str | None = None,
        header: bool | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self._files, self._delimiter = files_of(path, FORMAT.suffixes), delimiter
        sidecars = [read_sidecar(file, _SAYS, _KINDS) for file in self._files]
        kind = agreed(self._files, sidecars, "kind")
        self._header = (kind != "row") if header is None else bool(header)
        if kind is not None and self._header != (kind != "row"):
            has = "no header" if kind == "row" else "a header"
            raise FormatError(
                f"it has {has}, as the {SIDECAR} beside it says; received header={header}", self._files[0]
            )
        if self._header and names is not None:
            raise ValueError(f"names are for files without a header (header=False); received {names!r}")
        if names is not None and len(set(names)) < len(names):
            raise ValueError(f"names must differ; received {names!r}")
        schema = None if schema is None else check(as_schema(schema), "CSV")
        kept = agreed(self._files, sidecars, "schema") if schema is None and None not in sidecars else None
        self._names = self._columns(names or (None if self._header else list(kept or schema or ()) or None))
        if kept is not None:
            check_names(self._names, kept, self._files[0], all_of_them=True)
        elif schema is not None and (missing := [name for name in schema if name not in self._names]):
            raise FormatError(f"there must be columns {missing}; received {self._names}", self._files[0])
        self.schema = kept or schema or self._infer()

    def _columns(self, names: Sequence[str] | None) -> list[str]:
        """The names of the columns."""
        if not self._header:
            first = next((cells for file in self._files for _, cells in read_cells(file, self._delimiter)), None)
            if names is not None:
                return list(names)
            if not first:
                raise FormatError("it has no rows, so that nothing says its columns: give names", self._files[0])
            return [f"column_{n}" for n in range(len(first))]
        found: list[str] = []
        for file in self._files:
            own = next((cells for _, cells in read_cells(file, self._delimiter)), None)
            if not own or len(set(own)) < len(own) or not all(own):
                raise FormatError(f"the first line must be names of columns that differ; received {own}", file)
            if own != (found := found or own):
                raise FormatError(f"files must have the header {found}; received {own}", file)
        return found

    def _lines(self) -> Iterator[tuple[str, int, list[str]]]:
        width = len(self._names)
        for path in self._files:
            rows = read_cells(path, self._delimiter)
            for line, cells in itertools.islice(rows, int(self._header), None):
                if not cells and width == 1:
                    cells = [""]  # an empty line is an empty cell where there is one column
                if len(cells) != width:
                    raise FormatError(f"line {line}: {width} cells must be there; received {len(cells)}", path)
                yield path, line, cells

    def _infer(self):
        kinds = dict.fromkeys(self._names)
        for _, _, cells in self._lines():
            for name, cell in zip(self._names, cells, strict=True):
                if cell and kinds[name] != TEXT:
                    kinds[name] = _wider(kinds[name], _kind(cell))
        found = Inferred()
        kinds = [kinds[name] or TEXT for name in self._names]
        for path, line, cells in self._lines():
            values = [_parse(cell, kind) for cell, kind in zip(cells, kinds, strict=True)]
            found.add(dict(zip(self._names, values, strict=True)), f"{path} line {line}")
        if not found.count:
            found.add(dict.fromkeys(self._names, ""), self._files[0])
        return found.schema(self._files[0])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        places = {name: place for place, name in enumerate(self._names)}
        wanted = [(name, field, places[name]) for name, field in self._known().items()]
        for path, line, cells in self._lines():
            record = {}
            for name, field, place in wanted:
                try:
                    value = record[name] = parse_cell(cells[place], field)
                    if value is None and not field.optional:
                        raise ValueError("a value must be there")
                except (ValueError, OverflowError, RecursionError, TypeError) as error:
                    raise FormatError(
                        f"line {line}, column {name!r}: it must be {field}; received {cells[place]!r:.100} ({error})",
                        path,
                    ) from None
            yield record


def read_cells(path: AnyPath, delimiter: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of a CSV or TSV file: the line on which it begins, from 1, and its cells, none of an empty line.

    Args:
        path: of the file.
        delimiter: by default "," or, of `.tsv` files, a tab.

    Raises:
        FormatError: quotes that do not end, text that is not UTF-8.
    """
    delimiter = delimiter or _delimiter(path)
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        while True:
            line = rows.line_num + 1
            # The limit is the module's, of all readers: long sequences need it only here.
            limit = csv.field_size_limit(sys.maxsize)
            try:
                cells = next(rows, None)
            except (csv.Error, UnicodeDecodeError) as error:
                raise FormatError(f"line {line}: {error}", path) from None
            finally:
                csv.field_size_limit(limit)
            if cells is None:
                return
            yield line, cells


def _delimiter(path):
    return "\t" if os.fspath(path).lower().endswith(".tsv") else ","


def _kind(cell):
    if cell in _BOOLS:
        return "bool"
    if _INT.fullmatch(cell):
        return "int" if -(1 << 63) <= int(cell[:25]) < 1 << 64 and len(cell) < 25 else TEXT
    if (cell[-1] in "0123456789." or cell[-3:] in ("nan", "NaN", "inf", "ity")) and _FLOAT.fullmatch(cell):
        return "float"
    return "list" if cell[0] == "[" and _is_list(cell) else TEXT


def _is_list(cell):
    try:
        array = json_array(json.loads(cell))
    except (ValueError, OverflowError, RecursionError):
        return False
    return array.dtype.kind in "biufU" and array.ndim > 0


def _wider(old, new):
    if old in (None, new):
        return new
    return "float" if {old, new} == {"int", "float"} else TEXT


def _parse(cell, kind):
    if not cell or kind == TEXT:
        return cell if kind == TEXT else None
    if kind == "bool":
        return _BOOLS[cell]
    return json.loads(cell) if kind == "list" else {"int": int, "float": float}[kind](cell)


class CsvSink(SidecarSink):
    """Records to a CSV or TSV file.

    Args:
        path: the file.
        schema: `Schema` of bool, integers, floats, strings and bytes; it is kept in `<path>.schema.json`.
        metadata: none.
        delimiter: by default "," or, of `.tsv` files, a tab.
        header: whether the first line names the columns.
    """

    def __init__(
        self,
        path: AnyPath,
        schema: Schema,
        metadata: Mapping[str, Any] | None = None,
        delimiter: str | None = None,
        header: bool = True,
    ) -> None:
        no_metadata(metadata, "CSV", path)
        check(schema, "CSV")
        super().__init__(path, schema, _SAYS, "record" if header else "row")
        self._file = self._aside.open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(_Lines(self._file), delimiter=delimiter or _delimiter(path), lineterminator="\r\n")
        if header:
            self._csv.writerow(list(schema))

    def _put(self, record):
        cells = []
        for name, value in record.items():
            field = self.schema[name]
            cell = format_cell(value, field)
            if not cell and value is not None and field.optional:
                raise RecordError("CSV cannot tell an empty text from none", self._count, name)
            if "\0" in cell:
                raise RecordError("CSV cannot hold the character NUL", self._count, name)
            cells.append(cell)
        try:
            self._csv.writerow(cells)
        except UnicodeEncodeError as error:
            raise RecordError(str(error), self._count) from None

    def _finish(self):
        self._file.close()

    def _drop(self):
        self._file.close()


class _Lines:
    """Ends the lines of `csv.writer` by a newline.

    They come with a carriage return too: before Python 3.13 a text that has one is put in quotes only then.
    """

    def __init__(self, file):
        self._file = file

    def write(self, line):
        return self._file.write(line[:-2] + "\n")


FORMAT = Format("csv", (".csv", ".tsv"), CsvSource, CsvSink, keeps_metadata=False)
