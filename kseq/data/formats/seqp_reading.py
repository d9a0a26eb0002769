"""The HDF5 files of seqp, read; `seqp_hdf5.py` says what is in them."""

import json
import math
import os
import re
import struct

import numpy as np

from ..errors import FormatError
from ..store.schema import TEXT
from .base import RecordSource, require
from .files import check_expansion, files_of
from .schemas import kept_parts, kept_schema, make_schema

KSEQ = "kseq"
RESERVED = {"lengths", "initial_index", "final_index", "fields", "sequence_field", KSEQ}
RECORD = re.compile(r"\d+(:.*)?", re.DOTALL)
SUFFIXES = (".hdf5", ".h5")
_REFERENCE = struct.Struct("<IQI")  # to a text: its length, the address of a heap, a number within it
_HEAP = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<H6xQ")
_MOST_RATIO = 1100  # how much smaller deflate makes data at most: a file that claims more is damaged
_PLAIN = "biufc"  # kinds of dtypes that HDF5 keeps as they are


class SeqpSource(RecordSource):
    """Records of HDF5 files of seqp.

    Args:
        path: a file, a pattern such as "train-*.hdf5", a folder, or a list of files (shards); their records come in
            the order of the numbers that the files give them.
        field: name for the arrays of files without fields.
        max_bytes: what a compressed array may take in memory; by default 64 MB, or 64 times what is stored.

    Attributes:
        lengths: length of each record, as the files say; each is checked when its record is read.

    Raises:
        FormatError: a damaged file, or files that do not belong together.
    """

    def __init__(self, path, field="values", max_bytes=None):
        shards = [_Shard(file, field, max_bytes) for file in files_of(path, SUFFIXES)]
        shards.sort(key=lambda shard: shard.start)  # stable: files that all start at 0 stay in their order
        first = next((shard for shard in shards if shard.lengths), shards[0])
        for shard in shards:
            if shard.lengths and (shard.fields, shard.main) != (first.fields, first.main):
                raise FormatError(
                    f"shards must have equal fields: {first.fields} with the sequence {first.main!r}; "
                    f"received {shard.fields} with {shard.main!r}",
                    shard.path,
                )
        self._shards = shards
        self.lengths = np.asarray([length for shard in shards for length in shard.lengths], "int64")
        self.metadata = {name: value for shard in shards for name, value in shard.metadata.items()}
        missing = set().union(*(shard.missing for shard in shards))
        if first.kept is not None:
            self.schema = kept_schema(first.kept, first.path)
            if list(self.schema) != (first.fields or [*self.schema][:1]):
                raise FormatError(f"its schema must have the fields {first.fields}", first.path)
        elif first.lengths:
            self.schema = first.infer(missing)
        self._kept, self._field = first.kept is not None, field

    def __iter__(self):
        for shard in self._shards:
            yield from shard.records(self.schema, self._kept)


