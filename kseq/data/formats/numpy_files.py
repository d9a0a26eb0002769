"""NumPy files: `.npy` with records on its first axis, `.npz` of columns, and folders of `.npy` files, one a record.

A column of an `.npz` is an array with the records on its first axis, or the steps of all records one after the other
with `name_offsets` (n + 1 of them, from 0) or `name_lengths` (n) beside it.
"""

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...annotations import AnyPath, AnyPaths
from ..errors import FormatError
from ..store.schema import TEXT, Schema
from .base import Format, RecordSource
from .files import FileSink, check_expansion, files_of
from .schemas import kept_parts, kept_schema, make_schema

_KSEQ = "__kseq__"
_DAMAGE = Exception  # NumPy parses headers as Python and archives by zipfile, which fail in many ways


def read(path: AnyPaths, field: str = "values", each: bool | None = None, max_bytes: int | None = None) -> RecordSource:
    """The records of NumPy files.

    Args:
        path: an `.npy` file, its first axis the records; an `.npz` file of columns; a folder or list of `.npy` files,
            each one record, in the order of their names.
        field: name of the field of `.npy` files.
        each: whether each file is one record; by default where several are given.
        max_bytes: what the columns of an `.npz` may take in memory; by default 64 MB, or 64 times the file.

    Raises:
        FormatError: a damaged file, or one compressed beyond that; columns that do not agree; Python objects.
    """
    if isinstance(path, (str, os.PathLike)) and os.fspath(path).lower().endswith(".npz") and os.path.isfile(path):
        return _NpzSource(os.fspath(path), max_bytes)
    files = files_of(path, (".npy",))
    several = len(files) > 1 or not isinstance(path, (str, os.PathLike)) or os.path.isdir(path)
    return _NpyFilesSource(files, field) if (several if each is None else each) else _NpySource(files[0], field)


class _NpySource(RecordSource):
    schema: Schema | None

    def __init__(self, path, field):
        self.path, self._field = path, field
        array = _npy(path)
        if not array.ndim:
            raise FormatError("an array must have records on its first axis; received a scalar", path)
        self.schema = make_schema({field: (array.dtype, array.shape[1:], False)}, path)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in _npy(self.path):
            yield {self._field: row}


class _NpyFilesSource(RecordSource):
    schema: Schema | None

    def __init__(self, files, field):
        self._files, self._field = files, field
        array = _npy(files[0])
        shape = (None, *array.shape[1:]) if array.ndim else ()
        self.schema = make_schema({field: (array.dtype, shape, False)}, files[0])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        field = self._known()[self._field]
        for path in self._files:
            array = _npy(path)
            shape = (None, *array.shape[1:]) if array.ndim else ()
            if array.dtype != field.dtype or shape != field.shape:
                raise FormatError(
                    f"each file must have {field.dtype} of shape {field.shape}; received {array.dtype} {array.shape}",
                    path,
                )
            yield {self._field: array}


def _npy(path: AnyPath) -> NDArray[Any]:
    """The array of a file, memory-mapped."""
    try:
        with open(path, "rb") as file:
            if file.read(6) != b"\x93NUMPY":
                raise ValueError("it does not start as NPY does")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGE as error:
        # The mapping of an array without elements is refused; it is no damage.
        with contextlib.suppress(_DAMAGE):
            with open(path, "rb") as file:
                array = np.load(file, allow_pickle=False)
            if not array.size:
                return array
        raise FormatError(f"it is no NPY file, or damaged: {error}", path) from None
    return array.astype(array.dtype.newbyteorder("="), copy=False)


