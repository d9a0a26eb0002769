"""Reading a store: records by number, views, lengths without records."""

import concurrent.futures
import dataclasses
import itertools
import threading
import warnings

import numpy as np

from kseq import _ext
from kseq.arguments import as_integer, as_integers
from kseq.ragged import Ragged

from ..errors import (
    IncompleteStoreWarning,
    RecordError,
    SchemaError,
    ShardError,
    StoreChangedError,
    StoreError,
)
from .folder import RemoteFolder, open_folder
from .manifest import content_hash, read_manifest
from .mapping import mapped
from .shard import read_shard, step_bytes
from .splits import fold_indices, split_indices

_READERS = 16  # threads that open shards


def open(path, *, in_memory=False, verify=False, cache=None) -> "Store":
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
    paths = list(path) if isinstance(path, (list, tuple)) else [path]
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
        sources.append(_Snapshot(folder, manifest, in_memory))
    return Store(_Core(sources))


class _Snapshot:
    """One folder of a store, as it was when it was opened."""

    def __init__(self, folder, manifest, in_memory):
        self.folder, self.manifest, self.in_memory = folder, manifest, in_memory

    def __reduce__(self):
        rest = dataclasses.replace(self.manifest, shards=())
        return _reopen, (self.folder, rest, len(self.manifest.shards), self.manifest.content_hash, self.in_memory)


def _reopen(folder, rest, shards, expected, in_memory):
    """The same shards again, which are there still if the store has grown, with what was said of them then."""
    manifest = read_manifest(folder)
    first = manifest.shards[:shards]
    if content_hash(manifest.schema, first) != expected:
        raise StoreChangedError("the store is not the one that was opened before", folder)
    return _Snapshot(folder, dataclasses.replace(rest, shards=first), in_memory)


def _read_shards(sources, schema):
    """For each shard where it lies and its chunks; several at once, since a cold disk answers so much sooner."""
    shards = [(source, entry) for source in sources for entry in source.manifest.shards]

    def read(shard):
        source, entry = shard
        where = source.folder.where(entry.file)
        path = source.folder.fetch(entry.file, entry.bytes, entry.xxh3)
        return where, read_shard(path, where, entry, schema, source.in_memory)

    if len(shards) < 2:
        return [read(shard) for shard in shards]
    with concurrent.futures.ThreadPoolExecutor(min(len(shards), _READERS)) as threads:
        return list(threads.map(read, shards))


_READ = {"table", "values", "first", "first_rows", "shards"}  # what is known of the shards once they are open


class _Core:
    """The columns of one or more stores, mapped: local ones at once, remote ones when they are needed."""

    def __init__(self, sources):
        self.sources, self.schema = sources, sources[0].manifest.schema
        for source in sources[1:]:
            if source.manifest.schema != self.schema:
                raise SchemaError(
                    f"{source.folder}: the fields must be those of {sources[0].folder}, {self.schema}; "
                    f"received {source.manifest.schema}"
                )
        ends = np.cumsum([0, *(entry.records for source in sources for entry in source.manifest.shards)])
        self._ends, self.rows, self._parts, self._guard = ends, int(ends[-1]), {}, threading.Lock()
        self.hash = sources[0].manifest.content_hash
        if len(sources) > 1:
            import xxhash

            hashes = "".join(source.manifest.content_hash for source in sources)
            self.hash = xxhash.xxh3_128_hexdigest(hashes.encode())
        if not any(isinstance(source.folder, RemoteFolder) for source in sources):
            self._read()

    def __getattr__(self, name):
        # Shards of a remote store are copied when they are asked for: all of them here, one of them in `value`.
        if name not in _READ:
            raise AttributeError(name)
        with self._guard:
            if "values" not in vars(self):
                try:
                    self._read()
                except BaseException:
                    for each in _READ:  # what was not checked to its end is not used
                        vars(self).pop(each, None)
                    raise
        return vars(self)[name]

    def _read(self):
        """Open all shards."""
        sources = self.sources
        self.shards, counts = [], [0]  # of each chunk: where its shard lies and its first record in it
        columns = [[] for _ in self.schema]
        for where, chunks in _read_shards(sources, self.schema):
            first = 0
            for rows, chunk in chunks:
                for column, part in zip(columns, chunk, strict=True):
                    column.append(part)
                self.shards.append((where, first))
                counts.append(rows)
                first += rows
        self.first = np.cumsum(counts, dtype=np.int64)
        self.first_rows = self.first.tolist()
        sizes = [step_bytes(field) for field in self.schema.values()]
        try:
            self.table = _ext.Table(self.first, list(zip(sizes, columns, strict=True)))
        except ValueError as error:
            raise ShardError(f"a chunk is too short: {error}", sources[0].folder) from None
        for number, name in enumerate(self.schema):
            bad = self.table.check(number)
            if bad >= 0:
                raise self.lying(bad, name)
        self.values = [
            [_typed(data, field, size) for data, _, _ in column]
            for column, field, size in zip(columns, self.schema.values(), sizes, strict=True)
        ]

    def _part(self, row):
        """One shard of a remote store as a core of its own, and the place of a row in it."""
        number = int(np.searchsorted(self._ends, row, "right")) - 1
        with self._guard:
            if number not in self._parts:
                shards = [(source, entry) for source in self.sources for entry in source.manifest.shards]
                source, entry = shards[number]
                manifest = dataclasses.replace(source.manifest, shards=(entry,))
                part = _Core([_Snapshot(source.folder, manifest, source.in_memory)])
                part._read()
                self._parts[number] = part
        return self._parts[number], row - int(self._ends[number])

    def __reduce__(self):
        return _Core, (self.sources,)

    def lying(self, row, name):
        """The error for a row whose offsets lead out of its chunk."""
        chunk = int(np.searchsorted(self.first, row, "right")) - 1
        where, first = self.shards[chunk]
        record = row - int(self.first[chunk]) + first
        return ShardError(f"the shard is damaged: offsets of field {name!r} lie at its record {record}", where)

    def lengths(self):
        """Lengths of the main sequence of every record, int32, mapped where there is one shard."""
        parts = []
        for source in self.sources:
            for entry in source.manifest.shards:
                path = source.folder.fetch(entry.lengths_file, 4 * entry.records, entry.lengths_xxh3)
                parts.append(np.frombuffer(mapped(path) if entry.records else b"", "<i4"))
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int32), *parts])

    def value(self, number, field, name, row):
        """One field of one record."""
        if "values" not in vars(self):
            part, row = self._part(row)
            return part.value(number, field, name, row)
        place = self.table.locate(number, row)
        if place is None:
            raise self.lying(row, name)
        chunk, start, steps = place
        if steps < 0:
            return None
        values = self.values[number][chunk]
        if field.text:
            data = values[start : start + steps].tobytes()
            try:
                return data.decode() if field.dtype == "string" else data
            except UnicodeDecodeError as error:
                where, first = self.shards[chunk]
                record = row - int(self.first[chunk]) + first
                raise ShardError(
                    f"the shard is damaged: field {name!r} of its record {record}: {error}", where
                ) from None
        values = values[start : start + steps] if field.ragged else values[start]
        return values.astype(field.dtype) if field.store != field.dtype else values