class _Shard:
    """One file: what it says of its records, and the records."""

    def __init__(self, path, field, max_bytes):
        self.path, self._max_bytes = path, max_bytes
        with _opened(path) as file:
            self._check_links(file)
            names = set(file)
            texts = {name: self._text(file, name) for name in sorted(names) if not RECORD.fullmatch(name)}
        try:
            self.lengths = json.loads(texts["lengths"])
            self.start, end = int(texts["initial_index"]), int(texts["final_index"])
            self.fields = json.loads(texts["fields"]) if "fields" in texts else None
            kept = json.loads(texts[KSEQ]) if KSEQ in texts else None
        except KeyError as error:
            raise FormatError(f"it has no {error}: the writer did not finish, or it is no file of seqp", path) from None
        except (ValueError, RecursionError) as error:
            raise FormatError(f"its index is damaged: {error}", path) from None
        if not isinstance(self.lengths, list) or not all(type(n) is int and n >= 0 for n in self.lengths):
            raise FormatError(f"its lengths must be a list of integers from 0; received {self.lengths!r:.100}", path)
        if self.start < 0 or end - self.start + 1 != len(self.lengths):
            raise FormatError(f"records {self.start} to {end} must have lengths; received {len(self.lengths)}", path)
        self.main = texts.get("sequence_field")
        if self.fields is None:
            self.names = [field]
        else:
            if not isinstance(self.fields, list) or not all(isinstance(name, str) for name in self.fields):
                raise FormatError(f"its fields must be a list of names; received {self.fields!r:.100}", path)
            if len(set(self.fields)) < len(self.fields) or self.main not in self.fields:
                raise FormatError(f"its sequence must be one of {self.fields}; received {self.main!r}", path)
            self.names = self.fields
        self.kept, extra = None, {}
        if kept is not None:
            self.kept, extra = kept_parts(kept, path)
        self.metadata = {name: text for name, text in texts.items() if name not in RESERVED} | extra
        expected = {name: [self._key(n, name) for n in range(len(self.lengths))] for name in self.names}
        self.missing = {name for name, keys in expected.items() if not names.issuperset(keys)}
        if self.fields is None and self.missing:
            absent = next(key for key in expected[field] if key not in names)
            raise FormatError(f"record {absent} is missing", path)

    def _key(self, number, name):
        return str(self.start + number) if self.fields is None else f"{self.start + number}:{name}"

    def _check_links(self, file):
        h5py = require("h5py", "hdf5")
        links = file.id.links
        for name in file.id:
            if links.get_info(name).type != h5py.h5l.TYPE_HARD:
                raise FormatError(f"{name!r} must be a dataset of this file; received a link elsewhere", self.path)

    def _text(self, file, name):
        h5py = require("h5py", "hdf5")
        found = file[name]
        if not isinstance(found, h5py.Dataset) or h5py.check_string_dtype(found.dtype) is None or found.shape != (1,):
            raise FormatError(f"{name!r} must be one text; received {found!r}", self.path)
        how = found.id.get_create_plist()
        _check_storage(found.id, how, _REFERENCE.size, name, self.path)
        at = found.id.get_offset()
        if at is None or found.id.get_storage_size() != _REFERENCE.size or how.get_nfilters():
            raise FormatError(f"{name!r} must be one text of any length; received {found!r}", self.path)
        return _heap_text(self.path, at, name).decode("utf-8")

    def _array(self, file, key):
        """The array of a dataset, by h5py's lower level: most time goes into opening datasets."""
        h5py = require("h5py", "hdf5")
        found = h5py.h5o.open(file.id, key.encode())
        if not isinstance(found, h5py.h5d.DatasetID) or found.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            raise FormatError(f"record {key} must be a dataset with values; received {found!r}", self.path)
        dtype, shape, how = found.dtype, found.shape, found.get_create_plist()
        if dtype.hasobject:
            raise FormatError(f"record {key} must be an array of values of a fixed size; received {dtype}", self.path)
        wanted = math.prod(shape) * dtype.itemsize
        _check_storage(found, how, wanted, f"record {key}", self.path)
        if how.get_nfilters():  # which unpack chunks, that may be larger than what is in them
            wanted = max(wanted, math.prod(how.get_chunk()) * dtype.itemsize)
            check_expansion(wanted, found.get_storage_size(), f"record {key}", self.path, self._max_bytes)
        array = np.empty(shape, dtype)
        if array.size:
            found.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
        return array if dtype.isnative else array.astype(dtype.newbyteorder("="))

    def infer(self, missing):
        """The schema by the first record; a field that some record leaves out is optional."""
        with _opened(self.path) as file:
            fields = {}
            for name in self.names:
                key = next((key for n in range(len(self.lengths)) if (key := self._key(n, name)) in file), None)
                if key is None:
                    raise FormatError(f"no record has the field {name!r}", self.path)
                array = self._array(file, key)
                fields[name] = (array.dtype, (None, *array.shape[1:]) if array.ndim else (), name in missing)
        return make_schema(fields, self.path, self.main)

    def records(self, schema, kept):
        """The records, each of the length that the file says."""
        with _opened(self.path) as file:
            for n, length in enumerate(self.lengths):
                record = {}
                for place, (name, field) in enumerate(schema.items()):
                    key = self._key(n, self.names[place])
                    if self.names[place] in self.missing and key not in file:
                        if not field.optional:
                            raise FormatError(f"record {key} is missing", self.path)
                        record[name] = None
                        continue
                    array = self._array(file, key)
                    # Without fields there is one array, and it is the sequence.
                    if name == self.main or self.fields is None:
                        have = array.shape[0] if array.ndim else 0
                        if have != length:
                            raise FormatError(f"record {key} must have length {length}; received {have}", self.path)
                    record[name] = _decode(array, field, key, self.path) if kept else array
                yield record


