"""Writing a store: record by record or in bulk, committed shard by shard."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from kseq.arguments import as_integer

from ...annotations import AnyPath
from ..errors import EmptyStoreError, RecordError, SchemaError, StoreError, StoreExistsError, StoreNotFoundError
from .aside import CompletedOrAborted
from .columns import rows_for, stretches
from .commits import CommitLines, check_json, check_no_leftovers, commit_shards
from .conversion import as_columns, as_dict, convert_column, convert_record
from .filling import Filling
from .folder import LOCK, open_folder
from .forks import held_from_forks
from .manifest import NAME, read_manifest
from .overwriting import Overwriting, may_overwrite
from .protocol import Records
from .schema import Schema

CHUNK_BYTES = 16 << 20  # what a killed writer can lose, and what a writer holds in memory
SHARD_BYTES = 256 << 20
_FEW = 6  # rows that are sooner written one by one than by column


class Writer(CompletedOrAborted):
    """Write records to a new store, or append to one.

    A shard becomes part of the store when it is complete: it is written aside, synchronised to the disk and renamed,
    then the manifest is replaced. However the process ends, the store opens at its last commit. An exception inside
    the `with` drops the shard that is open, keeps those that were committed, and leaves the store marked incomplete.
    A process that is forked meanwhile has no part in it: there the writer is closed, and says so when it is used.

    Args:
        path: folder of the store, or a URL that `fsspec` knows.
        schema: a `Schema` or a dict of `Field`s; inferred from the first record if not given (then arrays and lists
            are sequences), or that of the store that is appended to.
        main: name of the main sequence; by default the first.
        append: add to the store that is there.
        overwrite: take the place of the store that is there, which stays as it is until this one is closed.
        cast: round arrays of wider floats, such as float64, to those of their field; by default they are refused.
        shard_rows: records after which a new shard begins.
        shard_bytes: bytes after which a new shard begins.
        metadata: JSON values that describe the data; also the attribute `metadata`, which may be changed until the
            writer is closed.

    Raises:
        StoreExistsError: something lies at the path and `append` is not set, or is no store and `overwrite` is.
        StoreNotFoundError: nothing to append to.
        StoreLockedError: another writer has the store open.
        UnsealedShardError: an earlier writer was killed; `repair` first.
        SchemaError: a schema that is not that of the store that is appended to.
        StoreWriteError: the operating system refuses.

    Example:
        >>> import tempfile
        >>> with Writer(tempfile.mkdtemp() + "/store", {"tokens": ("int32", (None,)), "label": "int64"}) as writer:
        ...     writer.write({"tokens": [3, 1, 2], "label": 0})
        ...     writer.write({"tokens": [5], "label": 1})
        0
        1
    """

    def __init__(
        self,
        path: AnyPath,
        schema: Mapping[str, Any] | None = None,
        *,
        main: str | None = None,
        append: bool = False,
        overwrite: bool = False,
        cast: bool = False,
        shard_rows: int | None = None,
        shard_bytes: int = SHARD_BYTES,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder = open_folder(path)
        self._shard_rows = None if shard_rows is None else as_integer("shard_rows", shard_rows, 1)
        self._shard_bytes = as_integer("shard_bytes", shard_bytes, 1)
        self.schema: Schema | None = None if schema is None else as_schema(schema, main)
        check_json("metadata", dict(metadata or {}))
        self._wanted_main, self._cast, self._overwriting = main, cast, None
        with contextlib.ExitStack() as stack:
            self._manifest, self._made = self._start(append, overwrite, stack)
            self._exit = stack.pop_all()
        self.metadata: dict[str, Any] = dict(self._manifest.metadata if self._manifest else {}) | dict(metadata or {})
        self._before = self._manifest.records if self._manifest else 0
        self._filling: Filling | None = None
        self._append: Any = None  # of its columns
        self._lines: CommitLines | None = None
        self._inherited = False
        held_from_forks(self)
        if self.schema is not None:
            self._begin()

    def _start(self, append, overwrite, stack):
        folder = self._folder
        names = set(folder.names()) - {LOCK}  # which a killed writer leaves
        if append and overwrite:
            raise ValueError("append to a store or overwrite it, not both")
        if not append and names and not (overwrite and may_overwrite(names)):
            what = "a kseq store is here already (append=True adds to it, overwrite=True takes its place)"
            raise StoreExistsError(what if NAME in names else "the folder is not empty, and is no kseq store", folder)
        if append and NAME not in names:
            raise StoreNotFoundError("there is no kseq store to append to", folder)
        made = folder.create()
        stack.enter_context(folder.lock())
        if overwrite:
            if not may_overwrite(set(folder.names()) - {LOCK}):
                raise StoreExistsError("something else has come here", folder)
            self._overwriting = Overwriting(folder)
            return self._overwriting.manifest, made
        if not append:
            if set(folder.names()) - {LOCK}:
                raise StoreExistsError("another writer has begun a store here", folder)
            return None, made
        manifest = read_manifest(folder)
        others = self.schema is not None and dict(self.schema) != dict(manifest.schema)  # in any order
        if others or self._wanted_main not in (None, manifest.schema.main):
            raise SchemaError(f"{folder}: records of the store have fields {manifest.schema}; received {self.schema}")
        check_no_leftovers(folder, manifest)
        self.schema = manifest.schema
        return manifest, False

    @property
    def records(self) -> int:
        """Records of the store, those included that are not committed yet."""
        return self._before if self._filling is None else self._filling.columns.number

    def write(self, record: Any) -> int:
        """Write one record, a dict of its fields, and return its number in the store.

        Values may be NumPy arrays or what `np.asarray` takes; they are converted only where nothing is lost. In place
        of the dict may be a `kseq.data.record`, or in a store of one field its bare value; it is read as a dict.

        Raises:
            RecordError: a field that is missing, unknown, or of another dtype or shape; nothing of the record is
                written.
            StoreWriteError: the operating system refuses.
        """
        try:
            number = self._append(record)
        except (TypeError, UnicodeEncodeError):  # there are no columns yet, or any more; a text that UTF-8 has not
            number = -1
        if number >= 0:
            return number
        if not self._room:
            self._make_room(record)
            return self.write(record)
        return self._write_converted(record)

    def write_batch(self, columns: Any) -> range:
        """Write many records, given by column, and return their numbers.

        Args:
            columns: for each field a `Ragged` (sequences), an array [N, ...], or a list of N values; in a store of one
                field that alone.

        Raises:
            RecordError: columns that are missing, unknown, of different lengths, or of another dtype or shape. Records
                before the bad one may have been written.
            StoreWriteError: the operating system refuses.
        """
        columns = as_columns(self.schema, columns)
        counts = {name: len(column) for name, column in columns.items()}
        rows = next(iter(counts.values()))
        if set(counts.values()) != {rows}:
            raise RecordError(f"columns must have the same number of rows; received {counts}")
        first = self.records
        if rows == 0:
            return range(first, first)
        if not self._room:
            self._make_room({name: column[0] for name, column in columns.items()})
        if rows <= _FEW:
            done = self._write_plainly(columns)
            if done == rows:
                return range(first, self.records)
            columns = {name: column[done:] for name, column in columns.items()}
        parts = self._converted(columns)
        if parts is None:
            columns = {name: getattr(column, "rows", column) for name, column in columns.items()}  # of a `Ragged`
            for values in zip(*columns.values(), strict=True):
                self.write(dict(zip(columns, values, strict=True)))
            return range(first, self.records)
        self._into.write(parts)
        return range(first, self.records)

    def write_store(self, store: Records) -> range:
        """Write all records of a store, a view, or stores that were joined, by column, and return their numbers.

        Fields that are stored alike on both sides are copied as they are. The writer's schema, if it has none yet, is
        that of the store; metadata and splits are not copied.

        Raises:
            RecordError: fields that are missing, unknown, or of another dtype or shape, as `write` refuses them.
                Records before the bad one may have been written.
            ShardError: the store is damaged.
            StoreWriteError: the operating system refuses.
            TypeError: what is no store.

        Example:
            >>> with Writer("short", store.schema) as writer:  # doctest: +SKIP
            ...     writer.write_store(store[store.lengths < 100])
        """
        self._check_open()
        if not hasattr(store, "place"):
            raise TypeError(f"write_store takes a store or a view of one; received {store!r:.100}")
        first = self.records
        if self.schema is None:
            self.schema = as_schema(store.schema, self._wanted_main)
            self._begin()
        for start, end in stretches(store, CHUNK_BYTES):
            schema = self._into.schema
            found = [rows_for(kind, store, name, start, end, self._cast) for name, kind in schema.items()]
            parts = [rows for rows in found if rows is not None]
            if len(parts) == len(schema) and store.schema.keys() <= schema.keys():
                self._into.write(parts)
            else:
                for row in range(start, end):
                    self.write(store[row])
        return range(first, self.records)

    def _write_plainly(self, columns):
        """Write rows one by one as long as they need no conversion, and return how many those were."""
        values, done = [getattr(column, "rows", column) for column in columns.values()], 0
        with contextlib.suppress(UnicodeEncodeError):
            for row in zip(*values, strict=True):
                if self._append(dict(zip(columns, row, strict=True))) < 0:
                    break
                done += 1
        return done

    def _converted(self, columns):
        """For each field its `Rows`, or None where rows are to be written one by one."""
        schema, parts = self._into.schema, []
        if columns.keys() != schema.keys():
            return None
        for name, field in schema.items():
            parts.append(convert_column(field, columns[name], self._cast))
            if parts[-1] is None:
                return None
        return parts

    def commit(self) -> None:
        """Make what was written part of the store now, whatever comes after; the next record begins a new shard.

        Where another store is overwritten it is written down, but takes its place in `close`.
        """
        self._seal()
        if self.schema is None:
            return  # nothing was written
        if self._into.entries or self._manifest is None or self._manifest.metadata != self.metadata:
            self._replace_manifest(complete=False)

    def close(self) -> None:
        """Commit what was written and mark the store complete.

        Raises:
            EmptyStoreError: neither a record nor a schema was given.
        """
        if self._exit is None:
            if self._inherited:
                self._check_open()
            return
        if self.schema is None:
            self.abort()
            raise EmptyStoreError("neither records nor a schema were given: there is no store to write", self._folder)
        try:
            self._seal()
            self._replace_manifest(complete=True)
        except BaseException:
            self.abort()
            raise
        self._release()

    def abort(self) -> None:
        """Drop what is not committed; a store of which nothing is committed is removed."""
        if self._exit is None:
            return
        try:
            entries = [] if self._filling is None else self._filling.entries
            if self._filling is not None:
                self._filling.abort()
            if self._overwriting is not None:
                self._overwriting.end()
            if not entries and self._manifest is not None:
                return
            # A commit that failed may have replaced the manifest: what that names is part of the store.
            there = read_manifest(self._folder).shards if NAME in self._folder.names() else None
            for entry in entries:
                if entry not in (there or ()):
                    self._folder.remove(entry.file)
                    self._folder.remove(entry.lengths_file)
            if there is None and self._made:
                self._folder.remove_all()
        finally:
            self._release()

    def let_go(self) -> None:
        """In a process that was forked: the store is its parent's."""
        if self._exit is not None:
            self._inherited = True
            self._release()

    def _check_open(self):
        if self._inherited:
            raise StoreError("the writer was inherited by a fork: only its maker may use it", self._folder)
        if self._exit is None:
            raise ValueError(f"the writer of {self._folder} is closed")

    def _release(self):
        self._before = self.records
        self._filling = self._append = None
        exit_, self._exit = self._exit, None
        if exit_ is not None:
            exit_.close()

    def _begin(self) -> None:
        assert self.schema is not None
        before = self._overwriting or self._manifest
        number = before.next_number if before else 0
        self._filling = Filling(
            self._folder,
            self.schema,
            number,
            self._before,
            min(CHUNK_BYTES, self._shard_bytes),
            self._shard_rows,
            self._shard_bytes,
            lambda: self._replace_manifest(complete=False),
        )
        self._append = self._filling.columns.append

    @property
    def _into(self) -> Filling:
        """What is filled, once there is a schema."""
        assert self._filling is not None
        return self._filling

    @property
    def _room(self):
        return 0 if self._filling is None else self._filling.room

    def _make_room(self, record):
        """Make room for records, of which one says the schema if nothing else has."""
        self._check_open()
        if self.schema is None:
            self.schema = Schema.infer(record, self._wanted_main)
            self._begin()
        self._into.make_room()

    def _seal(self):
        self._check_open()
        if self._filling is not None:
            self._filling.seal()

    def _replace_manifest(self, complete):
        check_json("metadata", self.metadata)
        if self._overwriting is not None and not complete:
            return
        entries = self._into.entries
        lines, self._lines = self._lines, None  # should this fail, the next commit replaces the manifest
        if lines is None or self._manifest is None or complete or self.metadata != self._manifest.metadata:
            self._manifest = commit_shards(
                self._folder, self._into.schema, entries, self._manifest, self.metadata, complete=complete
            )
            self._lines = None if complete else CommitLines.of(self._folder)
        else:
            self._manifest = lines.commit(self._manifest, entries)
            self._lines = lines
        self._into.entries = []
        if self._overwriting is not None:
            self._overwriting.end()

    def _write_converted(self, record):
        """Write a record whose values are not yet as they are stored."""
        schema = self._into.schema
        named = as_dict(schema, record, self.records)
        if named is not record:
            return self.write(named)  # perhaps they are, once they have names
        bad = -1 - self._append(convert_record(schema, record, self.records, self._cast))
        if bad >= 0:
            name = list(schema)[bad] if bad < len(schema) else None
            raise RecordError("the value is too large for a chunk of 2**31 steps", self.records, name)
        return self.records - 1


def as_schema(schema: Mapping[str, Any], main: str | None = None) -> Schema:
    """A `Schema`, of a dict of fields if it is none.

    Raises:
        SchemaError: fields that make none.
    """
    if isinstance(schema, Schema) and main in (None, schema.main):
        return schema
    return Schema(dict(schema) if isinstance(schema, dict) else schema, main)