class Store:
    """Records on disk: `store[i]` is one, a dict of its fields; slices and lists of numbers are views.

    Arrays are read-only views of the mapped files where the field is stored in its own dtype. Made by `open`; safe to
    use from several threads, to pickle (the files are opened again) and to use after a fork.

    Attributes:
        schema: the `Schema`.
        metadata: what the writer said of the data (of the first store, where several were opened).
    """

    def __init__(self, core, ids=None):
        self._core, self._ids = core, ids
        self.schema = core.schema
        self.metadata = core.sources[0].manifest.metadata

    @property
    def fields(self):
        """The names of the fields with what they hold."""
        return self.schema

    @property
    def paths(self):
        """The folders or URLs."""
        return [str(source.folder) for source in self._open.sources]

    @property
    def content_hash(self):
        """A checksum of schema, records and selection: 32 hexadecimal digits."""
        if self._ids is None:
            return self._open.hash
        import xxhash

        return xxhash.xxh3_128_hexdigest(self._open.hash.encode() + self._ids.tobytes())

    @property
    def complete(self):
        """Whether the writer of every store came to its end."""
        return all(source.manifest.complete for source in self._open.sources)

    @property
    def lengths(self):
        """Lengths of the main sequence of every record: int32 [N], read without touching the records.

        Raises:
            SchemaError: no field is a sequence.
        """
        if self.schema.main is None:
            raise SchemaError(f"records without a sequence have no lengths; the fields are {self.schema}")
        lengths = self._open.lengths()
        return lengths if self._ids is None else lengths[self._ids]

    def field_lengths(self, field, ids=None):
        """Lengths of a sequence of some records, or of all: int64, 0 where it is missing.

        Raises:
            SchemaError: a field that is no sequence.
        """
        number = self._number(field)
        if not (self.schema[field].ragged or self.schema[field].text):
            raise SchemaError(f"field {field!r} is no sequence; it is {self.schema[field]}")
        if self._ids is not None:
            ids = self._ids if ids is None else self._ids[ids]
        out = np.empty(self._open.rows if ids is None else len(ids), np.int64)
        bad = self._open.table.lengths(number, ids, out)
        if bad >= 0:
            raise self._open.lying(bad if ids is None else int(ids[bad]), field)
        return out

    def part_of(self, field):
        """The store that a field lies in, and its name there."""
        return self, field

    @property
    def splits(self):
        """The named splits of the store, a dict of views."""
        offset, named = 0, {}
        for source in self._open.sources:
            for name, ranges in source.manifest.splits.items():
                rows = [np.arange(first + offset, end + offset) for first, end in ranges]
                named.setdefault(name, []).extend(rows)
            offset += source.manifest.records
        if self._ids is not None:
            raise StoreError("a view has no splits; take them of the whole store")
        return {name: self._view(np.concatenate([np.empty(0, np.int64), *rows])) for name, rows in named.items()}

    def __len__(self):
        return self._open.rows if self._ids is None else len(self._ids)

    def __getitem__(self, index):
        """A record, for an integer; a view, for a slice, integers or a mask [N]."""
        core = self._core
        if isinstance(index, (slice, list, tuple, np.ndarray)):
            return self._select(index)
        row = as_integer("a record number", index)
        count = len(self)
        if not -count <= row < count:
            raise IndexError(f"a record number must be in [-{count}, {count}); received {index}")
        row %= count
        if self._ids is not None:
            row = int(self._ids[row])
        return {name: core.value(number, field, name, row) for number, (name, field) in enumerate(self.schema.items())}

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        if self._core is None:
            return "Store(closed)"
        return f"Store({', '.join(self.paths)}: {len(self)} records of {dict(self.schema)})"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Let go of the files; arrays that were read stay valid."""
        self._core = None

    def column(self, field):
        """All values of a field: a `Ragged` of a sequence, a list of texts, else an array [N, ...].

        Sequences of what are no numbers (dates, parts) are a list of arrays, since a `Ragged` holds numbers.

        Raises:
            SchemaError: there is no such field.
            RecordError: a value is missing.
        """
        self._number(field)
        kind, values = self.schema[field], self._values_of(field)
        if kind.text:
            return values
        for row, value in enumerate(values):
            if value is None and not kind.ragged:
                raise RecordError("the value is missing", row, field)
        if not kind.ragged:
            return np.array(values, kind.dtype).reshape(len(values), *kind.shape)
        empty = np.empty((0, *kind.inner_shape), kind.dtype)
        values = [empty if value is None else value for value in values]
        numbers = kind.dtype.kind in "biufc" or (kind.dtype.kind == "V" and kind.dtype.isbuiltin == 2)
        return Ragged.from_rows(values or [empty])[: len(values)] if numbers else values

    def filter(self, predicate):
        """A view of the records for which `predicate(record)` holds.

        Example:
            >>> long = store.filter(lambda record: len(record["tokens"]) > 1)  # doctest: +SKIP
        """
        return self._select(np.flatnonzero([bool(predicate(record)) for record in self]))

    def split(self, *shares, by=None, seed=None):
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
        return [self._select(part) for part in split_indices(len(self), shares, self._groups(by), seed)]

    def folds(self, count, *, by=None, seed=None):
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
        return [(self._select(train), self._select(test)) for train, test in pairs]

    def batches(self, **options):
        """Padded batches for `model.fit`: see `kseq.data.Batches`, which has the arguments."""
        from ..batches.batches import Batches

        return Batches(self, **options)

    def to_tf(self, fields=None):
        """A `tf.data.Dataset` of the records, each a tuple of some fields, by default of all in their order."""
        from ..batches.feeds import records_to_tf

        return records_to_tf(self, fields)

    @property
    def _open(self):
        if self._core is None:
            raise StoreError("the store is closed")
        return self._core

    def _number(self, field):
        if field not in self.schema:
            raise SchemaError(f"a field must be one of {list(self.schema)}; received {field!r}")
        return list(self.schema).index(field)

    def _groups(self, by):
        """A number from 0 for the value of a field in each record, or None for no field."""
        if by is None:
            return None
        self._number(by)
        if self.schema[by].shape:
            raise SchemaError(f"records are split by a field of single values; field {by!r} is {self.schema[by]}")
        values, numbers = self._values_of(by), {}
        return np.array([numbers.setdefault(_key(value), len(numbers)) for value in values], np.int64)

    def _values_of(self, field):
        number, kind = self._number(field), self.schema[field]
        return [self._open.value(number, kind, field, row) for row in self._rows()]

    def _rows(self):
        return range(len(self)) if self._ids is None else self._ids.tolist()

    def _view(self, ids):
        return Store(self._open, ids)

    def _select(self, index):
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
        ids = np.ascontiguousarray(ids, np.int64)
        return self._view(ids if self._ids is None else self._ids[ids])


def concatenate(stores) -> Store:
    """Several stores or whole views as one, record after record.

    Raises:
        SchemaError: fields that differ.
    """
    stores = list(stores)
    core = _Core(list(itertools.chain.from_iterable(store._open.sources for store in stores)))
    if all(store._ids is None for store in stores):
        return Store(core)
    ids, offset = [], 0
    for store in stores:
        ids.append(offset + np.fromiter(store._rows(), np.int64, len(store)))
        offset += store._open.rows
    return Store(core, np.concatenate(ids))


def _typed(data, field, size):
    """A chunk's bytes as an array of steps, or of bytes for text."""
    if field.text:
        return data
    return data[: len(data) // size * size].view(field.store).reshape(-1, *field.inner_shape)


def _key(value):
    """A value as a key of a dict."""
    return value.tobytes() if isinstance(value, (np.ndarray, np.generic)) else value
