"""One shard: an Arrow IPC file, written in chunks, memory-mapped to read.

A sequence is a list of its dtype, or of fixed-size lists where a step has a shape; an array is a fixed-size list; a
dtype that Arrow does not have, and bool (whose bits Arrow packs), is stored as bytes of its size.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from ...annotations import AnyPath
from ..errors import SchemaError, ShardError, StoreError
from .aside import new_file
from .conversion import Part
from .forks import held_from_forks, muted
from .manifest import ShardEntry, lengths_file, shard_file
from .mapping import mapped
from .schema import TEXT, Field, Schema

if TYPE_CHECKING:
    from .folder import Folder

SCHEMA_KEY = b"kseq"  # of the schema in the metadata of the file, from which `repair` can make a manifest
_BLOCK = 1 << 20
_ARROW: dict[np.dtype[Any], Any] = {
    np.dtype(name): getattr(pa, name)() for name in ("int8", "int16", "int32", "int64", "uint8", "uint16")
}
_ARROW |= {np.dtype(name): getattr(pa, name)() for name in ("uint32", "uint64", "float32", "float64")}
_ARROW[np.dtype("float16")] = pa.float16()


def arrow_schema(schema: Schema) -> pa.Schema:
    """How records of a schema are stored."""
    fields = [pa.field(name, _arrow_type(field), nullable=field.optional) for name, field in schema.items()]
    return pa.schema(fields, {SCHEMA_KEY: json.dumps(schema.to_json(), ensure_ascii=False).encode()})


def parse_schema(found: pa.Schema, where: str) -> Schema:
    """The schema in the metadata of an Arrow file.

    Raises:
        ShardError: metadata that are none.
    """
    try:
        return Schema.from_json(json.loads(found.metadata[SCHEMA_KEY]))
    except (ValueError, TypeError, KeyError, RecursionError, SchemaError) as error:
        raise ShardError(f"the schema in the shard is damaged: {error}", where) from None


def _arrow_type(field):
    if field.text:
        return pa.string() if field.dtype == TEXT else pa.binary()
    kind = _ARROW.get(field.store) or pa.binary(field.store.itemsize)
    if field.inner_shape:
        kind = pa.list_(pa.field("item", kind, nullable=False), math.prod(field.inner_shape))
    return pa.list_(pa.field("item", kind, nullable=False)) if field.ragged else kind


def step_bytes(field: Field) -> int:
    """Bytes of one step of a field as it is stored, or of the whole value if it is no sequence."""
    return 1 if field.text else field.store.itemsize * math.prod(field.inner_shape)


def encode(schema: Schema, columns: Sequence[Part], rows: int) -> pa.RecordBatch:
    """A chunk as Arrow has it.

    Args:
        schema: the `Schema`.
        columns: for each field its data as bytes, int32 offsets or None, and a byte a row or None.
        rows: number of rows.
    """
    arrays = []
    for field, (data, offsets, valid) in zip(schema.values(), columns, strict=True):
        kind, missing = _arrow_type(field), 0
        if valid is not None:
            missing = rows - int(np.count_nonzero(valid))
            valid = pa.py_buffer(np.packbits(valid, bitorder="little"))
        data = pa.py_buffer(data)
        if field.text:
            arrays.append(pa.Array.from_buffers(kind, rows, [valid, pa.py_buffer(offsets), data], missing))
            continue
        steps = rows if offsets is None else int(offsets[-1])
        inner = kind.value_type if field.ragged else kind
        if field.inner_shape:
            numbers = pa.Array.from_buffers(inner.value_type, steps * math.prod(field.inner_shape), [None, data])
            own = None if field.ragged else valid
            values = pa.Array.from_buffers(inner, steps, [own], 0 if field.ragged else missing, children=[numbers])
        else:
            own = None if field.ragged else valid
            values = pa.Array.from_buffers(inner, steps, [own, data], 0 if field.ragged else missing)
        if field.ragged:
            buffers = [valid, pa.py_buffer(offsets)]
            values = pa.Array.from_buffers(kind, rows, buffers, missing, children=[values])
        arrays.append(values)
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(schema))


class ShardWriter:
    """A shard that is being written aside, under a name of its own.

    Args:
        folder: the store's folder.
        number: of the shard.
        schema: the `Schema`.
    """

    folder: Folder
    number: int
    schema: Schema
    rows: int

    def __init__(self, folder: Folder, number: int, schema: Schema) -> None:
        self.folder, self.number, self.schema = folder, number, schema
        self.rows, self._lengths = 0, []
        self._staged = pathlib.Path(folder.staging()) / f"{shard_file(number)}.tmp"
        with folder.writing(self._staged.name):
            self._file = new_file(self._staged, "xb")
            self._ipc = pa.ipc.new_file(self._file, arrow_schema(schema))
        self._inherited = False
        held_from_forks(self)

    def write(self, columns: Sequence[Part], rows: int) -> None:
        """Write one chunk, as `encode` takes it."""
        with self.folder.writing(self._staged.name):
            self._ipc.write_batch(encode(self.schema, columns, rows))
            self._file.flush()
        if self.schema.main is not None:
            offsets = columns[list(self.schema).index(self.schema.main)][1]
            assert offsets is not None  # of a sequence
            self._lengths.append(np.diff(offsets).astype("<u4"))
        self.rows += rows

    def seal(self) -> ShardEntry:
        """Complete the shard, give it and its lengths their names, and return what the manifest says of it."""
        if self._inherited:
            raise StoreError("the shard was inherited by a fork: only its maker may end it", self._staged)
        with self.folder.writing(self._staged.name):
            self._ipc.close()
            self._file.close()
        size, checksum = self._staged.stat().st_size, file_checksum(self._staged)
        lengths = np.concatenate(self._lengths) if self._lengths else np.zeros(self.rows, "<u4")
        try:
            entry = self.entry(self.folder, self.number, self.schema, lengths, size, checksum)
            self.folder.publish(self._staged, shard_file(self.number))
        except BaseException:
            # It may have its name already, and the folder not be synchronised.
            self.folder.remove(shard_file(self.number))
            self.folder.remove(lengths_file(self.number))
            raise
        return entry

    @staticmethod
    def entry(
        folder: Folder, number: int, schema: Schema, lengths: NDArray[Any], size: int, checksum: str
    ) -> ShardEntry:
        """Write the lengths of a shard's main sequence, if it has one, and return what the manifest says of it."""
        if schema.main is None:
            return ShardEntry(number, len(lengths), size, checksum)
        data = lengths.tobytes()
        folder.put(lengths_file(number), data)
        longest = int(lengths.max(initial=0))
        return ShardEntry(
            number,
            len(lengths),
            size,
            checksum,
            steps=int(lengths.sum(dtype=np.int64)),
            shortest=int(lengths.min(initial=longest)),
            longest=longest,
            lengths_xxh3=xxhash.xxh3_64_hexdigest(data),
        )

    def abort(self) -> None:
        """Leave nothing of the shard behind."""
        for file in (self._ipc, self._file):
            # Closing writes, which may be what failed; the file is removed whatever it holds.
            with contextlib.suppress(OSError, ValueError, pa.ArrowException):
                file.close()
        if not self._inherited:
            with contextlib.suppress(OSError):
                self._staged.unlink(missing_ok=True)

    def let_go(self) -> None:
        """In a process that was forked: the file is its parent's."""
        self._inherited = True
        muted([self._file])


