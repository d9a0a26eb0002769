"""The columns of one or more stores on disk, opened when they are needed."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from ..errors import SchemaError, StoreChangedError
from .chunks import Chunks
from .folder import RemoteFolder
from .manifest import content_hash, read_manifest
from .mapping import mapped
from .schema import Schema

if TYPE_CHECKING:
    from .folder import Folder
    from .manifest import StoreManifest


class Snapshot:
    """One folder of a store, as it was when it was opened, and which of its columns are meant.

    Args:
        folder: the `Folder`.
        manifest: its `StoreManifest`.
        in_memory: whether shards are read instead of mapped.
        numbers: of the columns, in order; by default all.
    """

    folder: Folder
    manifest: StoreManifest
    in_memory: bool

    def __init__(
        self, folder: Folder, manifest: StoreManifest, in_memory: bool = False, numbers: Iterable[int] | None = None
    ) -> None:
        self.folder, self.manifest, self.in_memory = folder, manifest, in_memory
        self.numbers: list[int] = list(range(len(manifest.schema)) if numbers is None else numbers)

    def select(self, numbers: Iterable[int]) -> Snapshot:
        """Some of the columns, by their numbers among these."""
        return Snapshot(self.folder, self.manifest, self.in_memory, [self.numbers[number] for number in numbers])

    def named(self, names: Iterable[str]) -> list[int]:
        """The numbers of all columns, by their names in the store."""
        known = list(self.manifest.schema)
        return [known.index(name) for name in names]

    @property
    def content_hash(self) -> str:
        """A checksum of the columns."""
        whole = self.numbers == list(range(len(self.manifest.schema)))
        return self.manifest.content_hash + ("" if whole else str(self.numbers))

    def __reduce__(self) -> tuple[Any, ...]:
        rest = dataclasses.replace(self.manifest, shards=())
        shards, expected = len(self.manifest.shards), self.manifest.content_hash
        return _reopen, (self.folder, rest, shards, expected, self.in_memory, self.numbers)


def _reopen(folder, rest, shards, expected, in_memory, numbers):
    """The same shards again, which are there still if the store has grown, with what was said of them then."""
    manifest = read_manifest(folder)
    first = manifest.shards[:shards]
    if content_hash(manifest.schema, first) != expected:
        raise StoreChangedError("the store is not the one that was opened before", folder)
    return Snapshot(folder, dataclasses.replace(rest, shards=first), in_memory, numbers)


class Core:
    """Columns by schema, of stores whose rows follow one another: local ones open at once, remote ones when needed.

    Args:
        sources: `Snapshot`s, whose columns have the fields of the schema in its order.
        schema: the `Schema`.

    Attributes:
        rows: their number.
        hash: a checksum of schema and rows.

    Raises:
        ShardError: a shard that is missing, truncated or damaged; says which.
    """

    sources: Sequence[Snapshot]
    schema: Schema
    rows: int

    def __init__(self, sources: Sequence[Snapshot], schema: Schema) -> None:
        self.sources, self.schema = sources, schema
        ends = np.cumsum([0, *(entry.records for source in sources for entry in source.manifest.shards)])
        self._ends, self.rows = ends, int(ends[-1])
        hashes = [source.content_hash for source in sources]
        self.hash: str = hashes[0] if len(hashes) == 1 else xxhash.xxh3_128_hexdigest("".join(hashes).encode())
        self._chunks, self._parts, self._guard = None, {}, threading.Lock()
        if not any(isinstance(source.folder, RemoteFolder) for source in sources):
            self._chunks = Chunks(sources, schema)

    def __reduce__(self) -> tuple[Any, ...]:
        return Core, (self.sources, self.schema)

    @property
    def chunks(self) -> Chunks:
        """All shards; those of remote stores are copied, where they are not yet."""
        if self._chunks is None:
            with self._guard:
                if self._chunks is None:
                    self._chunks = Chunks(self.sources, self.schema)
        return self._chunks

    def value(self, column: int, row: int) -> Any:
        """One field of one record; of a remote store the shard that it lies in is copied, where it is not yet."""
        if self._chunks is not None:
            return self._chunks.value(column, row)
        number = int(np.searchsorted(self._ends, row, "right")) - 1
        return self._part(number).value(column, row - int(self._ends[number]))

    def _part(self, number):
        """One shard."""
        with self._guard:
            if number not in self._parts:
                shards = [(source, entry) for source in self.sources for entry in source.manifest.shards]
                source, entry = shards[number]
                manifest = dataclasses.replace(source.manifest, shards=(entry,))
                alone = Snapshot(source.folder, manifest, source.in_memory, source.numbers)
                self._parts[number] = Chunks([alone], self.schema)
        return self._parts[number]

    def lengths(self) -> NDArray[np.int32]:
        """Lengths of the main sequence of every row, int32, mapped where there is one shard."""
        parts = []
        for source in self.sources:
            for entry in source.manifest.shards:
                path = source.folder.fetch(entry.lengths_file, 4 * entry.records, entry.lengths_xxh3)
                parts.append(np.frombuffer(mapped(path) if entry.records else b"", "<i4"))
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int32), *parts])

    def splits(self) -> dict[str, NDArray[np.int64]]:
        """The named splits, each the numbers of its rows."""
        offset, named = 0, {}
        for source in self.sources:
            for name, ranges in source.manifest.splits.items():
                rows = [np.arange(first + offset, end + offset) for first, end in ranges]
                named.setdefault(name, []).extend(rows)
            offset += source.manifest.records
        return {name: np.concatenate([np.empty(0, np.int64), *rows]) for name, rows in named.items()}


def check_same(schemas: Iterable[tuple[Any, Schema]]) -> None:
    """Refuse stores of different fields or main sequences; the order of fields may differ.

    Args:
        schemas: pairs of where a store lies and its schema.

    Raises:
        SchemaError: fields that differ.
    """
    (first, wanted), *rest = schemas
    for where, schema in rest:
        if dict(schema) != dict(wanted) or schema.main != wanted.main:
            raise SchemaError(f"{where}: the fields must be those of {first}, {wanted}; received {schema}")
