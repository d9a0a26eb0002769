"""The folder of a build: made under a temporary name, and renamed when everything is in it."""

import contextlib
import ctypes
import os
import pathlib
import re
import sys
import uuid
from collections.abc import Iterator

from ...annotations import AnyPath
from ..errors import BuildError, StoreError, StoreExistsError
from ..store.aside import publish, sync
from ..store.folder import LOCK, Folder, RemoteFolder, open_folder
from ..store.manifest import NAME
from ..store.verification import OURS
from .folds import FOLDS
from .report import CONFIG, read_config

_OLD = "old"  # name of what is overwritten, where the system cannot exchange folders at once
_TFRECORD = re.compile(r"shard-\d{5,}\.tfrecord(\.schema\.json)?")


@contextlib.contextmanager
def building(path: AnyPath, overwrite: bool = False) -> Iterator[Folder]:
    """A folder to build in, which takes the name `path` in the end; after an exception all is as before.

    A local build grows in `.<name>.building` beside its place. One that was killed leaves that folder; the next build
    of the same path begins it anew. A remote build (a URL) grows in its place, where manifests are written last.

    Args:
        path: where it is to be.
        overwrite: whether it may take the place of another build.

    Raises:
        StoreExistsError: something lies at the path; with `overwrite`, something that is no build.
        StoreLockedError: another build of the same path is running.
        StoreError: a remote build that is to be overwritten: it would be lost before the new one is there.
    """
    folder, process = open_folder(path), os.getpid()
    _check_free(folder, overwrite)
    if isinstance(folder, RemoteFolder):
        try:
            yield folder
        except BaseException:
            if os.getpid() == process:
                folder.remove_all()
            raise
        return
    target = folder.path.absolute()
    outer = Folder(target.with_name(f".{target.name}.building"))
    if outer.path.is_symlink():  # what is there is cleared
        raise StoreExistsError("there is a link where the build is to grow", outer)
    outer.create()
    with outer.lock():
        if (outer.path / _OLD).exists() and not target.exists():  # killed while it was put aside
            os.rename(outer.path / _OLD, target)
        _check_free(folder, overwrite)
        _clear(outer)  # what a build that was killed has left
        # Under a new name each time: workers of a build that was killed may still be writing.
        work = subfolder(outer, uuid.uuid4().hex)
        try:
            yield work
            if os.getpid() != process:
                raise StoreError("the build was inherited by a fork: only its maker may end it", folder)
            with folder.writing():
                _put(work.path, target, outer.path / _OLD)
        finally:
            if os.getpid() == process:  # else it is the parent's
                # First out of the way: workers that still run must not find it.
                gone = Folder(outer.path / "gone")
                with contextlib.suppress(FileNotFoundError):
                    os.rename(work.path, gone.path)
                outer.remove_all()


def _put(work, target, old):
    """Give a folder its name; what has it is left under `work`, or as `old`."""
    if not target.is_dir() or not any(target.iterdir()):
        if target.is_dir():
            target.rmdir()
        publish(work, target)
        return
    for part in work.iterdir():
        sync(part)
    if not _exchanged(work, target):
        os.rename(target, old)
        try:
            os.rename(work, target)
        except BaseException:
            os.rename(old, target)
            raise
    sync(target.parent)


def _exchanged(one, other) -> bool:
    """Exchange the names of two folders at once, and return whether the system could."""
    if sys.platform != "linux":
        return False
    at, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):  # a C library without it
        return False
    return rename(at, os.fsencode(one), at, os.fsencode(other), exchange) == 0


def subfolder(folder: Folder, name: str) -> Folder:
    """A new folder within one."""
    inner = RemoteFolder(f"{folder.url}/{name}") if isinstance(folder, RemoteFolder) else Folder(folder.path / name)
    inner.create()
    return inner


def remove_staged(folder: Folder) -> None:
    """Remove what workers that died have left in a folder."""
    if not isinstance(folder, RemoteFolder):
        for name in folder.names():
            if name.endswith(".tmp"):
                Folder(folder.path / name).remove_all()


def check_local(path: AnyPath) -> None:
    """Refuse a URL.

    Raises:
        StoreError: it is one.
    """
    if isinstance(open_folder(path), RemoteFolder):
        raise StoreError("TFRecord files are built in local folders; received a URL", path)


def _check_free(folder, overwrite):
    remote = isinstance(folder, RemoteFolder)
    if not remote and folder.path.is_file():
        raise StoreExistsError("there is a file where the build is to be written", folder)
    if not folder.names():
        return
    if not overwrite:
        raise StoreExistsError("there is something already where the build is to be written", folder)
    if remote:
        raise StoreError("a remote build is not overwritten, since it would be gone first: remove it, or build aside")
    if folder.path.is_symlink():
        raise StoreExistsError("there is a link where a build is to be overwritten", folder)
    for name in _foreign(folder):
        raise StoreExistsError("only a build is overwritten; this is no part of one", folder.where(name))


def _foreign(folder):
    """What is in a folder that no build writes."""
    names = folder.names()
    try:
        splits = read_config(folder.read(CONFIG), folder.where(CONFIG)).get("splits", {})
    except (OSError, BuildError):
        yield from names
        return
    yield from set(names) - {CONFIG, FOLDS, *splits, *(f"{name}.csv" for name in splits)}
    for split in set(splits) & set(names):
        for name in Folder(folder.path / split).names():
            if not (name in (NAME, LOCK) or OURS.fullmatch(name) or _TFRECORD.fullmatch(name)):
                yield f"{split}/{name}"


def _clear(folder):
    for name in folder.names():
        path = pathlib.Path(folder.path / name)
        if path.is_dir():
            Folder(path).remove_all()
        elif name != LOCK:
            path.unlink()
