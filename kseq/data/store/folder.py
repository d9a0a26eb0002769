"""Where a store's files lie: a local folder, or a remote one behind a local cache."""

import contextlib
import errno
import os
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import filelock
import xxhash

from ...annotations import AnyPath
from ..errors import ShardError, StoreChangedError, StoreError, StoreLockedError, StoreNotFoundError, StoreWriteError
from .aside import Aside, publish, sync
from .cache import cache_folder, used
from .forks import remove_own
from .manifest import NAME, read_manifest
from .shard import file_checksum

LOCK = "writer.lock"


def open_folder(path: AnyPath, cache: AnyPath | None = None) -> "Folder":
    """The folder of a path or URL (`s3://`, `gs://`, `memory://`, ...: what `fsspec` knows).

    Args:
        path: a path or URL.
        cache: local folder in which files of a remote one are kept; by default `kseq` in the user's cache.
    """
    if isinstance(path, Folder):
        return path
    text = os.fspath(path)
    return RemoteFolder(text, cache) if "://" in text else Folder(text)


class Folder:
    """A local folder. What is put into it is complete or not there, whenever the process is killed."""

    def __init__(self, path: AnyPath) -> None:
        self.path: pathlib.Path = pathlib.Path(path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def where(self, name: str) -> str:
        """How errors call a file."""
        return str(self.path / name)

    def create(self) -> bool:
        """Make the folder, and return whether it was not there."""
        with self.writing():
            made = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            return made

    def names(self) -> list[str]:
        """The files of the folder, sorted; none if it is not there."""
        if not self.path.exists():
            return []
        if not self.path.is_dir():
            raise StoreNotFoundError("a store must be a folder; received a file", self.path)
        return sorted(entry.name for entry in self.path.iterdir())

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self.path / name).read_bytes()

    def fetch(self, name: str, size: int, checksum: str | None = None) -> pathlib.Path:
        """A local path of a file of `size` bytes; of a remote one with a checksum, the copy in the cache.

        Raises:
            ShardError: a file that is missing, or of another size; a remote one also of another checksum.
        """
        path = self.path / name
        try:
            found = path.stat().st_size
        except FileNotFoundError:
            raise ShardError("the file is missing; the manifest names it", path) from None
        if found != size:
            raise ShardError(f"the file must have {size} bytes, as the manifest says; received {found}", path)
        return path

    def staging(self) -> pathlib.Path:
        """A local folder in which files are written before they are published."""
        return self.path

    def publish(self, staged: pathlib.Path, name: str) -> None:
        """Give a complete local file its name, durably."""
        with self.writing(name):
            publish(staged, self.path / name)

    def put(self, name: str, data: bytes) -> None:
        """Write or replace a file in one step, durably."""
        with self.writing(name):
            Aside(self.path / name, replace=True, temporary=self.staging() / f"{name}.tmp").put(data)

    def append(self, name: str, data: bytes, at: int) -> None:
        """Add to a file that has `at` bytes, durably; one that is not there has none.

        Raises:
            StoreChangedError: it has another size.
        """
        with self.writing(name):
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            with open(os.open(self.path / name, flags, 0o666), "ab", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != at:
                    raise StoreChangedError("another writer has committed to the store meanwhile", self.where(name))
                try:
                    if file.write(data) != len(data):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(file.fileno())
                except BaseException:
                    file.truncate(at)
                    raise
            if at == 0:
                sync(self.path)

    def stamp(self, name: str) -> tuple[int, int, int]:
        """What differs once a file was put anew."""
        found = os.stat(self.path / name)
        return found.st_ino, found.st_mtime_ns, found.st_size

    def remove(self, name: str) -> None:
        """Remove a file that may not be there."""
        with self.writing(name):
            (self.path / name).unlink(missing_ok=True)

    def remove_all(self) -> None:
        """Remove the folder and everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder against other writers, until the process ends if need be.

        Raises:
            StoreLockedError: another writer holds it.
        """
        path, process = self.path / LOCK, os.getpid()
        held = filelock.FileLock(path, blocking=False, thread_local=False)
        try:
            held.acquire()
        except filelock.Timeout:
            raise StoreLockedError("another writer has the store open", self.path) from None
        except OSError as error:
            if error.errno != errno.EROFS:  # else nothing here is changed by anyone
                raise StoreWriteError(error.strerror or str(error), self.path) from error
        try:
            yield
        finally:
            if held.is_locked and os.getpid() == process:  # else it is the parent's
                with contextlib.suppress(OSError):
                    path.unlink()  # while it is held: who waits for it finds that, and makes it anew
                held.release()

    @contextlib.contextmanager
    def writing(self, name: str = "") -> Iterator[None]:
        """Turn what the operating system refuses into an error that says where."""
        try:
            yield
        except StoreWriteError:
            raise
        except OSError as error:
            raise StoreWriteError(error.strerror or str(error), self.where(name)) from error


class RemoteFolder(Folder):
    """A folder behind `fsspec`. Whole files are kept in a local cache, since shards never change."""

    url: str
    cache_root: AnyPath | None
    system: Any
    root: str

    def __init__(self, url: str, cache: AnyPath | None = None) -> None:
        try:
            import fsspec
        except ImportError:
            raise ImportError(f"{url} needs fsspec: pip install 'kseq[remote]'") from None
        self.url, self.cache_root = url.rstrip("/"), cache
        self.system, self.root = fsspec.core.url_to_fs(self.url)
        self._staging = None

    def __fspath__(self) -> str:
        return self.url

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteFolder, (self.url, self.cache_root)

    def where(self, name: str) -> str:
        return f"{self.url}/{name}"

    def create(self) -> bool:
        made = not self.names()
        with self.writing():
            self.system.makedirs(self.root, exist_ok=True)
        return made

    def names(self) -> list[str]:
        try:
            self.system.invalidate_cache()
            return sorted(path.rsplit("/", 1)[-1] for path in self.system.ls(self.root, detail=False))
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes:
        return self.system.cat_file(f"{self.root}/{name}")

    def fetch(self, name: str, size: int, checksum: str | None = None) -> pathlib.Path:
        # By its checksum, so that a store that was written anew is not taken for the one before.
        kept = cache_folder(self.url, self.cache_root) / f"{checksum or 'unknown'}-{name}"
        if checksum and kept.exists() and kept.stat().st_size == size:
            used(kept, self.cache_root)
            return kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        aside = Aside(kept, replace=True)
        try:
            self.system.get_file(f"{self.root}/{name}", str(aside.temporary))
            found = aside.temporary.stat().st_size
            if found != size:
                raise ShardError(
                    f"the file must have {size} bytes, as the manifest says; received {found}", self.where(name)
                )
            # Once, on its way here: what is kept under a checksum has it, also if the store is just written anew.
            if checksum and (found := file_checksum(aside.temporary)) != checksum:
                raise ShardError(
                    f"the file is damaged: its checksum must be {checksum}; received {found}", self.where(name)
                )
            aside.commit()
        except FileNotFoundError:
            raise ShardError("the file is missing; the manifest names it", self.where(name)) from None
        finally:
            aside.discard()
        used(kept, self.cache_root)
        return kept

    def staging(self) -> pathlib.Path:
        if self._staging is None:
            self._staging = tempfile.mkdtemp(prefix="kseq-")
            weakref.finalize(self, remove_own, self._staging, os.getpid())
        return pathlib.Path(self._staging)

    def publish(self, staged: pathlib.Path, name: str) -> None:
        self._keep_committed(name, lambda: file_checksum(staged))
        with self.writing(name):
            self.system.put_file(str(staged), f"{self.root}/{name}")
            staged.unlink()

    def put(self, name: str, data: bytes) -> None:
        if name != NAME:
            self._keep_committed(name, lambda: xxhash.xxh3_64_hexdigest(data))
        with self.writing(name):
            self.system.pipe_file(f"{self.root}/{name}", data)

    def remove(self, name: str) -> None:
        if name in self._committed():
            return
        with contextlib.suppress(FileNotFoundError):
            self.system.rm_file(f"{self.root}/{name}")

    def remove_all(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.system.rm(self.root, recursive=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        # Object stores have no locks: a second writer is found when it commits, by the generation of the manifest.
        yield

    def _committed(self) -> dict[str, str]:
        """The files that the manifest names now, with their checksums."""
        try:
            shards = read_manifest(self).shards
        except StoreError:
            return {}
        files = {shard.file: shard.xxh3 for shard in shards}
        return files | {shard.lengths_file: shard.lengths_xxh3 for shard in shards}

    def _keep_committed(self, name: str, checksum: Callable[[], str]) -> None:
        """Refuse to write another file over one that is committed: with no lock, two writers give equal names.

        Raises:
            StoreChangedError: another writer has committed the file.
        """
        committed = self._committed().get(name)
        if committed is not None and committed != checksum():
            raise StoreChangedError("another writer has committed this file meanwhile", self.where(name))
