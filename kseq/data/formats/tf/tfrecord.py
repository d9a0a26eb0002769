"""TFRecord files, read and written without TensorFlow; their schema lies in a file beside them."""

import functools
import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ....annotations import AnyPath, AnyPaths
from ...errors import FormatError, SchemaError, StoreNotFoundError
from ...store.schema import Field, Schema
from ...store.writer import as_schema
from ..base import Format, RecordSink, RecordSource, rows_of
from ..files import files_of
from ..sidecar import SIDECAR, SidecarSink, agreed, check_count, read_sidecar
from .columns import column_decoder, columns_of
from .frames import WBITS, batches, frame, frames
from .guess import LOOKED_AT, Guess
from .messages import Malformed
from .records import record_decoder
from .writing import encoder

KINDS = ("example", "sequence_example", "bytes")
_FORMAT = "kseq-tfrecord-1"  # of the file beside


def read_tfrecord(
    path: AnyPaths,
    *,
    schema: Mapping[str, Any] | None = None,
    kind: str | None = None,
    compression: str | None = "auto",
    verify: bool = True,
    max_bytes: int | None = None,
) -> RecordSource:
    """Read the records of TFRecord files.

    Without a schema, neither given nor written by kseq beside the file, each feature is under its name: numbers as
    arrays of int64 or float32 `[T]`, or as scalars where each of the first 1000 records, of several, has one, one byte
    string as bytes, none or several as a list of bytes. First comes the sequence with the most steps of those whose
    length varies, which is then the main one; the others follow by name, whatever their order in the file. Of a
    SequenceExample, context features of one number are scalars, and feature lists are `[T]`, or `[T, D]` where the
    steps do not hold one number each. With a schema, values have its shapes and dtypes, exactly: raw bytes are
    decoded, strings are UTF-8, and what the schema does not name is left out.

    Args:
        path: a file, a list of files, a folder, or a pattern like `"train-*.tfrecord"`, whose files are sorted by name.
        schema: the `Schema` of the records; by default that of `<path>.schema.json`, if kseq wrote one.
        kind: "example", "sequence_example", or "bytes" for the records as they are, in a field "data"; by default
            what `<path>.schema.json` says, else "example".
        compression: None, "GZIP" or "ZLIB"; "auto" looks at the beginning of each file.
        verify: whether to check the checksums.
        max_bytes: what a compressed record may take in memory; by default 64 MB, or 64 times the file.

    Returns:
        A `RecordSource`, with the metadata of the first file that has some. Its iteration raises `FormatError`, with
        file, record and byte, for what is damaged or does not fit the schema.

    Raises:
        StoreNotFoundError: no such file.
        FormatError: `<path>.schema.json` is damaged, or those of several files differ.
        SchemaError: a schema that is none, or not that of kind "bytes".

    Example:
        >>> import tempfile
        >>> from kseq.data import Schema
        >>> path = tempfile.mkdtemp() + "/train.tfrecord"
        >>> with write_tfrecord(path, Schema({"tokens": ("int32", (None,))})) as sink:
        ...     sink.write({"tokens": [3, 1]})
        >>> for record in read_tfrecord(path):
        ...     print(record["tokens"])
        [3 1]
    """
    return _TFRecordSource(path, schema, kind, compression, verify, max_bytes)


def write_tfrecord(
    path: AnyPath,
    schema: Mapping[str, Any],
    metadata: dict[str, Any] | None = None,
    *,
    kind: str = "example",
    compression: str | None = None,
) -> RecordSink:
    """Write records to a TFRecord file, and what it cannot say itself, the schema, to `<path>.schema.json`.

    Integers that fit int64 are written as int64_list, float32 and float16 as float_list, arrays row by row, strings
    and bytes (NumPy's S too) as bytes_list. Everything else, such as float64, is one byte string: the raw bytes of
    the array, little end first (`tf.io.decode_raw` reads them). In a SequenceExample sequences are feature lists, and
    other fields are the context.

    Args:
        path: of the new file.
        schema: the `Schema` of the records.
        metadata: a dict of JSON values.
        kind: "example", "sequence_example", or "bytes", for which the schema has one field, of bytes.
        compression: None, "GZIP" or "ZLIB".

    Returns:
        A `RecordSink`, to be used as a context manager. Its `write` raises `RecordError` for what does not fit the
        schema.

    Raises:
        StoreExistsError: there is something at the path.
        StoreWriteError: the operating system refuses.
        SchemaError: a schema that is none, or not that of kind "bytes".

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/new.tfrecord"
        >>> with write_tfrecord(path, Schema({"tokens": ("int32", (None,))})) as sink:
        ...     sink.write({"tokens": [1, 2, 3]})
    """
    return _TFRecordSink(path, schema, {} if metadata is None else metadata, kind, compression)


