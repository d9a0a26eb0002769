"""Files that are complete or not there: written beside their place, which they take in the end, durably."""

import abc
import os
import pathlib
import uuid
from types import TracebackType
from typing import IO, Any, Self

from ...annotations import AnyPath
from ..errors import StoreExistsError, StoreWriteError


class CompletedOrAborted(abc.ABC):
    """What is written within a `with`: complete at its end, given up where it is left by an error."""

    @abc.abstractmethod
    def close(self) -> None:
        """Complete it."""

    @abc.abstractmethod
    def abort(self) -> None:
        """Leave nothing behind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class Aside:
    """A file that is written beside its place, and takes it when it is complete.

    Args:
        path: its place.
        replace: whether something may be there already.
        temporary: where it is written; by default under a name of its own beside its place.

    Raises:
        StoreExistsError: there is something at its place already.
        StoreWriteError: there is no folder for it.
    """

    def __init__(self, path: AnyPath, replace: bool = False, temporary: pathlib.Path | None = None) -> None:
        self.path: pathlib.Path = pathlib.Path(path)
        own = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:12]}.tmp")
        self.temporary: pathlib.Path = own if temporary is None else temporary
        if not self.path.parent.is_dir():
            raise StoreWriteError("there is no such folder to write to", self.path.parent)
        self.opened: list[IO[Any]] = []
        if not replace and os.path.lexists(self.path):
            raise StoreExistsError("there is something already; delete it first", self.path)

    def open(self, mode: str, **options: Any) -> IO[Any]:
        """The new file, as `open` opens it.

        Raises:
            StoreWriteError: the operating system refuses.
        """
        try:
            self.opened.append(new_file(self.temporary, mode, **options))
            return self.opened[-1]
        except OSError as error:
            raise StoreWriteError(f"cannot write: {error}", self.path) from error

    def put(self, data: bytes) -> None:
        """Write the file and put it in its place."""
        try:
            with self.open("xb") as file:
                file.write(data)
            self.commit()
        except BaseException:
            self.discard()
            raise

    def commit(self) -> None:
        """Put the file in its place, on disk first."""
        publish(self.temporary, self.path)

    def discard(self) -> None:
        """Remove the file."""
        self.temporary.unlink(missing_ok=True)


def new_file(path: AnyPath, mode: str, **options: Any) -> IO[Any]:
    """A file that was not there, open to be written: what has its name is removed, and a link is not followed."""
    pathlib.Path(path).unlink(missing_ok=True)
    return open(path, mode.replace("w", "x"), **options)


def publish(staged: pathlib.Path, path: pathlib.Path) -> None:
    """Give a complete file, or a folder of files, its name, durably: on disk first."""
    for part in staged.iterdir() if staged.is_dir() else ():
        sync(part)
    sync(staged)
    os.replace(staged, path)
    sync(path.parent)


def sync(path: pathlib.Path) -> None:
    """Have the operating system write a file or folder to the disk."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
