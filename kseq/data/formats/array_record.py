"""ArrayRecord files: read and written."""

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ...annotations import AnyPath, AnyPaths
from ..errors import FormatError, SchemaError
from ..store.schema import BINARY, Field, Schema
from ..store.writer import as_schema
from .base import Format, RecordSource, require, rows_of
from .child import limited
from .files import check_expansion, files_of, no_metadata
from .sidecar import SidecarSink, agreed, check_count, read_sidecar
from .tf.columns import column_decoder, columns_of
from .tf.messages import Malformed
from .tf.records import record_decoder
from .tf.writing import encoder

_BLOCK = 1 << 16  # files are whole blocks
_AT_ONCE, _BYTES_AT_ONCE = 1024, 4 << 20  # records and bytes that are read together
_KINDS = ("bytes", "example")
_SAYS = "kseq-array_record-1"  # the file beside


class ArrayRecordSource(RecordSource):
    """Records of ArrayRecord files.

    Args:
        path: a file, a pattern, a folder, or a list of files.
        kind: what a record is: "bytes" (a field of bytes) or "example" (a serialized `tf.train.Example`); by default
            what `<path>.schema.json` says, else "bytes".
        field: name of the field of bytes; by default what `<path>.schema.json` says, else "record".
        schema: of the examples, by which their features become arrays; by default what `<path>.schema.json` says.
        max_bytes: what a compressed record may take in memory; by default 64 MB, or 64 times the file.

    Raises:
        FormatError: a damaged or truncated file, or one compressed beyond that.
    """

    schema: Schema | None

    def __init__(
        self,
        path: AnyPaths,
        kind: str | None = None,
        field: str | None = None,
        schema: Mapping[str, Any] | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self._files, self._max_bytes = files_of(path, FORMAT.suffixes), max_bytes
        sidecars = [read_sidecar(file, _SAYS, _KINDS) for file in self._files]
        kind = kind or agreed(self._files, sidecars, "kind") or "bytes"
        if kind not in _KINDS:
            raise ValueError(f"kind must be 'bytes' or 'example'; received {kind!r}")
        kept = agreed(self._files, sidecars, "schema") if kind == agreed(self._files, sidecars, "kind") else None
        if kind == "bytes":
            self._field = field or (next(iter(kept)) if kept else "record")
            self.schema = Schema({self._field: Field(BINARY)})
        else:
            self.schema = kept if schema is None else as_schema(schema)
        self._kind = kind
        self._counts: list[int] = []
        for file, sidecar in zip(self._files, sidecars, strict=True):
            self._counts.append(self._ask(count_records, file))
            check_count(file, self._counts[-1], sidecar)

    def __len__(self) -> int:
        return sum(self._counts)

    def _ask(self, function: Any, path: AnyPath, *arguments: Any) -> Any:
        return limited(function, os.fspath(path), *arguments, max_bytes=self._max_bytes)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        found = self.columns()
        if found is not None:
            for columns in found:
                yield from rows_of(columns)
            return
        decode = record_decoder("example")
        for part, path, first in self._parts():
            for place, data in enumerate(part):
                try:
                    record = decode(data)
                except Malformed as error:
                    raise _damage(path, first, place, error) from None
                yield record

    def columns(self) -> Iterator[dict[str, Any]] | None:
        if self._kind == "bytes":
            return ({self._field: part} for part, _, _ in self._parts())
        return None if self.schema is None else self._columns(self.schema)

    def _columns(self, schema: Schema) -> Iterator[dict[str, Any]]:
        decode = column_decoder(schema, "example")
        for part, path, first in self._parts():
            yield from columns_of(decode, part, functools.partial(_damage, path, first))

    def _parts(self):
        """Yield some records, their file, and the number of the first."""
        for path, count in zip(self._files, self._counts, strict=True):
            start, size = 0, 1
            while start < count:
                part = self._ask(read_records, path, start, min(start + size, count), self._max_bytes)
                yield part, path, start
                start += len(part)
                # As many as are some megabytes: how large they are shows only now.
                mean = sum(map(len, part)) / len(part)
                size = min(max(int(_BYTES_AT_ONCE / (mean + 1)), 1), 4 * size, _AT_ONCE)


def _damage(path, first, place, wrong):
    return FormatError(f"record {first + place} is no tf.train.Example: {wrong}", path)


# ---- in another process: the library ends it where records are damaged, and unpacks them whatever they take


def count_records(path: AnyPath) -> int:
    """How many records a file has."""
    with _opened(path) as reader:
        return reader.num_records()


def read_records(path: AnyPath, start: int, stop: int, max_bytes: int | None) -> list[bytes]:
    """Records of a file, bytes."""
    with _opened(path) as reader:
        try:
            found = reader.read(start, stop)
        except Exception as error:
            raise FormatError(f"records {start} to {stop} are damaged: {error}", path) from None
        if len(found) != stop - start or not reader.ok():
            raise FormatError(f"records {start} to {stop} are damaged: {_reason(reader)}", path)
        for number, data in enumerate(found, start):
            check_expansion(len(data), os.path.getsize(path), f"record {number}", path, max_bytes)
        return found


@contextlib.contextmanager
def _opened(path):
    module = require("array_record.python.array_record_module")
    size = os.path.getsize(path)
    if size == 0 or size % _BLOCK:
        raise FormatError(
            f"truncated, or no ArrayRecord file: it must have blocks of {_BLOCK} bytes; received {size}", path
        )
    reader = module.ArrayRecordReader(path)
    try:
        # The reader of a damaged file says only here that it is, and counts 0 records.
        if not reader.ok():
            raise FormatError(f"damaged, or no ArrayRecord file: {_reason(reader)}", path)
        yield reader
    finally:
        with contextlib.suppress(RuntimeError):  # of a damaged file
            reader.close()


def _reason(reader):
    try:
        reader.read_all()
    except Exception as error:
        return str(error)
    return "the reader does not say why"


class ArrayRecordSink(SidecarSink):
    """Records to an ArrayRecord file.

    Args:
        path: the file.
        schema: `Schema`; of one field of bytes where kind is "bytes". It is kept in `<path>.schema.json`.
        metadata: none: the format has no place for it.
        kind: "bytes", or "example" for a serialized `tf.train.Example`; by default by the schema.
        options: of the writer, as array_record takes them.
    """

    def __init__(
        self,
        path: AnyPath,
        schema: Schema,
        metadata: Mapping[str, Any] | None = None,
        kind: str | None = None,
        options: str = "group_size:1",
    ) -> None:
        module = require("array_record.python.array_record_module")
        no_metadata(metadata, "ArrayRecord", path)
        only = next(iter(schema.values())) if len(schema) == 1 else None
        bare = only is not None and only.dtype is BINARY and not only.optional
        kind = kind or ("bytes" if bare else "example")
        if kind not in _KINDS or (kind == "bytes" and not bare):
            raise SchemaError(f"kind must be 'example', or 'bytes' with one field of bytes; received {kind!r} {schema}")
        if kind == "example":
            self._encode = encoder(schema, "example")
        self._kind = kind
        super().__init__(path, schema, _SAYS, kind)
        self._writer = module.ArrayRecordWriter(os.fspath(self._aside.temporary), options)

    def _put(self, record):
        if self._kind == "bytes":
            (data,) = record.values()
        else:
            data = self._encode(record, self._count)
        try:
            self._writer.write(data)
        except RuntimeError as error:
            raise OSError(str(error)) from error

    def _finish(self):
        try:
            self._writer.close()
        except RuntimeError as error:
            raise OSError(str(error)) from error

    def _drop(self):
        if self._writer.is_open():
            self._writer.close()


FORMAT = Format(
    "array_record", (".array_record", ".arrayrecord"), ArrayRecordSource, ArrayRecordSink, "array_record", False
)
