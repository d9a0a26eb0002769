"""The checksum of TFRecord files, eight bytes at a time; `reference_crc32c.py` says the same in Python."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t

cdef uint32_t TABLE[8][256]  # TABLE[k][byte]: what `byte` adds when k more zero bytes follow it


cdef void fill_table() noexcept:
    cdef uint32_t crc
    cdef int byte, bit, zeros
    for byte in range(256):
        crc = byte
        for bit in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        TABLE[0][byte] = crc
    for zeros in range(1, 8):
        for byte in range(256):
            crc = TABLE[zeros - 1][byte]
            TABLE[zeros][byte] = (crc >> 8) ^ TABLE[0][crc & 0xFF]


fill_table()


cdef uint32_t update(const unsigned char* data, Py_ssize_t count, uint32_t crc) noexcept nogil:
    cdef uint32_t low
    while count >= 8:
        # Byte by byte, whatever this machine's order of bytes: compilers make one load of it.
        low = crc ^ (
            <uint32_t>data[0] | <uint32_t>data[1] << 8 | <uint32_t>data[2] << 16 | <uint32_t>data[3] << 24
        )
        crc = (
            TABLE[7][low & 0xFF] ^ TABLE[6][(low >> 8) & 0xFF] ^ TABLE[5][(low >> 16) & 0xFF] ^ TABLE[4][low >> 24]
            ^ TABLE[3][data[4]] ^ TABLE[2][data[5]] ^ TABLE[1][data[6]] ^ TABLE[0][data[7]]
        )
        data += 8
        count -= 8
    while count > 0:
        crc = (crc >> 8) ^ TABLE[0][(crc ^ data[0]) & 0xFF]
        data += 1
        count -= 1
    return crc


def crc32c(data):
    cdef Py_buffer view
    cdef uint32_t crc = 0xFFFFFFFF
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if view.len < 4096:  # to let other threads run costs more than this
            crc = update(<const unsigned char*>view.buf, view.len, crc)
        else:
            with nogil:
                crc = update(<const unsigned char*>view.buf, view.len, crc)
    finally:
        PyBuffer_Release(&view)
    return crc ^ <uint32_t>0xFFFFFFFF
