"""Records on their way into shards: columns in memory, the shard that is being written, and those that are complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kseq import _ext

from ..errors import RecordError
from .shard import ShardWriter

if TYPE_CHECKING:
    from .conversion import Rows
    from .folder import Folder
    from .manifest import ShardEntry
    from .schema import Schema


class Filling:
    """Shards that are being filled, one after the other.

    Args:
        folder: the store's `Folder`.
        schema: the `Schema`.
        number: of the first shard.
        record: number of the first record.
        chunk_bytes: bytes that are held in memory, and written as a chunk.
        shard_rows: records after which a new shard begins, or None.
        shard_bytes: bytes after which a new shard begins.
        completed: called when a shard has become complete because it is full.

    Attributes:
        columns: the `_ext.Columns` of records that are in memory; the number of the next record is theirs.
        entries: a `ShardEntry` of each shard that is complete; whoever commits them takes them away.
    """

    schema: Schema
    entries: list[ShardEntry]

    def __init__(
        self,
        folder: Folder,
        schema: Schema,
        number: int,
        record: int,
        chunk_bytes: int,
        shard_rows: int | None,
        shard_bytes: int,
        completed: Callable[[], None],
    ) -> None:
        self.schema, self.entries = schema, []
        fields = [(name, kind.store, kind.inner_shape, kind.ragged, kind.optional) for name, kind in schema.items()]
        self.columns: Any = _ext.Columns(fields, chunk_bytes)
        self.columns.number, self.columns.room = record, 0
        self._folder, self._number, self._completed = folder, number, completed
        self._chunk, self._rows, self._bytes = chunk_bytes, shard_rows or 1 << 62, shard_bytes
        self._shard, self._left, self._size = None, 0, 0

    @property
    def room(self) -> int:
        """Records that can be appended without looking at anything else."""
        return max(self.columns.room, 0)

    def make_room(self) -> None:
        """Flush the chunk, and begin a new shard if this one is full."""
        self.flush()
        if self._shard is not None and (self._left <= 0 or self._size >= self._bytes):
            self.seal()
            self._completed()
        if self._shard is None:
            self._left, self._size = self._rows, 0
            self._open()
        self.columns.room = self._left

    def write(self, parts: Sequence[Rows]) -> None:
        """Write many records, given as the `Rows` of each field."""
        start, rows, most = 0, parts[0].number, self._chunk // 16
        if sum(part.nbytes for part in parts) > most:
            sizes = np.sum([part.sizes for part in parts], axis=0)
            # What is small is copied, to be written with what follows.
            while start < rows and sizes[-1] - (done := int(sizes[start - 1]) if start else 0) > most:
                self.make_room()
                end = max(int(np.searchsorted(sizes, done + self._chunk, "right")), start + 1)
                end = min(end, rows, start + self.room)
                self._write_through(parts, start, end, int(sizes[end - 1]) - done)
                start = end
        while start < rows:
            if not self.room:
                self.make_room()
            end = min(rows, start + self.room)
            self.columns.extend([(part.data, part.offsets, part.valid) for part in parts], start, end)
            start = end

    def _write_through(self, parts: Sequence[Rows], start: int, end: int, nbytes: int) -> None:
        """Write some rows as a chunk of their own."""
        chunk, rows = [], end - start
        for name, part in zip(self.schema, parts, strict=True):
            try:
                chunk.append(part.part(start, end))
            except OverflowError as error:
                raise RecordError(str(error), self.columns.number, name) from None
        self._open().write(chunk, rows)
        self._left -= rows
        self._size += nbytes
        self.columns.number += rows
        self.columns.room = 0

    def flush(self) -> None:
        """Write the records in memory as a chunk."""
        rows, nbytes = self.columns.rows, self.columns.nbytes
        if rows == 0:
            return
        self._open().write(self.columns.take(), rows)
        self._left -= rows
        self._size += nbytes

    def seal(self) -> None:
        """Make what was written a complete shard; the next record begins another."""
        self.flush()
        if self._shard is None:
            return
        if self._shard.rows:
            self.entries.append(self._shard.seal())
            self._number += 1
        else:
            self._shard.abort()
        self._shard, self.columns.room = None, 0

    def abort(self) -> None:
        """Drop the shard that is not complete."""
        if self._shard is not None:
            self._shard.abort()

    def _open(self) -> ShardWriter:
        if self._shard is None:
            self._shard = ShardWriter(self._folder, self._number, self.schema)
        return self._shard
