"""JSON lines: a JSON object a line, read and written; bytes are base64."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ...annotations import AnyPath, AnyPaths
from ..errors import FormatError
from ..store.schema import Schema
from ..store.writer import as_schema
from .base import Format, RecordSource
from .cells import check, from_json, to_json
from .files import files_of, no_metadata
from .schemas import Inferred
from .sidecar import SidecarSink, check_names, kept_beside

_SAYS = "kseq-jsonl-1"  # the file beside


class JsonlSource(RecordSource):
    """Records of files with a JSON object a line; empty lines are skipped.

    The schema is that of `<path>.schema.json`, if kseq wrote one: then lines have its fields and no others. Else a
    first pass over all files finds it: lists of numbers are sequences of int64 or float64, beside numbers, bool and
    strings; a field that is null or missing in some line is optional.

    Args:
        path: a file, a pattern, a folder, or a list of files.
        schema: `Schema` of the records; fields that it does not name are left out.

    Raises:
        FormatError: a line that is no JSON object, or does not fit the schema; the error names it.
    """

    schema: Schema | None = None

    def __init__(self, path: AnyPaths, schema: Mapping[str, Any] | None = None) -> None:
        self._files = files_of(path, FORMAT.suffixes)
        kept, self._whole = kept_beside(self._files, _SAYS) if schema is None else None, False
        if kept is not None:
            self.schema, self._whole = kept, True
        elif schema is None:
            found = Inferred()
            for file, line, record in self._lines():
                found.add(record, f"{file} line {line}")
            if not found.count:
                return  # no lines: nothing is known
            if not found.seen:
                raise FormatError("its lines have no fields", self._files[0])
            self.schema = found.schema(self._files[0])
        else:
            self.schema = check(as_schema(schema), "JSON")

    def _lines(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        for path in self._files:
            with open(path, "rb") as file:
                for number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    try:
                        record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                    except (ValueError, RecursionError) as error:
                        raise FormatError(f"line {number}: it is no JSON: {error}", path) from None
                    if not isinstance(record, dict):
                        raise FormatError(f"line {number}: it must be an object; received {record!r:.100}", path)
                    yield path, number, record

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.schema is None:  # there are no lines
            return
        for path, line, record in self._lines():
            values = {}
            if self._whole:
                check_names(record, self.schema, f"{path} line {line}")
            for name, field in self.schema.items():
                try:
                    values[name] = from_json(record.get(name), field)
                except (ValueError, TypeError, OverflowError) as error:
                    have = f"{record.get(name)!r:.100} ({error})"
                    raise FormatError(
                        f"line {line}, field {name!r}: it must be {field}; received {have}", path
                    ) from None
            yield values


class JsonlSink(SidecarSink):
    """Records to a file with a JSON object a line.

    Args:
        path: the file.
        schema: `Schema` of bool, integers, floats, strings and bytes; it is kept in `<path>.schema.json`. Floats that
            are not finite are written as Python does: NaN, Infinity.
        metadata: none.
    """

    def __init__(self, path: AnyPath, schema: Schema, metadata: Mapping[str, Any] | None = None) -> None:
        no_metadata(metadata, "JSON lines", path)
        check(schema, "JSON")
        super().__init__(path, schema, _SAYS)
        self._file = self._aside.open("w", encoding="utf-8")

    def _put(self, record):
        values = {name: to_json(value, self.schema[name]) for name, value in record.items() if value is not None}
        self._file.write(json.dumps(values) + "\n")

    def _finish(self):
        self._file.close()

    def _drop(self):
        self._file.close()


FORMAT = Format("jsonl", (".jsonl", ".ndjson"), JsonlSource, JsonlSink, keeps_metadata=False)
