"""The file that a task of a build writes: a shard of a store, or TFRecords."""

import os
import pathlib
import tempfile
import uuid

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


class SinkError(Exception):
    """Something else than a record is wrong: the file cannot be written."""


_NUMBERS = {np.dtype("int64"): int, np.dtype("float64"): float, np.dtype("bool"): bool}


def open_sink(task):
    """The file that a `ShardTask` writes; what is not closed leaves nothing behind."""
    schema = record_info(task.record).schema
    if task.format == "tfrecord":
        return _TFRecordShard(task, schema)
    return _StoreShard(task, schema)


class _StoreShard:
    """A shard of a store."""

    def __init__(self, task, schema):
        folder = open_folder(task.folder)
        self._folder = (
            _RemoteStagedFolder(folder.url) if isinstance(folder, RemoteFolder) else _StagedFolder(folder.path)
        )
        self._schema, self.records = schema, 0
        self._columns = _ext.Columns(
            [(name, field.store, field.inner_shape, field.ragged, field.optional) for name, field in schema.items()]
        )
        # Python's numbers as arrays, which need no conversion.
        self._numbers = [
            (name, _NUMBERS[field.store], field.store)
            for name, field in schema.items()
            if not field.shape and field.store in _NUMBERS
        ]
        self._shard = ShardWriter(self._folder, task.number, schema)

    def write(self, records):
        if len(records) != 1 or not self._take(records[0]):
            converted = [convert_record(self._schema, record) for record in records]
            for place, record in enumerate(converted):
                bad = -1 - self._columns.append(record)
                if bad >= 0:
                    name = list(self._schema)[bad]
                    error = RecordError("the value is too large for a chunk of 2**31 steps", field=name)
                    if place:
                        raise SinkError from error
                    raise error
        self.records += len(records)
        if self._columns.nbytes >= CHUNK_BYTES:
            self._flush()

    def _take(self, record):
        try:
            for name, kind, dtype in self._numbers:
                if type(record[name]) is kind:
                    record[name] = np.array(record[name], dtype)
            return self._columns.append(record) >= 0
        except (UnicodeEncodeError, OverflowError):
            return False

    def _flush(self):
        rows = self._columns.rows
        if rows:
            try:
                self._shard.write(self._columns.take(), rows)
            except Exception as error:
                raise SinkError from error

    def close(self):
        self._flush()
        return self._shard.seal()

    def abort(self):
        self._shard.abort()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is not None:
            self.abort()
        self._folder.clear()


class _TFRecordShard:
    """A TFRecord file, with its schema beside it."""

    def __init__(self, task, schema):
        from .. import formats

        self._folder, self._name = _StagedFolder(task.folder), tfrecord_file(task.number)
        self._number, self._schema, self.records = task.number, schema, 0
        self._sink = formats.write(self._folder.staging() / self._name, schema, task.metadata, format="tfrecord")

    def write(self, records):
        converted = [convert_record(self._schema, record) for record in records]
        for place, record in enumerate(converted):
            try:
                self._sink.write(record)
            except Exception as error:
                if isinstance(error, RecordError) and not place:
                    raise
                # The disk, or a row of which something is written: that cannot be taken back.
                raise SinkError from error
        self.records += len(records)

    def close(self):
        self._sink.close()
        staged = self._folder.staging() / self._name
        entry = ShardEntry(self._number, self.records, staged.stat().st_size, file_checksum(staged))
        for path in sorted(self._folder.staging().iterdir(), reverse=True):  # its schema first, as its sink does
            self._folder.publish(path, path.name)
        return entry

    def abort(self):
        self._sink.abort()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is not None:
            self.abort()
        self._folder.clear()


def tfrecord_file(number):
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

    remove = _StagedFolder.remove

    def clear(self):
        """Remove what is staged."""
        if self._staging is not None:
            remove_own(self._staging, self._process)
