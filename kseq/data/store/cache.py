"""The local files of remote stores: where they are kept, and how they are let go."""

import contextlib
import os
import pathlib

import xxhash

from ...annotations import AnyPath


def cache_folder(url: str | None = None, cache: AnyPath | None = None) -> pathlib.Path:
    """Where files of a remote store are kept, or those of all.

    Args:
        url: of the store.
        cache: the folder of all; by default what the environment variable KSEQ_CACHE says, or `kseq` in the user's.
    """
    root = pathlib.Path(cache or os.environ.get("KSEQ_CACHE") or pathlib.Path.home() / ".cache" / "kseq")
    return root if url is None else root / xxhash.xxh3_64_hexdigest(url.rstrip("/").encode())


def clear_cache(url: str | None = None, *, most_bytes: int = 0, cache: AnyPath | None = None) -> int:
    """Remove local copies of the files of remote stores, those first that were opened longest ago.

    Stores that are open keep what they have read. With the environment variable KSEQ_CACHE_BYTES the whole cache is
    held below so many bytes whenever a file is added to it.

    Args:
        url: of the store whose files are meant; by default those of all.
        most_bytes: what may stay.
        cache: as in `open`.

    Returns:
        The bytes that were removed.

    Example:
        >>> clear_cache("memory://none")
        0
    """
    return _trim(cache_folder(url, cache), most_bytes)


def used(path: pathlib.Path, cache: AnyPath | None) -> None:
    """Say that a file in the cache is used now, and hold the cache below what the environment allows."""
    with contextlib.suppress(OSError):
        os.utime(path)
    most = os.environ.get("KSEQ_CACHE_BYTES")
    if most:
        _trim(cache_folder(cache=cache), int(most), path)


def _trim(root: pathlib.Path, most: int, keep: pathlib.Path | None = None) -> int:
    files = []
    for path in root.rglob("*") if root.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # another process clears too
            if path.is_file():
                found = path.stat()
                files.append((found.st_mtime_ns, found.st_size, path))
    size, removed = sum(size for _, size, _ in files), 0
    for _, bytes_of_file, path in sorted(files):
        if size - removed <= most:
            break
        if path != keep:
            with contextlib.suppress(OSError):  # Windows does not remove what is mapped
                path.unlink()
                removed += bytes_of_file
    return removed