def read_shard(
    path: AnyPath, where: str, entry: ShardEntry, schema: Schema, in_memory: bool = False
) -> list[tuple[int, list[Part]]]:
    """The chunks of a shard: for each its rows, and for each field data, offsets and validity, as `Table` takes them.

    Args:
        path: local path of the file.
        where: what errors call it.
        entry: the `ShardEntry`.
        schema: the `Schema`.
        in_memory: read the file instead of mapping it.

    Raises:
        ShardError: a file that is no shard of the schema.
    """
    try:
        held = pathlib.Path(path).read_bytes() if in_memory else mapped(path)
        # Reading ahead, which for mapped files may be megabytes a page, would load most of the file here.
        _advise(held, "MADV_RANDOM")
        reader = pa.ipc.open_file(pa.py_buffer(held))
        check_fields(reader.schema, schema, where)
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        chunks = [(batch.num_rows, decode(batch, schema)) for batch in batches]
    except (pa.ArrowException, OSError, ValueError, IndexError) as error:
        raise ShardError(f"the file is no readable shard: {error}", where) from None
    found = sum(rows for rows, _ in chunks)
    if found != entry.records:
        raise ShardError(f"the shard must hold {entry.records} records, as the manifest says; received {found}", where)
    # Offsets are about to be checked: they are asked for at once instead of page by page.
    base, size = np.frombuffer(held, np.uint8).ctypes.data, len(held)
    for _, columns in chunks:
        for _, offsets, _ in columns:
            start = 0 if offsets is None else offsets.ctypes.data - base
            if offsets is not None and 0 <= start <= size - offsets.nbytes:  # compressed ones are copies elsewhere
                first = start // mmap.PAGESIZE * mmap.PAGESIZE
                _advise(held, "MADV_WILLNEED", first, start + offsets.nbytes - first)
    _advise(held, "MADV_NORMAL")
    return chunks


