"""The files that a task of a build writes: shards of a store, or TFRecords."""

from __future__ import annotations

import abc
import os
import pathlib
import tempfile
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np

from kseq import _ext

from ..errors import RecordError
from ..store.conversion import convert_record
from ..store.folder import Folder, RemoteFolder, open_folder
from ..store.forks import remove_own
from ..store.manifest import ShardEntry
from ..store.shard import ShardWriter, file_checksum
from ..store.writer import CHUNK_BYTES
from .records import record_info

if TYPE_CHECKING:
    from .task import ShardTask


class SinkError(Exception):
    """Something else than a record is wrong: the file cannot be written."""


def open_sink(task: ShardTask) -> _Sink:
    """The files that a `ShardTask` writes; what is not closed leaves nothing behind."""
    return (_TFRecords if task.recipe.format == "tfrecord" else _Shards)(task)


class _Sink(abc.ABC):
    """Files one after the other: the next begins with a row, of which it has the number."""

    def __init__(self, task: ShardTask) -> None:
        folder = open_folder(task.folder)
        self._folder = (
            _RemoteStagedFolder(folder.url) if isinstance(folder, RemoteFolder) else _StagedFolder(folder.path)
        )
        self._task, self._schema, self._entries = task, record_info(task.recipe.record).schema, []
        self._closed = False
        self._open(task.number)

    def _open(self, number):
        self._number, self._records, self._bytes = number, 0, 0
        self._begin(number)

    def begin_row(self, place: int) -> None:
        """Begin the next file if this one is full; `place` is that of a row in the task."""
        limit = self._task.recipe.shard_bytes
        if limit is not None and self._bytes >= limit:
            self._entries.append(self._end())
            self._open(self._task.number + place)

    def write(self, records: list[Any]) -> tuple[int, int]:
        """Write the records of a row, all or none, and return the number of the file and the first's place in it."""
        first = self._records
        self._append(records)
        self._records += len(records)
        return self._number, first

    def close(self) -> list[ShardEntry]:
        """End the last file, and return the entries of all."""
        self._entries.append(self._end())
        self._closed = True
        return self._entries

    @abc.abstractmethod
    def _begin(self, number: int) -> None:
        """Begin a file."""

    @abc.abstractmethod
    def _append(self, records: list[Any]) -> None:
        """Write the records of a row."""

    @abc.abstractmethod
    def _end(self) -> ShardEntry:
        """Complete the file."""

    @abc.abstractmethod
    def _abort(self) -> None:
        """Leave nothing of the file behind."""

    def _converted(self, records):
        return [convert_record(self._schema, record, cast=self._task.recipe.cast) for record in records]

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *error: Any) -> None:
        if not self._closed:
            self._abort()
        self._folder.clear()


class _Shards(_Sink):
    """Shards of a store."""

    def _begin(self, number):
        fields = self._schema.items()
        self._columns = _ext.Columns(
            [(name, field.store, field.inner_shape, field.ragged, field.optional) for name, field in fields]
        )
        self._shard, self._flushed = ShardWriter(self._folder, number, self._schema), 0

    def _append(self, records):
        if len(records) != 1 or not self._take(records[0]):
            for place, record in enumerate(self._converted(records)):
                bad = -1 - self._columns.append(record)
                if bad >= 0:
                    name = list(self._schema)[bad]
                    error = RecordError("the value is too large for a chunk of 2**31 steps", field=name)
                    if place:
                        raise SinkError from error
                    raise error
        self._bytes = self._flushed + self._columns.nbytes
        if self._columns.nbytes >= CHUNK_BYTES:
            self._flush()

    def _take(self, record):
        """Append a record that needs no conversion, and return whether it was one."""
        try:
            return self._columns.append(record) >= 0
        except (TypeError, UnicodeEncodeError, OverflowError):
            return False

    def _flush(self):
        rows, self._flushed = self._columns.rows, self._flushed + self._columns.nbytes
        if rows:
            try:
                self._shard.write(self._columns.take(), rows)
            except Exception as error:
                raise SinkError from error

    def _end(self):
        self._flush()
        return self._shard.seal()

    def _abort(self):
        self._shard.abort()


class _TFRecords(_Sink):
    """TFRecord files, each with its schema beside it."""

    def _begin(self, number):
        from .. import formats

        path, metadata = self._folder.staging() / tfrecord_file(number), self._task.recipe.metadata
        self._sink = formats.write(path, self._schema, metadata, format="tfrecord")

    def _append(self, records):
        for place, record in enumerate(self._converted(records)):
            try:
                self._sink.write(record)
            except Exception as error:
                if isinstance(error, RecordError) and not place:
                    raise
                # The disk, or a row of which something is written: that cannot be taken back.
                raise SinkError from error
            self._bytes += sum(map(_size, record.values()))

    def _end(self):
        self._sink.close()
        staged = self._folder.staging() / tfrecord_file(self._number)
        entry = ShardEntry(self._number, self._records, staged.stat().st_size, file_checksum(staged))
        for path in sorted(self._folder.staging().iterdir(), reverse=True):  # its schema first, as its sink does
            self._folder.publish(path, path.name)
        return entry

    def _abort(self):
        self._sink.abort()


def _size(value):
    return 0 if value is None else value.nbytes if isinstance(value, np.ndarray) else len(value)


def tfrecord_file(number: int) -> str:
    """Name of a TFRecord file of a build."""
    return f"shard-{number:05d}.tfrecord"


class _StagedFolder(Folder):
    """A folder whose files are staged in one of their own within it: others may be writing the same shard."""

    def __init__(self, path):
        super().__init__(path)
        self._staging, self._process = pathlib.Path(path) / f".{uuid.uuid4().hex}.tmp", os.getpid()
        with self.writing():
            os.mkdir(self._staging)  # not its parents: a build that was given up must not come back

    def staging(self):
        return self._staging

    def remove(self, name):
        """Nothing: what has its name may be that of another who wrote the same shard, and came to the end."""

    def clear(self):
        """Remove what is staged."""
        remove_own(self._staging, self._process)


class _RemoteStagedFolder(RemoteFolder):
    """A remote folder whose files are staged in a local one that is removed at once."""

    def staging(self):
        if self._staging is None:
            self._staging, self._process = pathlib.Path(tempfile.mkdtemp(prefix="kseq-")), os.getpid()
        return self._staging

    def remove(self, name):
        """Nothing, as of the other."""

    def clear(self):
        """Remove what is staged."""
        if self._staging is not None:
            remove_own(self._staging, self._process)
