"""Shards that are open: their columns in chunks, whose offsets are checked, and single values of them."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseq import _ext

from ..errors import ShardError
from .shard import read_shard, step_bytes

if TYPE_CHECKING:
    from .core import Snapshot
    from .schema import Schema

_READERS = 16  # threads that open shards


class Chunks:
    """The columns of shards that follow one another. Chunks are what the shards were written in.

    Args:
        sources: `Snapshot`s.
        schema: the `Schema` of the columns.

    Attributes:
        table: the `_ext.Table` of all columns.
        values: for each column, for each chunk, an array of its steps, or of bytes for text.
        first_rows: the first row of each chunk, and the number of rows; a list.

    Raises:
        ShardError: a shard that is missing, truncated or damaged; says which.
    """

    def __init__(self, sources: Sequence[Snapshot], schema: Schema) -> None:
        self._fields, self._shards, counts = list(schema.items()), [], [0]
        columns = [[] for _ in schema]
        for where, chunks in _read_shards(sources):
            first = 0
            for rows, chunk in chunks:
                for column, part in zip(columns, chunk, strict=True):
                    column.append(part)
                self._shards.append((where, first))
                counts.append(rows)
                first += rows
        self._first = np.cumsum(counts, dtype=np.int64)
        self.first_rows: list[int] = self._first.tolist()
        sizes = [step_bytes(field) for field in schema.values()]
        try:
            self.table: Any = _ext.Table(self._first, list(zip(sizes, columns, strict=True)))
        except ValueError as error:
            raise ShardError(f"a chunk is too short: {error}", sources[0].folder) from None
        for number in range(len(schema)):
            bad = self.table.check(number)
            if bad >= 0:
                raise self.lying(number, bad)
        self.values: list[list[NDArray[Any]]] = [
            [_typed(data, field, size) for data, _, _ in column]
            for column, field, size in zip(columns, schema.values(), sizes, strict=True)
        ]

    def value(self, column: int, row: int) -> Any:
        """One field of one record; None where it is missing.

        Raises:
            ShardError: what is on the disk was damaged since it was opened.
        """
        place = self.table.locate(column, row)
        if place is None:
            raise self.lying(column, row)
        chunk, start, steps = place
        if steps < 0:
            return None
        values, field = self.values[column][chunk], self._fields[column][1]
        if field.text:
            data = values[start : start + steps].tobytes()
            try:
                return data.decode() if field.dtype == "string" else data
            except UnicodeDecodeError as error:
                raise self._damaged(row, f"field {self._fields[column][0]!r} of its record {{}}: {error}") from None
        values = values[start : start + steps] if field.ragged else values[start]
        return values.astype(field.dtype) if field.store != field.dtype else values

    def lying(self, column: int, row: int) -> ShardError:
        """The error for a row whose offsets lead out of its chunk."""
        return self._damaged(row, f"offsets of field {self._fields[column][0]!r} lie at its record {{}}")

    def _damaged(self, row: int, what: str) -> ShardError:
        chunk = int(np.searchsorted(self._first, row, "right")) - 1
        where, first = self._shards[chunk]
        return ShardError(f"the shard is damaged: {what.format(row - int(self._first[chunk]) + first)}", where)


def _read_shards(sources):
    """For each shard where it lies and its chunks; several at once, since a cold disk answers so much sooner."""
    shards = [(source, entry) for source in sources for entry in source.manifest.shards]

    def read(shard):
        source, entry = shard
        where = source.folder.where(entry.file)
        path = source.folder.fetch(entry.file, entry.bytes, entry.xxh3)
        chunks = read_shard(path, where, entry, source.manifest.schema, source.in_memory)
        return where, [(rows, [columns[number] for number in source.numbers]) for rows, columns in chunks]

    if len(shards) < 2:
        return [read(shard) for shard in shards]
    with concurrent.futures.ThreadPoolExecutor(min(len(shards), _READERS)) as threads:
        return list(threads.map(read, shards))


def _typed(data, field, size):
    """A chunk's bytes as an array of steps, or of bytes for text."""
    if field.text:
        return data
    return data[: len(data) // size * size].view(field.store).reshape(-1, *field.inner_shape)
