"""Writing a store: record by record or in bulk, committed shard by shard."""

import contextlib

import numpy as np

from kseq import _ext
from kseq.arguments import as_integer

from ..errors import EmptyStoreError, RecordError, SchemaError, StoreError, StoreExistsError, StoreNotFoundError
from .commits import CommitLines, check_json, check_no_leftovers, commit_shards
from .conversion import as_columns, as_dict, convert_column, convert_record
from .folder import open_folder
from .forks import held_from_forks
from .manifest import NAME, read_manifest
from .overwriting import Overwriting, may_overwrite
from .schema import Schema
from .shard import ShardWriter

CHUNK_BYTES = 16 << 20  # what a killed writer can lose, and what a writer holds in memory
SHARD_BYTES = 256 << 20


class Writer:
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
        path,
        schema=None,
        *,
        main=None,
        append=False,
        overwrite=False,
        cast=False,
        shard_rows=None,
        shard_bytes=SHARD_BYTES,
        metadata=None,
    ):
        self._folder = open_folder(path)
        self._shard_rows = None if shard_rows is None else as_integer("shard_rows", shard_rows, 1)
        self._shard_bytes = as_integer("shard_bytes", shard_bytes, 1)
        self.schema = None if schema is None else as_schema(schema, main)
        check_json("metadata", dict(metadata or {}))
        self._wanted_main, self._cast, self._overwriting = main, cast, None
        with contextlib.ExitStack() as stack:
            self._manifest, self._made = self._start(append, overwrite, stack)
            self._exit = stack.pop_all()
        self.metadata = dict(self._manifest.metadata if self._manifest else {}) | dict(metadata or {})
        self._written = self._manifest.records if self._manifest else 0
        self._shard = self._columns = None
        self._shard_left = self._chunk_left = 0
        self._shard_size = 0
        self._entries, self._lines = [], None
        self._inherited = False
        held_from_forks(self)
        if self.schema is not None:
            self._begin_columns()

    def _start(self, append, overwrite, stack):
        folder = self._folder
        names = folder.names()
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
            if not may_overwrite(folder.names()):
                raise StoreExistsError("something else has come here", folder)
            self._overwriting = Overwriting(folder)
            return self._overwriting.manifest, made
        if not append:
            if folder.names() not in ([], ["writer.lock"]):
                raise StoreExistsError("another writer has begun a store here", folder)
            return None, made
        manifest = read_manifest(folder)
        if self.schema is not None and self.schema != manifest.schema:
            raise SchemaError(f"{folder}: records of the store have fields {manifest.schema}; received {self.schema}")
        check_no_leftovers(folder, manifest)
        self.schema = manifest.schema
        return manifest, False

    @property
    def records(self):
        """Records of the store, those included that are not committed yet."""
        return self._written

    def write(self, record) -> int:
        """Write one record, a dict of its fields, and return its number in the store.

        Values may be NumPy arrays or what `np.asarray` takes; they are converted only where nothing is lost. In place
        of the dict may be a `kseq.data.record`, or in a store of one field its bare value; it is read as a dict.

        Raises:
            RecordError: a field that is missing, unknown, or of another dtype or shape; nothing of the record is
                written.
            StoreWriteError: the operating system refuses.
        """
        if self._chunk_left <= 0:
            self._turn_over(record)
        if type(record) is not dict:
            record = as_dict(self.schema, record, self._written)
        try:
            state = self._append(record)
        except (TypeError, UnicodeEncodeError):  # a dict of another kind, a text that UTF-8 does not hold
            state = 0
        if state != -1:
            if state >= 0:
                state = self._write_converted(record)
            if state == -2:
                self._chunk_left = 1
        self._chunk_left -= 1
        index = self._written
        self._written = index + 1
        return index

    def write_batch(self, columns) -> range:
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
        first = self._written
        if rows == 0:
            return range(first, first)
        if self._chunk_left <= 0:
            self._turn_over({name: column[0] for name, column in columns.items()})
        parts = self._converted(columns)
        if parts is None:
            columns = {name: getattr(column, "rows", column) for name, column in columns.items()}  # of a `Ragged`
            for values in zip(*columns.values(), strict=True):
                self.write(dict(zip(columns, values, strict=True)))
            return range(first, self._written)
        sizes = sum(part.ends[1:] - part.ends[0] for part in parts)
        start = 0
        while start < rows:
            done = int(sizes[start - 1]) if start else 0
            aside = sizes[-1] - done <= CHUNK_BYTES // 16  # what is small is copied, to be written with what follows
            if not aside or self._chunk_left <= 0:
                self._turn_over(None)
            end = min(max(int(np.searchsorted(sizes, done + CHUNK_BYTES, "right")), start + 1), rows)
            end = min(end, start + self._shard_left, start + self._chunk_left)
            self._extend(parts, start, end, aside)
            start = end
        return range(first, self._written)

    def _converted(self, columns):
        """For each field its `Rows`, or None where rows are to be written one by one."""
        if columns.keys() != self.schema.keys():
            return None
        parts = []
        for name, field in self.schema.items():
            parts.append(convert_column(field, columns[name], self._cast))
            if parts[-1] is None:
                return None
        return parts

    def _extend(self, parts, start, end, aside):
        """Write some rows, or set them aside in memory."""
        chunk = []
        for name, part in zip(self.schema, parts, strict=True):
            try:
                chunk.append(part.part(start, end))
            except OverflowError as error:
                raise RecordError(str(error), self._written, name) from None
        if aside:
            full = self._columns.extend(chunk, end - start)
            self._chunk_left = 0 if full else self._chunk_left - (end - start)
        else:
            self._shard.write(chunk, end - start)
            self._shard_left -= end - start
            self._shard_size += sum(int(part.ends[end] - part.ends[start]) for part in parts)
            self._chunk_left = 0
        self._written += end - start

    def commit(self):
        """Make what was written part of the store now, whatever comes after; the next record begins a new shard.

        Where another store is overwritten it is written down, but takes its place in `close`.
        """
        self._seal()
        if self.schema is None:
            return  # nothing was written
        if self._entries or self._manifest is None or self._manifest.metadata != self.metadata:
            self._replace_manifest(complete=False)

    def close(self):
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

    def abort(self):
        """Drop what is not committed; a store of which nothing is committed is removed."""
        if self._exit is None:
            return
        try:
            if self._shard is not None:
                self._shard.abort()
            if self._overwriting is not None:
                self._overwriting.end()
            if not self._entries and self._manifest is not None:
                return
            # A commit that failed may have replaced the manifest: what that names is part of the store.
            there = read_manifest(self._folder).shards if NAME in self._folder.names() else None
            for entry in self._entries:
                if entry not in (there or ()):
                    self._folder.remove(entry.file)
                    self._folder.remove(entry.lengths_file)
            if there is None and self._made:
                self._folder.remove_all()
        finally:
            self._release()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None:
            self.close()
        else:
            self.abort()

    def let_go(self):
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
        self._shard = self._columns = self._append = None
        self._chunk_left = 0
        exit_, self._exit = self._exit, None
        exit_.close()

    def _begin_columns(self):
        self._columns = _ext.Columns(
            [
                (name, field.store, field.inner_shape, field.ragged, field.optional)
                for name, field in self.schema.items()
            ],
            CHUNK_BYTES,
        )
        self._append = self._columns.append

    def _turn_over(self, record):
        """Make room for records: flush the chunk, and begin a new shard if this one is full."""
        self._check_open()
        if self.schema is None:
            self.schema = Schema.infer(record, self._wanted_main)
            self._begin_columns()
        self._flush()
        if self._shard is not None and (self._shard_left <= 0 or self._shard_size >= self._shard_bytes):
            self._seal()
            self._replace_manifest(complete=False)
        if self._shard is None:
            self._shard_left = self._shard_rows or 1 << 62
            self._shard_size = 0
            self._open_shard()
        self._chunk_left = self._shard_left

    def _open_shard(self):
        if self._shard is None:
            source = self._overwriting or self._manifest
            number = (source.next_number if source else 0) + len(self._entries)
            self._shard = ShardWriter(self._folder, number, self.schema)

    def _flush(self):
        """Write the records in memory as a chunk."""
        rows, nbytes = self._columns.rows, self._columns.nbytes
        if rows == 0:
            return
        self._open_shard()
        self._shard.write(self._columns.take(), rows)
        self._shard_left -= rows
        self._shard_size += nbytes
        self._chunk_left = 0

    def _seal(self):
        self._check_open()
        if self._columns is not None:
            self._flush()
        if self._shard is None:
            return
        if self._shard.rows:
            self._entries.append(self._shard.seal())
        else:
            self._shard.abort()
        self._shard, self._chunk_left = None, 0

    def _replace_manifest(self, complete):
        check_json("metadata", self.metadata)
        if self._overwriting is not None and not complete:
            return
        lines, self._lines = self._lines, None  # should this fail, the next commit replaces the manifest
        if lines is None or complete or self.metadata != self._manifest.metadata:
            self._manifest = commit_shards(
                self._folder, self.schema, self._entries, self._manifest, self.metadata, complete=complete
            )
            self._lines = None if complete else CommitLines.of(self._folder)
        else:
            self._manifest = lines.commit(self._manifest, self._entries)
            self._lines = lines
        self._entries = []
        if self._overwriting is not None:
            self._overwriting.end()

    def _write_converted(self, record):
        """Append a record whose values are not yet as they are stored."""
        converted = convert_record(self.schema, record, self._written, self._cast)
        bad = self._append(converted)
        if bad >= 0:
            name = list(self.schema)[bad] if bad < len(self.schema) else None
            raise RecordError("the value is too large for a chunk of 2**31 steps", self._written, name)
        return bad


def as_schema(schema, main=None) -> Schema:
    """A `Schema`, of a dict of fields if it is none.

    Raises:
        SchemaError: fields that make none.
    """
    if isinstance(schema, Schema) and main in (None, schema.main):
        return schema
    return Schema(dict(schema) if isinstance(schema, dict) else schema, main)
