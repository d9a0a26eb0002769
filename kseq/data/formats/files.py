"""The files of a format: found, and written aside."""

import contextlib
import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...annotations import AnyPath, AnyPaths
from ..errors import FormatError, StoreError, StoreNotFoundError, StoreWriteError
from ..store.aside import Aside
from ..store.conversion import convert_record
from ..store.forks import held_from_forks
from ..store.schema import BINARY, TEXT, Field, Schema
from .base import RecordSink

_SMALL = 64 << 20  # bytes that anything may take
_MOST_RATIO = 64  # of what is common
_INT64 = Field("int64")


def files_of(path: AnyPaths, suffixes: Sequence[str] = ()) -> list[str]:
    """The files that are meant: of a file, a list of files, a pattern with `*`, or a folder with files of a suffix.

    Args:
        path: a path or pattern, or a list of them; those of a pattern or a folder come sorted by name.
        suffixes: of the files in folders, at any depth; none: folders are not taken.

    Raises:
        StoreNotFoundError: a file is not there, or nothing is found.
    """
    if not isinstance(path, (str, os.PathLike)):
        files = [file for part in path for file in files_of(part, suffixes)]
        if not files:
            raise StoreNotFoundError(f"a list of files must not be empty; received {path!r}")
        return files
    path = os.fspath(path)
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        found = sorted(
            os.path.join(folder, file)
            for folder, _, files in os.walk(path)
            for file in files
            if file.lower().endswith(tuple(suffixes) or ("\0",))
        )
        what = f"the folder has no file ending in {' or '.join(suffixes)}" if suffixes else "it is a folder, not a file"
    else:
        found = sorted(file for file in glob.glob(path, recursive=True) if os.path.isfile(file))
        what = "no such file"
    if not found:
        raise StoreNotFoundError(what, path)
    return found


def check_expansion(wanted: int, stored: int, what: str, path: AnyPath, max_bytes: int | None = None) -> None:
    """Refuse compressed data that takes far more memory than data of its size does: a few bytes can stand for any.

    Args:
        wanted: bytes that it takes.
        stored: bytes of the file for it.
        what: what errors call it.
        path: of the file.
        max_bytes: what it may take; by default 64 MB, or 64 times what is stored.

    Raises:
        FormatError: it takes more.
    """
    most = most_bytes(stored, max_bytes)
    if wanted > most:
        message = f"{what} is {stored} compressed bytes that take {wanted} of memory, more than {most}"
        raise FormatError(f"{message}: give max_bytes if that is meant", path)


def most_bytes(stored: int, max_bytes: int | None = None) -> int:
    """What so many bytes of compressed data may take in memory."""
    return max(_SMALL, _MOST_RATIO * stored) if max_bytes is None else max_bytes


def no_metadata(metadata: Mapping[str, Any] | None, name: str, path: AnyPath) -> None:
    """Refuse metadata where a format has no place for it.

    Raises:
        FormatError: there is metadata.
    """
    if metadata:
        raise FormatError(f"{name} files have no place for metadata; received {sorted(metadata)}: leave it out", path)


class FileSink(RecordSink):
    """A sink to one file, written aside; formats give `_put`, `_finish` and `_drop`.

    `_put` gets records as stores keep them: arrays of their fields' `store` dtypes, strings, bytes and None.
    """

    path: AnyPath
    schema: Schema

    def __init__(self, path: AnyPath, schema: Schema) -> None:
        self.path, self.schema = path, schema
        self._aside, self._count, self._open = Aside(path), 0, True
        held_from_forks(self)

    def write(self, record: dict[str, Any]) -> None:
        if not self._open:
            raise StoreError("the sink is closed", self.path)
        record = _converted(self.schema, record, self._count)
        try:
            self._put(record)
        except OSError as error:
            self.abort()  # some of it may be written
            raise StoreWriteError(f"cannot write: {error}", self.path) from error
        self._count += 1

    def close(self) -> None:
        if not self._open:
            return
        try:
            self._finish()
            self._commit()
        except OSError as error:
            self.abort()
            raise StoreWriteError(f"cannot write: {error}", self.path) from error
        except BaseException:
            self.abort()
            raise
        self._open = False

    def abort(self) -> None:
        if self._open:
            self._open = False
            try:
                with contextlib.suppress(OSError):  # what could not be written is not wanted
                    self._drop()
            finally:
                self._discard()

    def let_go(self) -> None:
        """In a process that was forked: the file is its parent's."""
        if self._open:
            self._open = False
            mute(self._written())

    def _written(self) -> Path:
        """The file that is being written."""
        return self._aside.temporary

    def _commit(self) -> None:
        self._aside.commit()

    def _discard(self) -> None:
        self._aside.discard()

    def _put(self, record: dict[str, Any]) -> None:
        """Write a record."""
        raise NotImplementedError

    def _finish(self) -> None:
        """Write what is left and close the file."""
        raise NotImplementedError

    def _drop(self) -> None:
        """Close the file whatever its state."""
        raise NotImplementedError


def mute(path: AnyPath) -> None:
    """Have what this process still writes to a file go nowhere, whichever library has it open, and buffers of it."""
    try:
        there = os.stat(path)
    except OSError:
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the folder's own
            if os.path.samestat(os.fstat(int(name)), there):
                os.dup2(nowhere, int(name))
    os.close(nowhere)


def _converted(schema, record, number):
    """As `convert_record`; what needs no conversion is copied."""
    if not isinstance(record, dict) or not record.keys() <= schema.keys():
        return convert_record(schema, record, number)  # which says what is wrong
    found = {}
    for name, field in schema.items():
        value = record.get(name)
        if isinstance(value, (np.ndarray, np.generic)) and _fits(field, value):
            found[name] = np.array(value)
        elif type(value) is int and field == _INT64 and -(1 << 63) <= value < 1 << 63:
            found[name] = np.array(value, np.int64)
        elif (type(value) is bytes and field.dtype == BINARY) or (
            type(value) is str and field.dtype == TEXT and value.isascii()
        ):
            found[name] = value
        else:
            found[name] = convert_record({name: field}, {name: value}, number)[name]
    return found


def _fits(field, value):
    shape, wanted = value.shape, field.shape
    if value.dtype != field.store or field.store != field.dtype:
        return False
    return shape == wanted or (field.ragged and len(shape) > 0 and shape[1:] == wanted[1:])