# ---- reading


class _TFRecordSource(RecordSource):
    schema: Schema | None

    def __init__(self, path, schema, kind, compression, verify, max_bytes):
        if compression not in (None, "auto", *WBITS):
            raise ValueError(f"compression must be None, 'GZIP', 'ZLIB' or 'auto'; received {compression!r}")
        self._files = [file for file in files_of(path, FORMAT.suffixes) if not file.endswith(SIDECAR)]
        if not self._files:
            raise StoreNotFoundError("no such file", path)
        self._how = compression, verify, max_bytes
        sidecars = [read_sidecar(file, _FORMAT, KINDS) for file in self._files]
        self._sidecars = sidecars
        known = [sidecar for sidecar in sidecars if sidecar is not None]
        if kind is None:
            kind = agreed(self._files, sidecars, "kind") or "example"
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}; received {kind!r}")
        if schema is None:
            schema = agreed(self._files, sidecars, "schema")
        else:
            schema = as_schema(schema)
        if schema is None and kind == "bytes":
            schema = Schema({"data": Field("bytes")})
        self.schema, self.metadata = schema, known[0]["metadata"] if known else {}
        self._kind = kind
        if kind == "bytes":
            name = _bytes_field(schema)
            self._decode: Callable[[Any], dict[str, Any]] = lambda batch: {name: batch}
        else:
            self._decode = record_decoder(kind) if schema is None else column_decoder(schema, kind)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        found = self.columns()
        if found is not None:
            for columns in found:
                yield from rows_of(columns)
            return
        first = itertools.islice(self._records(lambda record: record), LOOKED_AT)
        yield from self._records(Guess(first, self._kind == "example"))

    def columns(self) -> Iterator[dict[str, Any]] | None:
        if self.schema is None:
            return None
        return self._columns()

    def _columns(self):
        for path, sidecar in zip(self._files, self._sidecars, strict=True):
            count = 0
            for batch in batches(path, *self._how):
                offsets, messages = zip(*batch, strict=True)
                yield from columns_of(self._decode, messages, functools.partial(_damage, path, count, offsets))
                count += len(batch)
            check_count(path, count, sidecar)

    def _records(self, finish):
        for path, sidecar in zip(self._files, self._sidecars, strict=True):
            number = -1
            for number, (offset, data) in enumerate(frames(path, *self._how)):
                try:
                    record = finish(self._decode(data))
                except Malformed as error:
                    raise _damage(path, number, [offset], 0, error) from None
                yield record
            check_count(path, number + 1, sidecar)


def _damage(path, first, offsets, place, wrong):
    return FormatError(f"record {first + place} at byte {offsets[place]}: {wrong}", path)


def _bytes_field(schema):
    """The name of the one field that records of kind "bytes" have."""
    (name, field), *more = schema.items()
    if more or field.dtype != "bytes" or field.optional:
        raise SchemaError(f"records of kind 'bytes' have one field of dtype 'bytes'; received {schema}")
    return name


# ---- writing


class _TFRecordSink(SidecarSink):
    def __init__(self, path, schema, metadata, kind, compression):
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}; received {kind!r}")
        if compression not in (None, *WBITS):
            raise ValueError(f"compression must be None, 'GZIP' or 'ZLIB'; received {compression!r}")
        if not isinstance(metadata, dict):
            raise ValueError(f"metadata must be a dict of JSON values; received {metadata!r:.100}")
        schema = as_schema(schema)
        self._encode = encoder(schema, kind) if kind != "bytes" else _bytes_encoder(schema)
        super().__init__(path, schema, _FORMAT, kind, metadata)
        self._deflate = None if compression is None else zlib.compressobj(6, zlib.DEFLATED, WBITS[compression])
        self._file = self._aside.open("xb", buffering=1 << 18)

    def _put(self, record):
        data = frame(self._encode(record, self._count))
        self._file.write(data if self._deflate is None else self._deflate.compress(data))

    def _finish(self):
        if self._deflate is not None:
            self._file.write(self._deflate.flush())
        self._file.close()

    def _drop(self):
        self._file.close()


def _bytes_encoder(schema):
    name = _bytes_field(schema)
    return lambda record, number: record[name]


FORMAT = Format("tfrecord", (".tfrecord", ".tfrecords", ".tfr"), read_tfrecord, write_tfrecord)
