"""What the checksum kernel does, in Python: the oracle of the tests, and the fallback where nothing was compiled."""


def _steps():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


_TABLE = tuple(_steps())


def crc32c(data):
    """The CRC-32C (Castagnoli) of the bytes of a C-contiguous buffer, which may be empty.

    Raises:
        TypeError: what has no buffer.
        BufferError: a buffer with gaps.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError(f"data must be a C-contiguous buffer; received one of strides {view.strides}")
    crc, table = 0xFFFFFFFF, _TABLE
    for byte in view.tobytes():
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
