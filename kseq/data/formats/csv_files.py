"""CSV and TSV files with a header, read and written.

A cell of a sequence or array is a JSON list, one of bytes is base64, an empty cell is a value that is not there (in
columns of text: the empty text, unless a schema says that it may be left out).
"""

import base64
import csv
import json
import os
import re
import sys

import numpy as np

from ..errors import FormatError, RecordError, SchemaError
from ..store.conversion import convert_record
from ..store.schema import TEXT
from ..store.writer import as_schema
from .base import Format, RecordSource
from .files import files_of, no_metadata
from .schemas import Inferred, json_array
from .sidecar import SidecarSink, check_names, kept_beside

_SAYS = "kseq-csv-1"  # the file beside

# Numbers with leading zeros or plus are codes (postal, telephone), not numbers.
_INT = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|nan|-?inf|NaN|-?Infinity")
_BOOLS = {"true": True, "false": False}


class CsvSource(RecordSource):
    """Records of CSV or TSV files.

    The schema is that of `<path>.schema.json`, if kseq wrote one: then there are its columns and no others. Else a
    first pass over all files finds it: a column whose cells are all `true` or `false` is bool, one of integers int64,
    of numbers float64, of JSON lists of numbers a sequence, anything else string.

    Args:
        path: a file, a pattern, a folder, or a list of files of equal headers.
        schema: `Schema` of the records; columns that it does not name are left out.
        delimiter: by default "," or, of `.tsv` files, a tab.

    Raises:
        FormatError: a file that is not so; the error names the line.
    """

    def __init__(self, path, schema=None, delimiter=None):
        self._files, self._delimiter = files_of(path, FORMAT.suffixes), delimiter
        self._header = self._head(self._files[0])
        for file in self._files[1:]:
            if self._head(file) != self._header:
                raise FormatError(f"files must have the header {self._header}; received {self._head(file)}", file)
        kept = kept_beside(self._files, _SAYS) if schema is None else None
        if kept is not None:
            self.schema = kept
            check_names(self._header, kept, self._files[0], all_of_them=True)
        elif schema is None:
            self.schema = self._infer()
        else:
            self.schema = check(as_schema(schema), "CSV")
            missing = [name for name in self.schema if name not in self._header]
            if missing:
                raise FormatError(f"there must be columns {missing}; received {self._header}", self._files[0])

    def _head(self, path):
        header = next((cells for _, cells in self._rows(path, None)), None)
        if not header or len(set(header)) < len(header) or not all(header):
            raise FormatError(f"the first line must be names of columns that differ; received {header}", path)
        return header

    def _rows(self, path, width):
        delimiter = self._delimiter or ("\t" if path.lower().endswith(".tsv") else ",")
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            while True:
                # The limit is the module's, of all readers: long sequences need it only here.
                limit = csv.field_size_limit(sys.maxsize)
                try:
                    cells = next(rows, None)
                except (csv.Error, UnicodeDecodeError) as error:
                    raise FormatError(f"line {rows.line_num + 1}: {error}", path) from None
                finally:
                    csv.field_size_limit(limit)
                if cells is None:
                    return
                if width is not None and not cells and width == 1:
                    cells = [""]  # an empty line is an empty cell where there is one column
                if width is not None and len(cells) != width:
                    raise FormatError(f"line {rows.line_num}: {width} cells must be there; received {len(cells)}", path)
                yield rows.line_num, cells

    def _lines(self):
        for path in self._files:
            rows = self._rows(path, len(self._header))
            next(rows, None)
            for line, cells in rows:
                yield path, line, cells

    def _infer(self):
        kinds = dict.fromkeys(self._header)
        for _, _, cells in self._lines():
            for name, cell in zip(self._header, cells, strict=True):
                if cell and kinds[name] != TEXT:
                    kinds[name] = _wider(kinds[name], _kind(cell))
        found = Inferred()
        if not self._header:
            raise FormatError("there must be a column", self._files[0])
        self._kinds = [kinds[name] or TEXT for name in self._header]
        for path, line, cells in self._lines():
            found.add(self._parsed(cells), f"{path} line {line}")
        if not found.count:
            found.add(dict.fromkeys(self._header, ""), self._files[0])
        return found.schema(self._files[0])

    def _parsed(self, cells):
        return {
            name: cell if kind == TEXT else _parse(cell, kind)
            for name, kind, cell in zip(self._header, self._kinds, cells, strict=True)
        }

    def __iter__(self):
        places = {name: place for place, name in enumerate(self._header)}
        wanted = [(name, field, places[name]) for name, field in self.schema.items()]
        for path, line, cells in self._lines():
            record = {}
            for name, field, place in wanted:
                try:
                    record[name] = _value(cells[place], field)
                except (ValueError, OverflowError, RecursionError, TypeError) as error:
                    raise FormatError(
                        f"line {line}, column {name!r}: it must be {field}; received {cells[place]!r:.100} ({error})",
                        path,
                    ) from None
            yield record


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
    return array.dtype.kind in "biuf" and array.ndim > 0


