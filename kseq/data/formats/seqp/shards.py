"""The HDF5 files of seqp as h5py reads them, which damaged ones hang or crash: `child.py` runs this.

The HDF5 library loops for ever on some damaged texts.
"""

import dataclasses
import json
import math
from collections.abc import Collection
from typing import Any

import numpy as np

from ...errors import FormatError
from ...store.schema import TEXT, Schema
from ..base import require
from ..files import check_expansion
from ..schemas import kept_parts, make_schema
from .layout import KSEQ, RECORD, RESERVED, is_plain

_MOST_RATIO = 1100  # how much smaller deflate makes data at most: a file that claims more is damaged
_AT_ONCE, _BYTES_AT_ONCE = 10_000, 16 << 20  # records and bytes of an answer


@dataclasses.dataclass(frozen=True)
class Shard:
    """What a file says of its records.

    Attributes:
        path: of the file.
        start: number of its first record.
        lengths: of its records.
        fields: names, or None where records are bare arrays.
        names: of the fields of a record.
        main: the field that is the sequence, or None.
        missing: fields that some records have not.
        kept: the schema that kseq wrote, as JSON, or None.
        metadata: JSON values.
    """

    path: str
    start: int
    lengths: list[int]
    fields: list[str] | None
    names: list[str]
    main: str | None
    missing: frozenset[str]
    kept: Any
    metadata: dict[str, Any]

    def key(self, number: int, name: str) -> str:
        """The name of the dataset of a record and field."""
        return str(self.start + number) if self.fields is None else f"{self.start + number}:{name}"

    def part(self, at: int) -> "Shard":
        """Some of the records, from `at` on."""
        return dataclasses.replace(self, start=self.start + at, lengths=self.lengths[at : at + _AT_ONCE], metadata={})


def open_shard(path: str, field: str) -> Shard:
    """The `Shard` of a file; `field` is the name for bare arrays.

    Raises:
        FormatError: a damaged file.
    """
    with _opened(path) as file:
        _check_links(file, path)
        there = set(file)
        texts = {name: _text(file, name, path) for name in sorted(there) if not RECORD.fullmatch(name)}
    try:
        lengths = json.loads(texts["lengths"])
        start, end = int(texts["initial_index"]), int(texts["final_index"])
        fields = json.loads(texts["fields"]) if "fields" in texts else None
        kept = json.loads(texts[KSEQ]) if KSEQ in texts else None
    except KeyError as error:
        raise FormatError(f"it has no {error}: the writer did not finish, or it is no file of seqp", path) from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"its index is damaged: {error}", path) from None
    if not isinstance(lengths, list) or not all(type(n) is int and n >= 0 for n in lengths):
        raise FormatError(f"its lengths must be a list of integers from 0; received {lengths!r:.100}", path)
    if start < 0 or end - start + 1 != len(lengths):
        raise FormatError(f"records {start} to {end} must have lengths; received {len(lengths)}", path)
    main = texts.get("sequence_field")
    if fields is not None:
        if not isinstance(fields, list) or not all(isinstance(name, str) for name in fields):
            raise FormatError(f"its fields must be a list of names; received {fields!r:.100}", path)
        if len(set(fields)) < len(fields) or main not in fields:
            raise FormatError(f"its sequence must be one of {fields}; received {main!r}", path)
    schema, extra = (None, {}) if kept is None else kept_parts(kept, path)
    metadata = {name: text for name, text in texts.items() if name not in RESERVED} | extra
    names = [field] if fields is None else fields
    shard = Shard(path, start, lengths, fields, names, main, frozenset(), schema, metadata)
    missing = set()
    for name in names:
        absent = next((key for n in range(len(lengths)) if (key := shard.key(n, name)) not in there), None)
        if absent is not None and fields is None:
            raise FormatError(f"record {absent} is missing", path)
        missing |= {name} if absent is not None else set()
    return dataclasses.replace(shard, missing=frozenset(missing))


def infer(path: str, shard: Shard, missing: Collection[str], max_bytes: int | None) -> Schema:
    """The schema by the first record; a field that some record leaves out is optional."""
    with _opened(path) as file:
        fields = {}
        for name in shard.names:
            key = next((key for n in range(len(shard.lengths)) if (key := shard.key(n, name)) in file), None)
            if key is None:
                raise FormatError(f"no record has the field {name!r}", path)
            array = _array(file, key, path, max_bytes)
            fields[name] = (array.dtype, (None, *array.shape[1:]) if array.ndim else (), name in missing)
    return make_schema(fields, path, shard.main)


def records(path: str, shard: Shard, schema: Schema, kept: bool, max_bytes: int | None) -> list[dict[str, Any]]:
    """The first records of a shard, each of the length that the file says, as many as fit an answer."""
    found, size = [], 0
    with _opened(path) as file:
        for n, length in enumerate(shard.lengths):
            record = {}
            for name, (called, field) in zip(shard.names, schema.items(), strict=True):
                key = shard.key(n, name)
                if name in shard.missing and key not in file:
                    if not field.optional:
                        raise FormatError(f"record {key} is missing", path)
                    record[called] = None
                    continue
                array = _array(file, key, path, max_bytes)
                # Without fields there is one array, and it is the sequence.
                if called == shard.main or shard.fields is None:
                    have = array.shape[0] if array.ndim else 0
                    if have != length:
                        raise FormatError(f"record {key} must have length {length}; received {have}", path)
                record[called] = _decode(array, field, key, path) if kept else array
                size += array.nbytes
            found.append(record)
            if size >= _BYTES_AT_ONCE:
                break
    return found


def _check_links(file, path):
    h5py = require("h5py", "hdf5")
    links = file.id.links
    for name in file.id:
        if links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise FormatError(f"{name!r} must be a dataset of this file; received a link elsewhere", path)


def _text(file, name, path):
    h5py = require("h5py", "hdf5")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or h5py.check_string_dtype(found.dtype) is None or found.shape != (1,):
        raise FormatError(f"{name!r} must be one text; received {found!r}", path)
    _check_storage(found.id, found.id.get_create_plist(), found.id.get_type().get_size(), name, path)
    return bytes(found[0]).rstrip(b"\0").decode("utf-8")


def _array(file, key, path, max_bytes):
    """The array of a dataset, by h5py's lower level: most time goes into opening datasets."""
    h5py = require("h5py", "hdf5")
    found = h5py.h5o.open(file.id, key.encode())
    if not isinstance(found, h5py.h5d.DatasetID) or found.get_space().get_simple_extent_type() == h5py.h5s.NULL:
        raise FormatError(f"record {key} must be a dataset with values; received {found!r}", path)
    dtype, shape, how = found.dtype, found.shape, found.get_create_plist()
    if dtype.hasobject:
        raise FormatError(f"record {key} must be an array of values of a fixed size; received {dtype}", path)
    wanted = math.prod(shape) * dtype.itemsize
    _check_storage(found, how, wanted, f"record {key}", path)
    if how.get_nfilters():  # which unpack chunks, that may be larger than what is in them
        wanted = max(wanted, math.prod(how.get_chunk()) * dtype.itemsize)
        check_expansion(wanted, found.get_storage_size(), f"record {key}", path, max_bytes)
    array = np.empty(shape, dtype)
    if array.size:
        found.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


class _opened:
    """A file of h5py; what goes wrong inside is a `FormatError` with its name."""

    _file: Any

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
