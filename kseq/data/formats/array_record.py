"""ArrayRecord files: read and written."""

import os

from ..errors import FormatError, SchemaError
from ..store.schema import BINARY, Field, Schema
from ..store.writer import as_schema
from .base import Format, RecordSource, require
from .files import files_of, no_metadata
from .sidecar import SidecarSink, agreed, check_count, read_sidecar
from .tf.messages import Malformed
from .tf.writing import encoder

_BLOCK = 1 << 16  # files are whole blocks
_READ_AT_ONCE = 256
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

    Raises:
        FormatError: a damaged or truncated file.
    """

    def __init__(self, path, kind=None, field=None, schema=None):
        self._module = require("array_record.python.array_record_module")
        self._files = files_of(path, FORMAT.suffixes)
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
        self._counts = []
        for file, sidecar in zip(self._files, sidecars, strict=True):
            reader = self._reader(file)
            self._counts.append(reader.num_records())
            reader.close()
            check_count(file, self._counts[-1], sidecar)

    def __len__(self):
        return sum(self._counts)

    def _reader(self, path):
        size = os.path.getsize(path)
        if size == 0 or size % _BLOCK:
            raise FormatError(
                f"truncated, or no ArrayRecord file: it must have blocks of {_BLOCK} bytes; received {size}", path
            )
        reader = self._module.ArrayRecordReader(os.fspath(path))
        # The reader of a damaged file says only here that it is, and counts 0 records.
        if not reader.ok():
            raise FormatError(f"damaged, or no ArrayRecord file: {_reason(reader)}", path)
        return reader

    def __iter__(self):
        if self._kind == "bytes":
            for data, _, _ in self._data():
                yield {self._field: data}
            return
        decode = tfexample.example_record if self.schema is None else tfexample.decoder(self.schema, "example")
        for data, path, number in self._data():
            try:
                record = decode(data)
            except Malformed as error:
                raise FormatError(f"record {number} is no tf.train.Example: {error}", path) from None
            yield record

    def _data(self):
        for path, count in zip(self._files, self._counts, strict=True):
            reader = self._reader(path)
            try:
                for start in range(0, count, _READ_AT_ONCE):
                    stop = min(start + _READ_AT_ONCE, count)
                    try:
                        part = reader.read(start, stop)
                    except Exception as error:
                        raise FormatError(f"records {start} to {stop} are damaged: {error}", path) from None
                    if len(part) != stop - start or not reader.ok():
                        raise FormatError(f"records {start} to {stop} are damaged: {_reason(reader)}", path)
                    for number, data in enumerate(part, start):
                        yield data, path, number
            finally:
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

    def __init__(self, path, schema, metadata=None, kind=None, options="group_size:1"):
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