def _wider(old, new):
    if old in (None, new):
        return new
    return "float" if {old, new} == {"int", "float"} else TEXT


def _parse(cell, kind):
    if not cell:
        return None
    if kind == "bool":
        return _BOOLS[cell]
    return json.loads(cell) if kind == "list" else {"int": int, "float": float}[kind](cell)


def check(schema, name):
    """The schema, if text can hold its fields.

    Raises:
        SchemaError: a dtype that it cannot.
    """
    for key, field in schema.items():
        if not field.text and not (field.dtype.kind in "biuf" or field.dtype.isbuiltin == 2):
            raise SchemaError(f"{name} holds bool, integers, floats, strings and bytes; received {key!r}: {field}")
        if not field.text and field.dtype.kind == "f" and field.dtype.itemsize > 8:
            raise SchemaError(f"{name} holds floats of up to 64 bits; received {key!r}: {field}")
    return schema


def from_json(value, field):
    """A JSON value as a field's value.

    Raises:
        ValueError, TypeError, OverflowError: it is none (`RecordError` is a ValueError).
    """
    if value is None:
        if not field.optional:
            raise ValueError("a value must be there")
        return None
    if field.text:
        if not isinstance(value, str):
            raise TypeError(f"a string must be there; received {type(value).__name__}")
        return value if field.dtype == TEXT else base64.b64decode(value, validate=True)
    if field.dtype == "uint64" and isinstance(value, list) and value:
        value = json_array(value)
    return convert_record({"value": field}, {"value": value})["value"].astype(field.dtype, copy=False)


def to_json(value, field):
    """A field's value as a JSON value."""
    if value is None or field.dtype == TEXT:
        return value
    if field.text:
        return base64.b64encode(value).decode()
    return (value.astype("float64") if field.dtype.isbuiltin == 2 else value).tolist()


def _value(cell, field):
    if field.dtype == TEXT:
        return None if field.optional and not cell else cell
    if not cell and (field.optional or not field.text):
        return from_json(None, field)
    if field.text:
        return from_json(cell, field)
    if field.shape:
        value = json.loads(cell)
        if not isinstance(value, list):
            raise ValueError("a JSON list must be there")
        return from_json(value, field)
    if field.dtype.kind == "b":
        if cell not in _BOOLS:
            raise ValueError(f"one of {sorted(_BOOLS)} must be there")
        return np.asarray(_BOOLS[cell])
    return from_json(int(cell) if field.dtype.kind in "iu" else float(cell), field)


class CsvSink(SidecarSink):
    """Records to a CSV or TSV file with a header.

    Args:
        path: the file.
        schema: `Schema` of bool, integers, floats, strings and bytes; it is kept in `<path>.schema.json`.
        metadata: none.
        delimiter: by default "," or, of `.tsv` files, a tab.
    """

    def __init__(self, path, schema, metadata=None, delimiter=None):
        no_metadata(metadata, "CSV", path)
        check(schema, "CSV")
        super().__init__(path, schema, _SAYS)
        self._file = self._aside.open("w", encoding="utf-8", newline="")
        delimiter = delimiter or ("\t" if os.fspath(path).lower().endswith(".tsv") else ",")
        self._csv = csv.writer(_Lines(self._file), delimiter=delimiter, lineterminator="\r\n")
        self._csv.writerow(list(schema))

    def _put(self, record):
        cells = []
        for name, value in record.items():
            field = self.schema[name]
            value = to_json(value, field)
            if field.text and value == "" and field.optional:
                raise RecordError("CSV cannot tell an empty text from none", self._count, name)
            if isinstance(value, str) and "\0" in value:
                raise RecordError("CSV cannot hold the character NUL", self._count, name)
            cells.append(_cell(value))
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


def _cell(value):
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, (list, bool)) else value


FORMAT = Format("csv", (".csv", ".tsv"), CsvSource, CsvSink, keeps_metadata=False)
