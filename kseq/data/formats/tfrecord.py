"""TFRecord files: framing, checksums and compression, beside the files' schemas, without TensorFlow."""

import contextlib
import glob
import json
import os
import struct
import uuid
import zlib

from kseq import _ext

from ..errors import (
    FormatError,
    RecordError,
    SchemaError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StoreWriteError,
)
from ..schema import Field, Schema
from . import tfexample
from .base import Format, Sink, Source

KINDS = ("example", "sequence_example", "bytes")
_HEADER = struct.Struct("<QI")
_WBITS = {"GZIP": 31, "ZLIB": 15}
_SIDECAR, _SIDECAR_FORMAT = ".schema.json", "kseq-tfrecord-1"
_CHUNK = 1 << 18
_MOST_INFLATED = 1040  # bytes that a compressed byte can stand for: zlib's bound, and some


def read_tfrecord(path, *, schema=None, kind=None, compression="auto", verify=True):
    """Read the records of TFRecord files.

    Without a schema, neither given nor written by kseq beside the file, each feature is under its name: numbers as
    arrays of int64 or float32 `[T]`, one byte string as bytes, none or several as a list of bytes. Of a
    SequenceExample, context features of one number are scalars, and feature lists are `[T]`, or `[T, D]` where the
    steps do not hold one number each. With a schema, values have its shapes and dtypes, exactly: raw bytes are
    decoded, strings are UTF-8, and what the schema does not name is left out.

    Args:
        path: a file, a list of files, or a pattern like `"train-*.tfrecord"`, whose files are sorted by name.
        schema: the `Schema` of the records; by default that of `<path>.schema.json`, if kseq wrote one.
        kind: "example", "sequence_example", or "bytes" for the records as they are, in a field "data"; by default
            what `<path>.schema.json` says, else "example".
        compression: None, "GZIP" or "ZLIB"; "auto" looks at the beginning of each file.
        verify: whether to check the checksums.

    Returns:
        A `Source`, with the metadata of the first file that has some. Its iteration raises `FormatError`, with file,
        record and byte, for what is damaged or does not fit the schema.

    Raises:
        StoreNotFoundError: no such file.
        FormatError: `<path>.schema.json` is damaged, or those of several files differ.
        SchemaError: a schema that is none, or not that of kind "bytes".

    Example:
        >>> for record in read_tfrecord("train-*.tfrecord"):
        ...     print(record["tokens"])
    """
    return _Source(_paths(path), schema, kind, compression, verify)


def write_tfrecord(path, schema, metadata=None, *, kind="example", compression=None):
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
        A `Sink`, to be used as a context manager. Its `write` raises `RecordError` for what does not fit the schema.

    Raises:
        StoreExistsError: there is something at the path.
        StoreWriteError: the operating system refuses.
        SchemaError: a schema that is none, or not that of kind "bytes".

    Example:
        >>> with write_tfrecord("new.tfrecord", Schema({"tokens": ("int32", (None,))})) as sink:
        ...     sink.write({"tokens": [1, 2, 3]})
    """
    return _Sink(os.fspath(path), schema, {} if metadata is None else metadata, kind, compression)


# ---- frames


def masked(crc):
    """A CRC as TFRecord files keep it, so that the CRC of data which holds its own CRC is of use."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class _Plain:
    """The bytes of a file."""

    def __init__(self, file):
        self._file, self.read = file, file.read
        self._size = os.fstat(file.fileno()).st_size

    def left(self):
        """How many bytes there may be yet."""
        return self._size - self._file.tell()


