"""The records of TFRecord files as bytes: framing, checksums and compression."""

import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from google_crc32c import value as crc32c

from ....annotations import AnyPath
from ...errors import FormatError, StoreError, StoreNotFoundError
from ..files import check_expansion

WBITS = {"GZIP": 31, "ZLIB": 15}  # compressions, and what zlib calls them
_HEADER = struct.Struct("<QI")
_CHUNK = 1 << 18
_BATCH_BYTES, _BATCH_RECORDS = 1 << 20, 1024
_MOST_INFLATED = 1040  # bytes that a compressed byte can stand for: zlib's bound, and some


def masked(crc: int) -> int:
    """A CRC as TFRecord files keep it, so that the CRC of data which holds its own CRC is of use."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class _Plain:
    """The bytes of a file."""

    def __init__(self, file):
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def read(self, size):
        """So many bytes, or those up to the end."""
        parts = []
        while size > 0 and (part := self._file.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def left(self):
        """How many bytes there may be yet."""
        return self._size - self._file.tell()


class _Inflated:
    """The bytes that a compressed file stands for."""

    def __init__(self, file, wbits):
        self._file, self._wbits = file, wbits
        self._size = os.fstat(file.fileno()).st_size
        self._inflate = zlib.decompressobj(wbits)
        self._packed, self._ready, self._damage = b"", bytearray(), None

    def read(self, size):
        """So many bytes, or those up to the end or to damage.

        Raises:
            zlib.error: the compressed data is damaged here.
        """
        try:
            while self._damage is None and len(self._ready) < size and self._more():
                pass
        except zlib.error as error:
            self._damage = error
        if self._damage is not None and not self._ready:
            raise self._damage
        data = bytes(self._ready[:size])
        del self._ready[:size]
        return data

    def left(self):
        """How many bytes there may be yet."""
        return len(self._ready) + _MOST_INFLATED * (self._size - self._file.tell() + len(self._packed) + _CHUNK)

    def _more(self):
        packed = self._packed or self._file.read(_CHUNK)
        if self._inflate.eof:
            if not packed:
                return False
            if self._wbits != WBITS["GZIP"]:
                raise zlib.error("there is something after the end of the compressed data")
            self._inflate = zlib.decompressobj(self._wbits)  # gzip files may be joined
        data = self._inflate.decompress(packed, _CHUNK)
        if not packed and not data and not self._inflate.eof:
            raise zlib.error("the compressed data is cut off")
        self._ready += data
        self._packed = self._inflate.unconsumed_tail or self._inflate.unused_data
        return True


def _opened(file, compression):
    """The bytes of a file, and how they are compressed ("auto": found out)."""
    if compression == "auto":
        start = file.read(_HEADER.size)
        file.seek(0)
        compression = _detect(start)
    return (_Plain(file) if compression is None else _Inflated(file, WBITS[compression])), compression


def _detect(start):
    # A record of the right length begins like gzip, but then its checksum holds too.
    if len(start) == _HEADER.size and _HEADER.unpack(start)[1] == masked(crc32c(start[:8])):
        return None
    if start[:2] == b"\x1f\x8b":
        return "GZIP"
    if len(start) > 1 and start[0] & 0x8F == 0x08 and int.from_bytes(start[:2], "big") % 31 == 0:
        return "ZLIB"
    return None


def frames(
    path: AnyPath, compression: str | None = "auto", verify: bool = True, max_bytes: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the data of each record of a file, from the first to the last.

    Raises:
        FormatError: a file that is cut off or damaged, or a record that is compressed beyond `max_bytes`.
    """
    number = offset = 0
    try:
        with open(path, "rb", buffering=0) as file:
            data, compression = _opened(file, compression)
            stored = os.fstat(file.fileno()).st_size
            block, at = b"", 0  # what is read ahead, and where in it the record begins
            while True:
                if len(block) - at < _HEADER.size:
                    block, at = block[at:] + data.read(_CHUNK), 0
                    if not block:
                        return
                    if len(block) < _HEADER.size:
                        data.read(1)  # which says if the end is that of what is whole
                        raise _Damage(f"its header is cut off: {len(block)} of {_HEADER.size} bytes")
                size, crc = _HEADER.unpack_from(block, at)
                if verify and masked(crc32c(block[at : at + 8])) != crc:
                    raise _Damage("the checksum of its length is wrong" + _hint(number, compression))
                start, end = at + _HEADER.size, at + _HEADER.size + size
                if size > _CHUNK and size + 4 > (left := len(block) - start + data.left()):  # small ones are read
                    raise _Damage(f"it is cut off: its length is {size}, and at most {left} bytes are left")
                if compression is not None:
                    check_expansion(size, stored, f"record {number}", path, max_bytes)
                if end + 4 > len(block):
                    block = block[start:] + data.read(max(end + 4 - len(block), _CHUNK))
                    start, end = 0, size
                    if end + 4 > len(block):
                        data.read(1)
                        raise _Damage(f"it is cut off: {len(block)} of {size + 4} bytes")
                record = block[start:end]
                at = end + 4
                if verify and masked(crc32c(record)) != int.from_bytes(block[end:at], "little"):
                    raise _Damage("the checksum of its data is wrong")
                yield offset, record
                number, offset = number + 1, offset + size + _HEADER.size + 4
    except (_Damage, zlib.error) as error:
        raise FormatError(f"{_where(number, offset, compression)}: {error}", path) from None
    except FileNotFoundError:
        raise StoreNotFoundError("no such file", path) from None
    except OSError as error:
        raise StoreError(f"{_where(number, offset, compression)}: {error.strerror}", path) from error


def batches(path: AnyPath, *how: Any) -> Iterator[list[tuple[int, bytes]]]:
    """Yield lists of what `frames` yields, about a megabyte each; those before damage come before its error."""
    batch, size, damage = [], 0, None
    records = frames(path, *how)
    while True:
        try:
            found = next(records, None)
        except StoreError as error:
            found, damage = None, error
        if found is not None:
            batch.append(found)
            size += len(found[1])
        if batch and (found is None or size >= _BATCH_BYTES or len(batch) == _BATCH_RECORDS):
            yield batch
            batch, size = [], 0
        if damage is not None:
            raise damage
        if found is None:
            return


class _Damage(Exception):
    pass


def _hint(number, compression):
    if number:
        return ""
    return ": is it a TFRecord file?" if compression else ": is it a TFRecord file, and not a compressed one?"


def _where(number, offset, compression):
    return f"record {number} at byte {offset}" + (" of the uncompressed data" if compression else "")


def frame(data: bytes) -> bytes:
    """The bytes of a record with its length and checksums."""
    size = struct.pack("<Q", len(data))
    crcs = masked(crc32c(size)), masked(crc32c(data))
    return b"".join((size, crcs[0].to_bytes(4, "little"), data, crcs[1].to_bytes(4, "little")))