class _opened:
    """A file of h5py; what goes wrong inside is a `FormatError` with its name."""

    def __init__(self, path):
        self.path, self._file = path, None

    def __enter__(self):
        h5py = require("h5py", "hdf5")
        try:
            self._file = h5py.File(self.path, "r")
        except Exception as error:
            raise FormatError(f"it is no HDF5 file, or damaged: {error}", self.path) from None
        return self._file

    def __exit__(self, kind, error, traceback):
        try:
            self._file.close()
        except Exception as closing:
            error = error or closing
        # The HDF5 library reports damage as OSError, RuntimeError, KeyError, ValueError and more.
        if isinstance(error, Exception) and not isinstance(error, FormatError):
            raise FormatError(f"it is damaged: {type(error).__name__}: {error}", self.path) from error


def _check_storage(found, how, wanted, what, path):
    """Refuse data in other files, and a shape for which the file has not the bytes: it would be filled with zeros."""
    h5d = require("h5py", "hdf5").h5d
    if how.get_layout() == h5d.VIRTUAL or how.get_external_count():
        raise FormatError(f"{what} must lie in this file; received data in other files", path)
    stored = found.get_storage_size()
    if wanted > stored * (_MOST_RATIO if how.get_nfilters() else 1):
        raise FormatError(f"{what} is truncated: {wanted} bytes must be there; received {stored}", path)


def _heap_text(path, at, name):
    """The bytes of a text of any length, of which a reference lies at `at`.

    They lie in a "global heap" of the file. The HDF5 library loops for ever on a damaged one, so it is read here.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:

        def part(start, count):
            if start + count > size:
                raise FormatError(f"{name!r} is truncated: it must lie before {size}; received {start + count}", path)
            file.seek(start)
            return file.read(count)

        length, heap, wanted = _REFERENCE.unpack(part(at, _REFERENCE.size))
        if not length:
            return b""
        magic, version, heap_bytes = _HEAP.unpack(part(heap, _HEAP.size))
        if magic != b"GCOL" or version != 1:
            raise FormatError(f"the text of {name!r} must lie in a global heap; received {magic!r}", path)
        at, end = heap + _HEAP.size, heap + heap_bytes
        while at + _OBJECT.size <= end:
            index, bytes_of_object = _OBJECT.unpack(part(at, _OBJECT.size))
            if index == wanted:
                if length > bytes_of_object:
                    break
                return part(at + _OBJECT.size, length).rstrip(b"\0")
            if not index:
                break  # the rest is free
            at += _OBJECT.size + -(-bytes_of_object // 8) * 8
    raise FormatError(f"the text of {name!r} is not where the file says", path)


def is_plain(dtype):
    """Whether HDF5 keeps a dtype as it is."""
    return dtype.kind in _PLAIN and dtype.isbuiltin != 2 and dtype.itemsize <= (16 if dtype.kind == "c" else 8)


def _decode(array, field, key, path):
    if field.text:
        if array.dtype != np.uint8 or array.ndim != 1:
            raise FormatError(f"record {key} must be bytes; received {array.dtype} {array.shape}", path)
        data = array.tobytes()
        return data.decode("utf-8") if field.dtype == TEXT else data
    if not is_plain(field.store):
        if array.dtype != np.uint8 or array.shape[-1:] != (field.store.itemsize,) or array.ndim < 2:
            raise FormatError(f"record {key} must be bytes of {field.store}; received {array.dtype}", path)
        array = np.frombuffer(array.tobytes(), field.store).reshape(array.shape[:-1])
    if array.dtype != field.store:
        raise FormatError(f"record {key} must be of {field.store}; received {array.dtype}", path)
    shape = field.shape or (1,)
    if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        raise FormatError(f"record {key} must be of shape {shape}; received {array.shape}", path)
    array = array.astype(field.dtype, copy=False)
    return array if field.shape else array[0]
