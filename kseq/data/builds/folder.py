"""The folder of a build: made under a temporary name, and renamed when everything is in it."""

import contextlib
import os
import pathlib
import uuid

from ..errors import StoreError, StoreExistsError
from ..store.aside import publish
from ..store.folder import LOCK, Folder, RemoteFolder, open_folder


@contextlib.contextmanager
def building(path):
    """A folder to build in, which takes the name `path` in the end; after an exception there is nothing.

    A local build grows in `.<name>.building` beside its place. One that was killed leaves that folder; the next build
    of the same path begins it anew. A remote build (a URL) grows in its place, where manifests are written last.

    Raises:
        StoreExistsError: something lies at the path.
        StoreLockedError: another build of the same path is running.
    """
    folder, process = open_folder(path), os.getpid()
    _check_free(folder)
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
        _check_free(folder)
        _clear(outer)  # what a build that was killed has left
        # Under a new name each time: workers of a build that was killed may still be writing.
        work = subfolder(outer, uuid.uuid4().hex)
        try:
            yield work
            if os.getpid() != process:
                raise StoreError("the build was inherited by a fork: only its maker may end it", folder)
            with folder.writing():
                if target.is_dir():
                    target.rmdir()  # it is empty
                publish(work.path, target)
        finally:
            if os.getpid() == process:  # else it is the parent's
                # First out of the way: workers that still run must not find it.
                gone = Folder(outer.path / "gone")
                with contextlib.suppress(FileNotFoundError):
                    os.rename(work.path, gone.path)
                outer.remove_all()


def subfolder(folder, name):
    """A new folder within one."""
    inner = RemoteFolder(f"{folder.url}/{name}") if isinstance(folder, RemoteFolder) else Folder(folder.path / name)
    inner.create()
    return inner


def remove_staged(folder):
    """Remove what workers that died have left in a folder."""
    if not isinstance(folder, RemoteFolder):
        for name in folder.names():
            if name.endswith(".tmp"):
                Folder(folder.path / name).remove_all()


def check_local(path):
    """Refuse a URL.

    Raises:
        StoreError: it is one.
    """
    if isinstance(open_folder(path), RemoteFolder):
        raise StoreError("TFRecord files are built in local folders; received a URL", path)


def _check_free(folder):
    if not isinstance(folder, RemoteFolder) and folder.path.is_file():
        raise StoreExistsError("there is a file where the build is to be written", folder)
    if folder.names():
        raise StoreExistsError("there is something already where the build is to be written", folder)


def _clear(folder):
    for name in folder.names():
        path = pathlib.Path(folder.path / name)
        if path.is_dir():
            Folder(path).remove_all()
        elif name != LOCK:
            path.unlink()
