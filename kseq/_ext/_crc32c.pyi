"""Type of the checksum kernel; `reference_crc32c.py` says what it does."""

from typing_extensions import Buffer

def crc32c(data: Buffer) -> int: ...