def _advise(mapped, name, *stretch):
    """Tell the operating system how a file will be read, where it listens."""
    if hasattr(mapped, "madvise") and hasattr(mmap, name):
        mapped.madvise(getattr(mmap, name), *stretch)


def check_fields(found: pa.Schema, schema: Schema, where: str) -> None:
    """Compare the fields of an Arrow file with a schema.

    Raises:
        ShardError: fields that differ.
    """
    wanted = arrow_schema(schema)
    if found.equals(wanted):
        # Arrow stores several dtypes as the same bytes. Files of other programs do not say which they mean.
        if SCHEMA_KEY in (found.metadata or {}) and found.metadata != wanted.metadata:
            meant = parse_schema(found, where)
            if list(meant.items()) != list(schema.items()):
                raise ShardError(f"the shard must have the fields {schema}; received {meant}", where)
        return
    for number, field in enumerate(wanted):
        other = found.field(number) if number < len(found) else None
        if other is None or not other.equals(field):
            raise ShardError(f"field {number} of the shard must be {field}; received {other}", where)
    raise ShardError(f"the shard must have the fields {wanted.names}; received {found.names}", where)


def decode(batch: pa.RecordBatch, schema: Schema) -> list[Part]:
    """Addresses of a chunk's columns: data, int32 offsets or None, and a validity bitmap or None."""
    columns = []
    for array, field in zip(batch.columns, schema.values(), strict=True):
        buffers = array.buffers()
        if array.offset:
            raise ValueError("a chunk must not begin within another")
        listed = field.ragged or field.text
        valid = _bytes(buffers[0]) if buffers[0] is not None else None
        offsets = np.frombuffer(buffers[1], np.int32) if listed and buffers[1] is not None else None
        if listed and offsets is None:
            offsets = np.zeros(1, np.int32)
        columns.append((_bytes(buffers[-1]), offsets, valid))
    return columns


def _bytes(buffer: Any) -> NDArray[np.uint8]:
    return np.empty(0, np.uint8) if buffer is None else np.frombuffer(buffer, np.uint8)


def file_checksum(path: AnyPath) -> str:
    """xxh3 of a file, 16 hexadecimal digits."""
    checksum = xxhash.xxh3_64()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            checksum.update(block)
    return checksum.hexdigest()