class _Inflated:
    """The bytes that a compressed file stands for."""

    def __init__(self, file, wbits):
        self._file, self._wbits = file, wbits
        self._size = os.fstat(file.fileno()).st_size
        self._inflate = zlib.decompressobj(wbits)
        self._packed, self._ready = b"", bytearray()

    def read(self, size):
        """So many bytes, or those up to the end.

        Raises:
            zlib.error: the compressed data is damaged.
        """
        while len(self._ready) < size and self._more():
            pass
        data = bytes(self._ready[:size])
        del self._ready[:size]
        return data

    def left(self):
        """How many bytes there may be yet."""
        return len(self._ready) + _MOST_INFLATED * (self._size - self._file.tell() + len(self._packed) + _CHUNK)

    def _more(self):
        packed = self._packed or self._file.read(_CHUNK)
        if self._inflate.eof:
            if not packed:
                return False
            if self._wbits != _WBITS["GZIP"]:
                raise zlib.error("there is something after the end of the compressed data")
            self._inflate = zlib.decompressobj(self._wbits)  # gzip files may be joined
        data = self._inflate.decompress(packed, _CHUNK)
        if not packed and not data and not self._inflate.eof:
            raise zlib.error("the compressed data is cut off")
        self._ready += data
        self._packed = self._inflate.unconsumed_tail or self._inflate.unused_data
        return True


def _opened(file, compression):
    """The bytes of a file, and how they are compressed ("auto": found out)."""
    if compression == "auto":
        start = file.read(_HEADER.size)
        file.seek(0)
        compression = _detect(start)
    return (_Plain(file) if compression is None else _Inflated(file, _WBITS[compression])), compression


def _detect(start):
    # A record of the right length begins like gzip, but then its checksum holds too.
    if len(start) == _HEADER.size and _HEADER.unpack(start)[1] == masked(_ext.crc32c(start[:8])):
        return None
    if start[:2] == b"\x1f\x8b":
        return "GZIP"
    if len(start) > 1 and start[0] & 0x8F == 0x08 and int.from_bytes(start[:2], "big") % 31 == 0:
        return "ZLIB"
    return None


def frames(path, compression="auto", verify=True):
    """Yield the offset and the data of each record of a file, from the first to the last.

    Raises:
        FormatError: a file that is cut off or damaged.
    """
    number = offset = 0
    try:
        with open(path, "rb", buffering=_CHUNK) as file:
            data, compression = _opened(file, compression)
            header = data.read(_HEADER.size)
            while header:
                if len(header) < _HEADER.size:
                    raise _Damage(f"its header is cut off: {len(header)} of {_HEADER.size} bytes")
                size, crc = _HEADER.unpack(header)
                if verify and masked(_ext.crc32c(header[:8])) != crc:
                    raise _Damage("the checksum of its length is wrong" + _hint(number, compression))
                if size + 4 > data.left():
                    raise _Damage(f"it is cut off: its length is {size}, and at most {data.left()} bytes are left")
                record = data.read(size)
                # The checksum of this record and the header of the next, in one read.
                tail = data.read(4 + _HEADER.size)
                if len(tail) < 4:
                    raise _Damage(f"it is cut off: {len(record) + len(tail)} of {size + 4} bytes")
                if verify and masked(_ext.crc32c(record)) != int.from_bytes(tail[:4], "little"):
                    raise _Damage("the checksum of its data is wrong")
                yield offset, record
                number, offset, header = number + 1, offset + size + _HEADER.size + 4, tail[4:]
    except (_Damage, zlib.error) as error:
        raise FormatError(f"{_where(number, offset, compression)}: {error}", path) from None
    except FileNotFoundError:
        raise StoreNotFoundError("there is no such file", path) from None
    except OSError as error:
        raise StoreError(f"{_where(number, offset, compression)}: {error.strerror}", path) from error


class _Damage(Exception):
    pass


def _hint(number, compression):
    if number:
        return ""
    return ": is it a TFRecord file?" if compression else ": is it a TFRecord file, and not a compressed one?"


def _where(number, offset, compression):
    return f"record {number} at byte {offset}" + (" of the uncompressed data" if compression else "")


# ---- reading


