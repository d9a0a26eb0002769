"""Reading a store: records by number, views, lengths without records."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex, Unpack, overload

import numpy as np
import xxhash
from numpy.typing import NDArray

from kseq.arguments import as_integer, as_integers

from ...annotations import AnyPath, AnyPaths
from ..errors import IncompleteStoreWarning, SchemaError, StoreError
from .columns import seen, stored_rows
from .core import Core, Snapshot, check_same
from .folder import open_folder
from .manifest import read_manifest
from .protocol import Place
from .schema import Schema
from .splits import fold_indices, split_indices

if TYPE_CHECKING:
    from ..batches.batches import Batches
    from ..batches.options import BatchesOptions


def open(path: AnyPaths, *, in_memory: bool = False, verify: bool = False, cache: AnyPath | None = None) -> Store:
    """Open a store, or several as one.

    Shards are memory-mapped: what is not read is not loaded, and arrays stay valid after `close`. The offsets of every
    sequence are checked; checksums only if `verify` is set. Should another program truncate a shard that is open, the
    operating system ends the process that reads it (SIGBUS): where files may be cut under a reader, as on a shared
    folder that others synchronise, open with `in_memory=True` or a copy, and `verify` says afterwards what is damaged.

    Args:
        path: folder of a store, a URL that `fsspec` knows, or a list of them, whose records follow one another.
        in_memory: read the shards into memory instead.
        verify: compare checksums of all files first.
        cache: local folder for the files of remote stores. A shard is copied there when one of its records is first
            read, all are when they are batched or read by column; `kseq.data.clear_cache` removes them.

    Raises:
        StoreNotFoundError: there is no store.
        ManifestError: a manifest that is damaged.
        ShardError: a shard that is missing, truncated or damaged; says which. Of a remote store, when it is read.
        SchemaError: several stores whose fields differ.

    Example:
        >>> import tempfile
        >>> from kseq.data import Writer
        >>> path = tempfile.mkdtemp() + "/store"
        >>> with Writer(path) as writer:
        ...     for length in (3, 1, 2):
        ...         _ = writer.write({"tokens": np.arange(length)})
        >>> store = open(path)
        >>> len(store), store.lengths.tolist(), store[-1]
        (3, [3, 1, 2], {'tokens': array([0, 1])})
        >>> [len(part) for part in store.split(0.5)]
        [2, 1]
    """
    paths: list[AnyPath] = list(path) if isinstance(path, (list, tuple)) else [path]
    if not paths:
        raise StoreError("no store was given to open")
    sources = []
    for each in paths:
        folder = open_folder(each, cache)
        manifest = read_manifest(folder)
        if verify:
            from .verification import verify as check

            check(folder).raise_first()
        if not manifest.complete:
            warnings.warn(
                f"{folder}: the writer did not finish; this is the last commit, with {manifest.records} records",
                IncompleteStoreWarning,
                stacklevel=2,
            )
        sources.append(Snapshot(folder, manifest, in_memory))
    check_same([(source.folder, source.manifest.schema) for source in sources])
    schema = sources[0].manifest.schema
    return whole(Core([source.select(source.named(schema)) for source in sources], schema))


class Store:
    """Records on disk: `store[i]` is one, a dict of its fields; slices and lists of numbers are views.

    Arrays are read-only views of the mapped files where the field is stored in its own dtype. Made by `open`,
    `concatenate` and `parallel`; safe to use from several threads, to pickle (the files are opened again) and to use
    after a fork. What other parts of kseq ask of it is in `protocol.py`.

    Args:
        schema: the `Schema`.
        places: for each field its `Place`.
        metadata: what the writers said of the data.

    Attributes:
        schema: the `Schema`.
        metadata: what the writer said of the data (of the first store, where several were opened or concatenated; by
            name, where they are parallel).
    """

    schema: Schema
    metadata: dict[str, Any]

    def __init__(self, schema: Schema, places: dict[str, Place], metadata: dict[str, Any]) -> None:
        self.schema, self.metadata = schema, metadata
        self._places, self._closed = places, False

    @property
    def fields(self) -> Schema:
        """The names of the fields with what they hold."""
        return self.schema

    @property
    def paths(self) -> list[str]:
        """The folders or URLs."""
        return list(dict.fromkeys(str(source.folder) for source in self._sources()))

    @property
    def content_hash(self) -> str:
        """A checksum of schema, records and selection: 32 hexadecimal digits."""
        groups = {}
        for name, place in self._open.items():
            groups.setdefault(place.group, (place, []))[1].append((name, place.column))
        hashes = [_hash(place) for place, _ in groups.values()]
        (first, named), *more = groups.values()
        if not more and named == [(name, number) for number, name in enumerate(first.core.schema)]:
            return hashes[0]
        parts = [(part, columns) for part, (_, columns) in zip(hashes, groups.values(), strict=True)]
        return xxhash.xxh3_128_hexdigest(repr((parts, self.schema.main)).encode())

    @property
    def complete(self) -> bool:
        """Whether the writer of every store came to its end."""
        return all(source.manifest.complete for source in self._sources())

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Lengths of the main sequence of every record: int32 [N], read without touching the records.

        Raises:
            SchemaError: no field is a sequence.
        """
        if self.schema.main is None:
            raise SchemaError(f"records without a sequence have no lengths; the fields are {self.schema}")
        core, _, rows = self._leading
        return core.lengths() if rows is None else core.lengths()[rows]

    def field_lengths(self, field: str, ids: NDArray[Any] | None = None) -> NDArray[np.int64]:
        """Lengths of a sequence of some records, or of all: int64, 0 where it is missing.

        Raises:
            SchemaError: a field that is no sequence.
        """
        core, column, rows = self.place(field)
        if not (self.schema[field].ragged or self.schema[field].text):
            raise SchemaError(f"field {field!r} is no sequence; it is {self.schema[field]}")
        if rows is not None:
            ids = rows if ids is None else rows[ids]
        out = np.empty(core.rows if ids is None else len(ids), np.int64)
        bad = core.chunks.table.lengths(column, ids, out)
        if bad >= 0:
            raise core.chunks.lying(column, bad if ids is None else int(ids[bad]))
        return out

    def place(self, field: str) -> Place:
        """Where a field lies.

        Raises:
            SchemaError: there is no such field.
        """
        if field not in self.schema:
            raise SchemaError(f"a field must be one of {list(self.schema)}; received {field!r}")
        return self._open[field]

    @property
    def splits(self) -> dict[str, Store]:
        """The named splits of the store, a dict of views; of parallel stores those of the leader, as parts of all."""
        core, _, rows = self._leading
        if rows is not None:
            raise StoreError("a view has no splits; take them of the whole store")
        return {name: self[ids] for name, ids in core.splits().items()}

    def __len__(self) -> int:
        core, _, rows = self._leading
        return core.rows if rows is None else len(rows)

    @overload
    def __getitem__(self, index: slice | Sequence[int] | Sequence[bool] | NDArray[Any]) -> Store: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]: ...
    def __getitem__(self, index: Any) -> Any:
        """A record, for an integer; a view, for a slice, integers or a mask [N]."""
        if isinstance(index, (slice, list, tuple, np.ndarray)):
            return self._view(self._ids_of(index))
        row, count = as_integer("a record number", index), len(self)
        if not -count <= row < count:
            raise IndexError(f"a record number must be in [-{count}, {count}); received {index}")
        row %= count
        return {
            name: core.value(column, row if rows is None else int(rows[row]))
            for name, (core, column, rows) in self._open.items()
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        if self._closed:
            return "Store(closed)"
        return f"Store({', '.join(self.paths)}: {len(self)} records of {dict(self.schema)})"

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; arrays that were read stay valid, as do views."""
        self._places, self._closed = {}, True

    def column(self, field: str) -> Any:
        """All values of a field: a `Ragged` of a sequence, a list of texts, else an array [N, ...].

        Sequences of what are no numbers (dates, parts) are a list of arrays, since a `Ragged` holds numbers.

        Raises:
            SchemaError: there is no such field.
            RecordError: a value is missing.
        """
        self.place(field)
        return seen(field, self.schema[field], stored_rows(self, field, 0, len(self)))

    def columns(self) -> dict[str, Any]:
        """All fields by column, as `Writer.write_batch` takes them: a dict of what `column` gives.

        Raises:
            RecordError: a value is missing that is no sequence. (`Writer.write_store` copies such.)

        Example:
            >>> writer.write_batch(store[100:200].columns())  # doctest: +SKIP
        """
        return {name: self.column(name) for name in self.schema}

    def filter(self, predicate: Callable[[dict[str, Any]], Any]) -> Store:
        """A view of the records for which `predicate(record)` holds.

        Example:
            >>> long = store.filter(lambda record: len(record["tokens"]) > 1)  # doctest: +SKIP
        """
        return self[np.flatnonzero([bool(predicate(record)) for record in self])]

    def split(self, *shares: float, by: str | None = None, seed: int | None = None) -> list[Store]:
        """Split into views; what the shares leave of 1 is one more.

        Args:
            *shares: the share of each part, such as `0.8, 0.1`.
            by: a field whose equal values stay in one part, such as the speaker.
            seed: of the random choice; by default every part is spread evenly over the order of the records.

        Raises:
            ValueError: shares that are not positive, or sum to more than 1.
            SchemaError: no such field, or a sequence.

        Example:
            >>> train, valid, test = store.split(0.8, 0.1, seed=0)  # doctest: +SKIP
        """
        return [self[part] for part in split_indices(len(self), shares, self._groups(by), seed)]

    def folds(self, count: int, *, by: str | None = None, seed: int | None = None) -> list[tuple[Store, Store]]:
        """Pairs (train, test) of views for cross-validation: every record is in the test part of one of `count` pairs.

        Args:
            count: number of folds, at least 2.
            by: as in `split`.
            seed: as in `split`.

        Raises:
            ValueError: fewer than 2 folds.
            SchemaError: no such field, or a sequence.
        """
        pairs = fold_indices(len(self), count, self._groups(by), seed)
        return [(self[train], self[test]) for train, test in pairs]

    def batches(self, **options: Unpack[BatchesOptions]) -> Batches:
        """Padded batches for `model.fit`: see `kseq.data.Batches`, which has the arguments."""
        from ..batches.batches import Batches

        return Batches(self, **options)

    def to_tf(self, fields: Sequence[str] | None = None) -> Any:
        """A `tf.data.Dataset` of the records, each a tuple of some fields, by default of all in their order."""
        from ..batches.feeds import records_to_tf

        return records_to_tf(self, fields)

    @property
    def _open(self):
        if self._closed:
            raise StoreError("the store is closed")
        return self._places

    @property
    def _leading(self):
        """Where the main sequence lies, or the first field."""
        places = self._open
        return places[self.schema.main or next(iter(places))]

    def _sources(self):
        cores = {id(place.core): place.core for place in self._open.values()}
        return [source for core in cores.values() for source in core.sources]

    def _groups(self, by: str | None) -> NDArray[np.int64] | None:
        """A number from 0 for the value of a field in each record, or None for no field."""
        if by is None:
            return None
        self.place(by)
        if self.schema[by].shape:
            raise SchemaError(f"records are split by a field of single values; field {by!r} is {self.schema[by]}")
        values, numbers = self._values_of(by), {}
        return np.array([numbers.setdefault(_key(value), len(numbers)) for value in values], np.int64)

    def _values_of(self, field):
        core, column, rows = self.place(field)
        return [core.value(column, row) for row in (range(core.rows) if rows is None else rows.tolist())]

    def _view(self, ids: NDArray[Any]) -> Store:
        """The records of these numbers."""
        chosen, places = {}, {}  # those of fields that lie in the same rows stay the same object: see `Place`
        for name, place in self._open.items():
            key = id(place.rows)
            if key not in chosen:
                chosen[key] = ids if place.rows is None else place.rows[ids]
            places[name] = place._replace(rows=chosen[key])
        return Store(self.schema, places, self.metadata)

    def _ids_of(self, index):
        """Numbers of records, int64, in [0, N)."""
        count = len(self)
        if isinstance(index, slice):
            ids = np.arange(*index.indices(count))
        elif isinstance(index, np.ndarray) and index.dtype == bool:
            if index.shape != (count,):
                raise IndexError(f"a mask must have shape ({count},); received {index.shape}")
            ids = np.flatnonzero(index)
        else:
            ids = as_integers("record numbers", index)
            bad = np.flatnonzero((ids < -count) | (ids >= count))
            if len(bad):
                raise IndexError(f"record numbers must be in [-{count}, {count}); received {ids[bad[0]]}")
            ids = np.where(ids < 0, ids + count, ids)
        return np.ascontiguousarray(ids, np.int64)


def whole(core: Core) -> Store:
    """All rows of columns as a store."""
    places = {name: Place(core, number, None) for number, name in enumerate(core.schema)}
    return Store(core.schema, places, core.sources[0].manifest.metadata)


def _hash(place):
    """A checksum of the columns and rows where fields lie."""
    core, _, rows = place
    return core.hash if rows is None else xxhash.xxh3_128_hexdigest(core.hash.encode() + rows.tobytes())


def _key(value):
    """A value as a key of a dict."""
    return value.tobytes() if isinstance(value, (np.ndarray, np.generic)) else value
