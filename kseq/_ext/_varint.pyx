"""Kernels of protobuf's wire format; `reference_varint.py` says in Python what each does, and what is malformed."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t

import numpy as np

from kseq._ext import reference_varint

cdef enum:
    SMALL = 4096  # up to here it costs more to let other threads run


@cython.overflowcheck(False)  # the bits that a shift drops are looked at, or none
cdef Py_ssize_t varint(const unsigned char* data, Py_ssize_t at, Py_ssize_t stop, uint64_t* value) noexcept nogil:
    """Where the varint at `at` ends, or -1 where it is malformed."""
    cdef int shift = 7
    cdef unsigned char byte
    if at >= stop:
        return -1
    byte = data[at]
    value[0] = byte & 0x7F
    at += 1
    while byte >= 0x80:
        if at >= stop or shift > 63:
            return -1
        byte = data[at]
        value[0] |= <uint64_t>(byte & 0x7F) << shift
        shift += 7
        at += 1
    return -1 if shift == 70 and byte > 1 else at


cdef bint unpack(
    const unsigned char* data, Py_ssize_t at, Py_ssize_t stop, int64_t* out, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef uint64_t value = 0
    while at < stop and i < count:
        at = varint(data, at, stop, &value)
        if at < 0:
            return False
        out[i] = <int64_t>value
        i += 1
    return at == stop and i == count


cdef Py_ssize_t ends_of(const unsigned char* data, Py_ssize_t at, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t i, count = 0
    for i in range(at, stop):
        count += data[i] < 0x80
    return count


def unpack_varints(bytes data not None, Py_ssize_t at, Py_ssize_t stop):
    cdef const unsigned char* bare = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t count
    cdef int64_t[::1] numbers
    cdef int64_t* out
    cdef bint good
    if not 0 <= at <= stop <= PyBytes_GET_SIZE(data):
        raise ValueError(f"bytes {at} to {stop} must lie in {PyBytes_GET_SIZE(data)} bytes")
    count = ends_of(bare, at, stop)
    array = np.empty(count, np.int64)
    if count == 0:
        return array if at == stop else reference_varint.unpack_varints(data, at, stop)
    numbers = array
    out = &numbers[0]
    if stop - at <= SMALL:
        good = unpack(bare, at, stop, out, count)
    else:
        with nogil:
            good = unpack(bare, at, stop, out, count)
    return array if good else reference_varint.unpack_varints(data, at, stop)


cdef inline Py_ssize_t size_of(uint64_t value) noexcept nogil:
    cdef Py_ssize_t size = 1
    while value >= 0x80:
        value >>= 7
        size += 1
    return size


cdef bint write(
    const int64_t* values, Py_ssize_t count, unsigned char* out, Py_ssize_t size, int64_t* ends
) noexcept nogil:
    cdef Py_ssize_t i, at = 0
    cdef uint64_t value
    for i in range(count):
        value = <uint64_t>values[i]
        if size - at < 10 and size - at < size_of(value):  # whatever another thread writes meanwhile
            return False
        while value >= 0x80:
            out[at] = <unsigned char>(value & 0x7F | 0x80)
            value >>= 7
            at += 1
        out[at] = <unsigned char>value
        at += 1
        if ends != NULL:
            ends[i] = at
    return at == size


def pack_varints(const int64_t[::1] values not None, int64_t[::1] ends=None):
    cdef Py_ssize_t i, count = values.shape[0], size = 0
    cdef const int64_t* first
    cdef int64_t* into = NULL
    cdef unsigned char* out
    cdef bint good
    if ends is not None and ends.shape[0] != count:
        raise ValueError(f"ends must have {count} elements; received {ends.shape[0]}")
    if count == 0:
        return b""
    if ends is not None:
        into = &ends[0]
    first = &values[0]
    for i in range(count):
        size += size_of(<uint64_t>first[i])
    packed = PyBytes_FromStringAndSize(NULL, size)
    out = <unsigned char*>PyBytes_AS_STRING(packed)
    if count <= SMALL:
        good = write(first, count, out, size, into)
    else:
        with nogil:
            good = write(first, count, out, size, into)
    if not good:
        raise ValueError("values must not change while they are packed")
    return packed


def message_fields(bytes data not None, Py_ssize_t at, Py_ssize_t stop, uint64_t known, unsigned int wires):
    cdef const unsigned char* bare = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t begin = at, start, end
    cdef uint64_t tag = 0, value = 0, number
    cdef int wire
    cdef list found = []
    if not 0 <= at <= stop <= PyBytes_GET_SIZE(data):
        raise ValueError(f"bytes {at} to {stop} must lie in {PyBytes_GET_SIZE(data)} bytes")
    while at < stop:
        start = varint(bare, at, stop, &tag)
        if start < 0:
            break
        number, wire, end = tag >> 3, <int>(tag & 7), -1
        if wire == 2:
            start = varint(bare, start, stop, &value)
            if start >= 0 and value <= <uint64_t>(stop - start):
                end = start + <Py_ssize_t>value
        elif wire == 0:
            end = varint(bare, start, stop, &value)
        elif wire == 5 and stop - start >= 4:
            end = start + 4
        elif wire == 1 and stop - start >= 8:
            end = start + 8
        if end < 0 or number < 1 or number >= 1 << 29:
            break
        if number <= known:
            if not wires >> wire & 1:
                break
            found.append((number, wire, start, end))
        at = end
    else:
        return found
    # Groups, which nobody writes, and what is malformed.
    return reference_varint.message_fields(data, begin, stop, known, wires)