class _Source(Source):
    def __init__(self, paths, schema, kind, compression, verify):
        if compression not in (None, "auto", *_WBITS):
            raise ValueError(f"compression must be None, 'GZIP', 'ZLIB' or 'auto'; received {compression!r}")
        self._paths, self._compression, self._verify = paths, compression, verify
        sidecars = [read_sidecar(path) for path in paths]
        self._counts = [None if sidecar is None else sidecar["records"] for sidecar in sidecars]
        known = [sidecar for sidecar in sidecars if sidecar is not None]
        if kind is None:
            kind = _only(paths, sidecars, "kind") or "example"
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}; received {kind!r}")
        if schema is None:
            schema = _only(paths, sidecars, "schema")
        elif not isinstance(schema, Schema):
            schema = Schema(schema)
        if schema is None and kind == "bytes":
            schema = Schema({"data": Field("bytes")})
        self.schema, self.metadata = schema, known[0]["metadata"] if known else {}
        self._decode = _decoder(schema, kind)

    def __iter__(self):
        for path, count in zip(self._paths, self._counts, strict=True):
            number = -1
            for number, (offset, data) in enumerate(frames(path, self._compression, self._verify)):
                try:
                    record = self._decode(data)
                except tfexample.Malformed as error:
                    raise FormatError(f"record {number} at byte {offset}: {error}", path) from None
                yield record
            if count not in (None, number + 1):
                raise FormatError(
                    f"it has {number + 1} records, but {path}{_SIDECAR} says {count}: "
                    "the end is missing, or something other than kseq wrote the file anew",
                    path,
                )


def _decoder(schema, kind):
    if kind == "bytes":
        name = _bytes_field(schema)
        return lambda data: {name: data}
    if schema is None:
        return tfexample.example_record if kind == "example" else tfexample.sequence_example_record
    return tfexample.decoder(schema, kind)


def _bytes_field(schema):
    """The name of the one field that records of kind "bytes" have."""
    (name, field), *more = schema.items()
    if more or field.dtype != "bytes" or field.optional:
        raise SchemaError(f"records of kind 'bytes' have one field of dtype 'bytes'; received {schema}")
    return name


def _paths(path):
    if isinstance(path, (list, tuple)):
        if not path:
            raise StoreNotFoundError("path must name at least one file; received an empty list")
        return [found for one in path for found in _paths(one)]
    path = os.fspath(path)
    if os.path.isdir(path):
        raise FormatError(f"it is a folder; give its files, like {os.path.join(path, '*.tfrecord')}", path)
    if os.path.exists(path):
        return [path]
    found = [name for name in sorted(glob.glob(path, recursive=True)) if os.path.isfile(name)]
    found = [name for name in found if not name.endswith(_SIDECAR)]
    if not found:
        raise StoreNotFoundError("there is no such file", path)
    return found


def read_sidecar(path):
    """What `<path>.schema.json` says, as a dict, or None where there is no such file.

    Raises:
        FormatError: a file that kseq did not write.
    """
    path = path + _SIDECAR
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"it cannot be read: {error}", path) from None
    if not isinstance(data, dict) or data.get("format") != _SIDECAR_FORMAT:
        raise FormatError(
            f'it must say "format": {json.dumps(_SIDECAR_FORMAT)}; move it away if kseq did not write it', path
        )
    kind, records, metadata = (data.get(key) for key in ("kind", "records", "metadata"))
    if kind not in KINDS or not isinstance(metadata, dict) or type(records) is not int or records < 0:
        raise FormatError(f"its kind, records or metadata are damaged; received {data!r:.200}", path)
    try:
        return {**data, "schema": Schema.from_json(data.get("schema"))}
    except SchemaError as error:
        raise FormatError(str(error), path) from None


