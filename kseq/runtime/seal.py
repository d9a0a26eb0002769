"""Checksums of what runtimes read without one: a bit that turned in a weight would be another number, and no error."""

import mmap
import os
import pathlib

import xxhash

from ..annotations import AnyPath

# The last of an .onnx file: one property more, in the bytes of its format, of a fixed length.
_PROPERTY = b"\x72\x31\x0a\x0dkseq.checksum\x12\x20"
_DIGITS = 32
#: Under which name the checksum of a SavedModel's graph lies beside the manifest.
CHECKSUM = "kseq.checksum"


def checksum(path: AnyPath, stop: int | None = None) -> bytes:
    """The checksum of a file's first bytes, or of all: 32 digits."""
    size = os.path.getsize(path) if stop is None else stop
    if size <= 0:
        return xxhash.xxh3_128_hexdigest(b"").encode()
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
        view[:size] as part,
    ):
        return xxhash.xxh3_128_hexdigest(part).encode()


def seal_onnx(path: pathlib.Path) -> None:
    """Let the checksum of an .onnx file be its last property."""
    found = checksum(path)
    with path.open("ab") as file:
        file.write(_PROPERTY + found)


def check_onnx(path: pathlib.Path) -> None:
    """Refuse a damaged .onnx file; one that has no checksum as its last property was written by others.

    Raises:
        ValueError: a file that is not as it was written.
    """
    end = len(_PROPERTY) + _DIGITS
    with path.open("rb") as file:
        file.seek(-min(end, os.path.getsize(path)), os.SEEK_END)
        tail = file.read()
    if tail.startswith(_PROPERTY):
        check(path, tail[len(_PROPERTY) :], os.path.getsize(path) - end)


def check(path: AnyPath, wanted: bytes, stop: int | None = None) -> None:
    """Refuse a file whose first bytes have another checksum.

    Raises:
        ValueError: such a file.
    """
    if checksum(path, stop) != wanted:
        raise ValueError(
            f"{path} is damaged, or was changed since it was exported: its checksum differs (where a model of ONNX "
            f"was changed on purpose, take the property {CHECKSUM!r} away)"
        )
