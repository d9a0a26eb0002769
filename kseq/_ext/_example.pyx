"""A kernel that reads `tf.train.Example`s as most programs write them; `reference_example.py` says what it does."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

import numpy as np

ctypedef const unsigned char* Bytes

cdef struct Span:
    Bytes at
    Py_ssize_t size
    int kind  # the number of the field of tf.train.Feature, or 0 where there is nothing

cdef enum:
    BYTES = 1
    FLOATS = 2
    INTEGERS = 3
    ENTRY = 0x0A  # field 1, of a length
    VALUE = 0x12  # field 2, of a length

KINDS = (None, "bytes_list", "float_list", "int64_list")


@cython.overflowcheck(False)  # the bits that a shift drops are looked at, or none
cdef Bytes varint(Bytes at, Bytes stop, uint64_t* value) noexcept nogil:
    """Where the varint at `at` ends, or NULL where it is malformed."""
    cdef int shift = 7
    cdef unsigned char byte
    if at >= stop:
        return NULL
    byte = at[0]
    value[0] = byte & 0x7F
    at += 1
    while byte >= 0x80:
        if at >= stop or shift > 63:
            return NULL
        byte = at[0]
        value[0] |= <uint64_t>(byte & 0x7F) << shift
        shift += 7
        at += 1
    if shift == 70 and byte > 1:
        return NULL
    return at


cdef Bytes content(Bytes at, Bytes stop, unsigned char tag, Bytes* end) noexcept nogil:
    """Where what the field at `at` holds begins and ends, or NULL where there is another field."""
    cdef uint64_t size
    if at >= stop or at[0] != tag:
        return NULL
    at = varint(at + 1, stop, &size)
    if at == NULL or size > <uint64_t>(stop - at):
        return NULL
    end[0] = at + size
    return at


cdef bint feature(Bytes at, Bytes stop, Span* span) noexcept nogil:
    """Whether a feature is empty, or holds one list of packed numbers or of one text."""
    cdef Bytes end, last
    cdef int kind
    span.kind = 0
    if at == stop:
        return True
    kind = at[0] >> 3
    if not BYTES <= kind <= INTEGERS:
        return False
    at = content(at, stop, <unsigned char>(kind << 3 | 2), &end)
    if at == NULL or end != stop:
        return False
    if at == end and kind != BYTES:
        last = end
    else:
        at = content(at, end, ENTRY, &last)
        if at == NULL or last != end:
            return False
    if kind == FLOATS and (last - at) % 4 or kind == INTEGERS and not are_varints(at, last):
        return False
    span.at, span.size, span.kind = at, last - at, kind
    return True


cdef bint are_varints(Bytes at, Bytes stop) noexcept nogil:
    cdef uint64_t value
    while at != NULL and at < stop:
        at = at + 1 if at[0] < 0x80 else varint(at, stop, &value)
    return at != NULL


cdef bint is_ascii(Bytes at, Bytes stop) noexcept nogil:
    while at < stop:
        if at[0] >= 0x80:
            return False
        at += 1
    return True


cdef bint example(Bytes at, Bytes stop, Span* names, Py_ssize_t count, Span* spans, Py_ssize_t rows) noexcept nogil:
    """Find the features of some names in a message: that of name `j` goes to `spans[j * rows]`."""
    cdef Bytes end, entry, entry_end, name, name_end, value, value_end
    cdef Py_ssize_t i, j, next_one = 0
    cdef Span found
    if at == stop:
        return True
    at = content(at, stop, ENTRY, &end)
    if at == NULL or end != stop:
        return False
    while at < end:
        entry = content(at, end, ENTRY, &entry_end)
        if entry == NULL:
            return False
        name = content(entry, entry_end, ENTRY, &name_end)
        if name == NULL:
            return False
        value = content(name_end, entry_end, VALUE, &value_end)
        if value == NULL or value_end != entry_end or not feature(value, value_end, &found):
            return False
        for i in range(count):
            j = next_one + i if next_one + i < count else next_one + i - count  # mostly in the order of the schema
            if names[j].size == name_end - name and memcmp(names[j].at, name, name_end - name) == 0:
                if spans[j * rows].at != NULL:
                    return False  # twice
                spans[j * rows] = found
                if found.at == NULL:
                    spans[j * rows].at = value
                next_one = j + 1
                break
        else:
            if not is_ascii(name, name_end):
                return False
        at = entry_end
    return True


def example_columns(batch not None, names not None):
    cdef tuple kept = tuple(batch), keys = tuple(names)
    cdef Py_ssize_t rows = len(kept), count = len(keys), i, j
    cdef bytes data
    cdef Bytes at
    room = np.zeros((rows + 1) * count * sizeof(Span) + 1, np.uint8)
    cdef uint8_t[::1] memory = room
    cdef Span* wanted = <Span*>&memory[0]
    cdef Span* spans = wanted + count
    for j in range(count):
        data = keys[j]
        wanted[j].at, wanted[j].size = <Bytes>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
    for i in range(rows):
        data = kept[i]
        at = <Bytes>PyBytes_AS_STRING(data)
        if not example(at, at + PyBytes_GET_SIZE(data), wanted, count, spans + i, rows):
            return None
    found = []
    for j in range(count):
        column = gathered(spans + j * rows, rows)
        if column is None:
            return None
        found.append(column)
    return found


cdef gathered(Span* spans, Py_ssize_t rows):
    """What the features of one name hold, and in which rows they are; None where they are of several kinds."""
    cdef Py_ssize_t i, n = 0, size = 0, at = 0
    cdef int kind = 0
    cdef uint64_t value = 0
    cdef Bytes one, end
    there, counts = np.zeros(rows, np.bool_), np.empty(rows, np.int64)
    cdef uint8_t[::1] there_view = there.view(np.uint8)
    cdef int64_t[::1] counts_view = counts
    for i in range(rows):
        if spans[i].kind == 0:
            continue
        if kind not in (0, spans[i].kind):
            return None
        kind = spans[i].kind
        there_view[i] = 1
        counts_view[n] = 1 if kind == BYTES else spans[i].size // 4 if kind == FLOATS else ended(&spans[i])
        size += counts_view[n]
        n += 1
    if kind == 0 or kind == BYTES:
        values = [
            PyBytes_FromStringAndSize(<const char*>spans[i].at, spans[i].size) for i in range(rows) if spans[i].kind
        ]
        return KINDS[kind], values, counts[:n], there
    values = np.empty(size, np.int64 if kind == INTEGERS else np.dtype("<f4"))
    cdef uint8_t[::1] room = values.view(np.uint8)
    cdef uint8_t* out = &room[0] if size else NULL
    for i in range(rows):
        if spans[i].kind == FLOATS:
            memcpy(out + at, spans[i].at, spans[i].size)
            at += spans[i].size
        elif spans[i].kind == INTEGERS:
            one, end = spans[i].at, spans[i].at + spans[i].size
            while one < end:
                one = varint(one, end, &value)
                (<int64_t*>(out + at))[0] = <int64_t>value
                at += 8
    return KINDS[kind], values, counts[:n], there


cdef Py_ssize_t ended(Span* span) noexcept nogil:
    cdef Py_ssize_t i, count = 0
    for i in range(span.size):
        count += span.at[i] < 0x80
    return count