def _only(paths, sidecars, key):
    """What the files say that say something, all the same."""
    said = [(path, sidecar[key]) for path, sidecar in zip(paths, sidecars, strict=True) if sidecar is not None]
    for path, value in said[1:]:
        if value != said[0][1]:
            raise FormatError(f"its {key} must be that of {said[0][0]}, {said[0][1]}; received {value}", path)
    return said[0][1] if said else None


# ---- writing


class _Sink(Sink):
    def __init__(self, path, schema, metadata, kind, compression):
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}; received {kind!r}")
        if compression not in (None, *_WBITS):
            raise ValueError(f"compression must be None, 'GZIP' or 'ZLIB'; received {compression!r}")
        if not isinstance(metadata, dict):
            raise ValueError(f"metadata must be a dict of JSON values; received {metadata!r:.100}")
        schema = schema if isinstance(schema, Schema) else Schema(schema)
        if kind == "bytes":
            _bytes_field(schema)
        self._encode = tfexample.encoder(schema, kind) if kind != "bytes" else _bytes_encoder(schema)
        self._about = {"format": _SIDECAR_FORMAT, "kind": kind, "records": 0, "schema": schema.to_json()}
        self._about["metadata"] = metadata
        try:
            json.dumps(self._about)
        except (TypeError, ValueError) as error:
            raise ValueError(f"metadata must be a dict of JSON values: {error}") from None
        if os.path.lexists(path):
            raise StoreExistsError("there is something already; delete it first", path)
        self._path, self._partial = path, f"{path}.{uuid.uuid4().hex[:12]}.partial"
        self._deflate = None if compression is None else zlib.compressobj(6, zlib.DEFLATED, _WBITS[compression])
        self._file = self._try(open, self._partial, "xb", _CHUNK)

    def write(self, record):
        if self._file is None:
            raise StoreError("the sink is closed", self._path)
        try:
            data = self._encode(record)
        except RecordError as error:
            number = self._about["records"]
            located = RecordError(f"record {number}{': ' if error.field is None else ', '}{error}")
            located.record, located.field = number, error.field
            raise located from None
        size = struct.pack("<Q", len(data))
        parts = size, masked(_ext.crc32c(size)).to_bytes(4, "little"), data
        self._put(b"".join((*parts, masked(_ext.crc32c(data)).to_bytes(4, "little"))))
        self._about["records"] += 1

    def close(self):
        if self._file is None:
            return
        try:
            if self._deflate is not None:
                self._try(self._file.write, self._deflate.flush())
            self._try(self._file.flush)
            self._try(os.fsync, self._file.fileno())
            self._try(self._file.close)
            about = self._partial + _SIDECAR
            self._try(_write_text, about, json.dumps(self._about, indent=1) + "\n")
            # First the schema: a file without it would be read as one that kseq did not write.
            self._try(os.replace, about, self._path + _SIDECAR)
            self._try(os.replace, self._partial, self._path)
        finally:
            self.abort()

    def abort(self):
        file, self._file = self._file, None
        if file is None:
            return
        with contextlib.suppress(OSError):  # what could not be written is not wanted
            file.close()
        for name in (self._partial, self._partial + _SIDECAR):
            with contextlib.suppress(OSError):  # after `close` there are none
                os.remove(name)

    def _put(self, data):
        self._try(self._file.write, data if self._deflate is None else self._deflate.compress(data))

    def _try(self, function, *arguments, **options):
        try:
            return function(*arguments, **options)
        except OSError as error:
            raise StoreWriteError(f"it cannot be written: {error}", self._path) from error


def _write_text(path, text):
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _bytes_encoder(schema):
    name = _bytes_field(schema)

    def encode(record):
        if not isinstance(record, dict) or set(record) != {name} or not isinstance(record[name], (bytes, bytearray)):
            raise RecordError(f"it must be a dict of {name!r}, bytes; received {record!r:.100}")
        return bytes(record[name])

    return encode


FORMAT = Format("tfrecord", (".tfrecord", ".tfrecords", ".tfr"), read_tfrecord, write_tfrecord)