class _NpzSource(RecordSource):
    """Columns of an `.npz`, all in memory."""

    schema: Schema | None

    def __init__(self, path, max_bytes):
        self.path = path
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                wanted = sum(member.file_size for member in file.zip.infolist())  # no more is read of any
                check_expansion(wanted, os.path.getsize(path), "it", path, max_bytes)
                arrays = {name: file[name] for name in file.files}
            kept = json.loads(arrays.pop(_KSEQ).tobytes()) if _KSEQ in arrays else None
        except FormatError:
            raise
        except _DAMAGE as error:
            raise FormatError(f"it is no NPZ file, or damaged: {error}", path) from None
        self._columns = {}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray) or not array.ndim:
                raise FormatError(f"{name!r} must be an array with records on its first axis; received a scalar", path)
            if not any(name == f"{other}{end}" for other in arrays for end in ("_offsets", "_lengths", "_there")):
                array = array.astype(array.dtype.newbyteorder("="), copy=False)
                self._columns[name] = (array, self._offsets(name, array, arrays), arrays.get(f"{name}_there"))
        if not self._columns:
            raise FormatError("it has no arrays", path)
        self._check_counts()
        if kept is None:
            self.schema = make_schema({name: self._field(*column) for name, column in self._columns.items()}, path)
            return
        schema, self.metadata = kept_parts(kept, path)
        self.schema = kept_schema(schema, path)
        if self.schema.keys() != self._columns.keys():
            raise FormatError(f"it must have {list(self.schema)}; received {list(self._columns)}", path)
        for name, field in self.schema.items():
            array, offsets, there = self._columns[name]
            if not field.text and field.store.isbuiltin == 2 and array.dtype == f"V{field.store.itemsize}":
                array = array.view(field.store)
            self._columns[name] = array, offsets, there
            store = np.dtype("u1") if field.text else field.store
            inner = () if field.text else field.inner_shape
            if array.dtype != store or array.shape[1:] != inner or (offsets is None) == (field.text or field.ragged):
                raise FormatError(f"{name!r} must be {field}; received {array.dtype} {array.shape}", path)

    def _offsets(self, name, array, arrays):
        if f"{name}_lengths" in arrays:
            lengths = arrays[f"{name}_lengths"]
            if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any():
                raise FormatError(f"'{name}_lengths' must be integers from 0", self.path)
            offsets = np.concatenate([np.zeros(1, "int64"), np.cumsum(lengths, dtype="int64")])
        elif f"{name}_offsets" in arrays:
            offsets = arrays[f"{name}_offsets"]
            if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or not offsets.size:
                raise FormatError(f"'{name}_offsets' must be integers, one more than records", self.path)
            offsets = offsets.astype("int64")
        else:
            return None
        if offsets[0] != 0 or offsets[-1] != len(array) or (np.diff(offsets) < 0).any():
            raise FormatError(
                f"'{name}_offsets' must rise from 0 to {len(array)}, the steps of {name!r}; "
                f"received {offsets[0]} to {offsets[-1]}",
                self.path,
            )
        return offsets

    def _check_counts(self):
        counts = {
            name: len(array) if offsets is None else len(offsets) - 1
            for name, (array, offsets, _) in self._columns.items()
        }
        if len(set(counts.values())) != 1:
            raise FormatError(f"columns must have one number of records; received {counts}", self.path)
        self._count = next(iter(counts.values()))
        for name, (_, _, there) in self._columns.items():
            if there is not None and (there.shape != (self._count,) or there.dtype != bool):
                raise FormatError(f"'{name}_there' must be {self._count} bool; received {there.dtype}", self.path)

    @staticmethod
    def _field(array, offsets, there):
        optional = there is not None
        if offsets is not None:
            return array.dtype, (None, *array.shape[1:]), optional
        if array.dtype.kind == "U" and array.ndim == 1:
            return TEXT, (), optional
        return array.dtype, array.shape[1:], optional

    def __len__(self):
        return self._count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        schema = self._known()
        columns = [(name, schema[name], *column) for name, column in self._columns.items()]
        for n in range(self._count):
            yield {name: self._value(n, *column) for name, *column in columns}

    def _value(self, n, field, array, offsets, there):
        if there is not None and not there[n]:
            return None
        value = array[n] if offsets is None else array[offsets[n] : offsets[n + 1]]
        if not field.text:
            return value if value.dtype == field.dtype else value.astype(field.dtype)
        if offsets is None:
            return str(value)
        try:
            return value.tobytes().decode("utf-8") if field.dtype == TEXT else value.tobytes()
        except UnicodeDecodeError as error:
            raise FormatError(f"record {n} is no UTF-8: {error}", self.path) from None


class NpzSink(FileSink):
    """Records to one `.npz` of columns, kept in memory until it is closed.

    Args:
        path: the file.
        schema: `Schema`; it is kept in the file, as is the metadata.
        metadata: JSON values.
        compress: whether to compress the arrays.
    """

    def __init__(
        self, path: AnyPath, schema: Schema, metadata: Mapping[str, Any] | None = None, compress: bool = False
    ) -> None:
        if not os.fspath(path).lower().endswith(".npz"):
            raise FormatError("kseq writes NumPy files as .npz", path)
        names = [*schema, *(f"{name}{end}" for name in schema for end in ("_offsets", "_lengths", "_there")), _KSEQ]
        if len(set(names)) < len(names) or any("/" in name for name in schema):
            raise FormatError(f"names of columns must not be those of others' offsets, nor have '/': {names}", path)
        self._kept = json.dumps({"schema": schema.to_json(), "metadata": dict(metadata or {})}).encode()
        self._compress, self._columns = compress, {name: [] for name in schema}
        super().__init__(path, schema)

    def _put(self, record):
        for name, value in record.items():
            field = self.schema[name]
            if value is not None and field.text:
                value = np.frombuffer(value.encode("utf-8") if field.dtype == TEXT else value, "u1")
            self._columns[name].append(value)

    def _finish(self):
        arrays = {}
        for name, values in self._columns.items():
            field = self.schema[name]
            store, inner = (np.dtype("u1"), ()) if field.text else (field.store, field.inner_shape)
            if field.optional:
                arrays[f"{name}_there"] = np.array([value is not None for value in values], bool)
            flat = field.text or field.ragged
            nothing = np.zeros((0, *inner) if flat else inner, store)
            values = [nothing if value is None else value for value in values]
            if flat:
                arrays[f"{name}_offsets"] = np.cumsum([0, *map(len, values)], dtype="int64")
                arrays[name] = np.concatenate([nothing, *values])
            else:
                arrays[name] = np.stack(values) if values else np.zeros((0, *inner), store)
        arrays[_KSEQ] = np.frombuffer(self._kept, "u1")
        way = zipfile.ZIP_DEFLATED if self._compress else zipfile.ZIP_STORED
        with zipfile.ZipFile(self._aside.temporary, "w", way) as file:
            for name, array in arrays.items():
                # A date that is always the same, so that equal records give equal files.
                entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                entry.compress_type = way
                if array.dtype.isbuiltin == 2:
                    array = array.view(f"V{array.dtype.itemsize}")
                with file.open(entry, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)

    def _drop(self):
        self._columns = {}


FORMAT = Format("numpy", (".npz", ".npy"), read, NpzSink)
