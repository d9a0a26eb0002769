"""A kernel that reads `tf.train.Example`s as most programs write them; `reference_example.py` says what it does."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy

import numpy as np

ctypedef const unsigned char* Bytes

cdef struct Span:
    Bytes at
    Py_ssize_t size
    int kind  # the number of the field of tf.train.Feature, or 0 where there is nothing

cdef struct Steps:
    Span* spans
    Py_ssize_t count, room

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


cdef Py_ssize_t place(Bytes name, Bytes end, Span* names, Py_ssize_t count, Py_ssize_t first) noexcept nogil:
    """Which of the names it is, looked for from `first` on; -1: none of them, -2: nor one that is known to be UTF-8."""
    cdef Py_ssize_t i, j
    for i in range(count):
        j = first + i if first + i < count else first + i - count  # mostly in the order of the schema
        if names[j].size == end - name and memcmp(names[j].at, name, end - name) == 0:
            return j
    return -1 if is_ascii(name, end) else -2


cdef bint features(Bytes at, Bytes stop, Span* names, Py_ssize_t count, Span* spans, Py_ssize_t rows) noexcept nogil:
    """Find the features of some names: that of name `j` goes to `spans[j * rows]`."""
    cdef Bytes entry, entry_end, name, name_end, value, value_end
    cdef Py_ssize_t j, next_one = 0
    cdef Span found
    while at < stop:
        entry = content(at, stop, ENTRY, &entry_end)
        if entry == NULL:
            return False
        name = content(entry, entry_end, ENTRY, &name_end)
        if name == NULL:
            return False
        value = content(name_end, entry_end, VALUE, &value_end)
        if value == NULL or value_end != entry_end or not feature(value, value_end, &found):
            return False
        j = place(name, name_end, names, count, next_one)
        if j == -2 or j >= 0 and spans[j * rows].at != NULL:
            return False  # twice
        if j >= 0:
            spans[j * rows] = found
            if found.kind == 0:
                spans[j * rows].at = value
            next_one = j + 1
        at = entry_end
    return True


cdef bint feature_lists(
    Bytes at, Bytes stop, Span* names, Py_ssize_t count, Steps* lists, int64_t* steps, Py_ssize_t rows
) noexcept nogil:
    """Find the feature lists of some names: those of name `j` go to the end of `lists[j]`, how many to `steps`."""
    cdef Bytes entry, entry_end, name, name_end, value, value_end, one, one_end
    cdef Py_ssize_t j, next_one = 0, number
    cdef Span found
    while at < stop:
        entry = content(at, stop, ENTRY, &entry_end)
        if entry == NULL:
            return False
        name = content(entry, entry_end, ENTRY, &name_end)
        if name == NULL:
            return False
        value = content(name_end, entry_end, VALUE, &value_end)
        if value == NULL or value_end != entry_end:
            return False
        j = place(name, name_end, names, count, next_one)
        if j == -2 or j >= 0 and steps[j * rows] >= 0:
            return False
        number = 0
        while value < value_end:
            one = content(value, value_end, ENTRY, &one_end)
            if one == NULL or not feature(one, one_end, &found) or found.kind == 0:
                return False
            if j >= 0 and not push(&lists[j], found):
                return False
            number += 1
            value = one_end
        if j >= 0:
            steps[j * rows] = number
            next_one = j + 1
        at = entry_end
    return True


cdef bint push(Steps* steps, Span span) noexcept nogil:
    cdef Span* more
    if steps.count == steps.room:
        more = <Span*>realloc(steps.spans, (2 * steps.room + 64) * sizeof(Span))
        if more == NULL:
            return False  # protobuf may have the memory, or say that there is none
        steps.spans, steps.room = more, 2 * steps.room + 64
    steps.spans[steps.count] = span
    steps.count += 1
    return True


def example_columns(batch not None, names not None, bint lists=False):
    cdef tuple kept = tuple(batch), keys = tuple(names)
    cdef Py_ssize_t rows = len(kept), count = len(keys), i, j
    cdef bytes data
    cdef Bytes at, stop, end
    room = np.zeros((rows + 1) * count * sizeof(Span) + 1, np.uint8)
    counted = np.full((count, rows), -1, np.int64)
    cdef uint8_t[::1] memory = room
    cdef int64_t[:, ::1] counts = counted
    cdef Span* wanted = <Span*>&memory[0]
    cdef Span* spans = wanted + count
    cdef Steps* steps
    for j in range(count):
        data = keys[j]
        wanted[j].at, wanted[j].size = <Bytes>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
    steps = <Steps*>calloc(count + 1, sizeof(Steps))
    if steps == NULL:
        raise MemoryError
    try:
        for i in range(rows):
            data = kept[i]
            at = <Bytes>PyBytes_AS_STRING(data)
            stop = at + PyBytes_GET_SIZE(data)
            if at < stop and at[0] == ENTRY:
                at = content(at, stop, ENTRY, &end)
                if at == NULL or not features(at, end, wanted, count, spans + i, rows):
                    return None
                at = end
            if at < stop and lists:
                at = content(at, stop, VALUE, &end)
                if at == NULL or not feature_lists(at, end, wanted, count, steps, &counts[0, i] if count else NULL, rows):
                    return None
                at = end
            if at != stop:
                return None
        found = []
        for j in range(count):
            column = gathered(spans + j * rows, rows)
            if column is None:
                return None
            listed = counted[j] >= 0
            if listed.any():
                in_context = column[3].any()
                column = gathered(steps[j].spans, steps[j].count)
                if column is None or in_context:
                    return None
                found.append((*column[:3], listed, counted[j][listed]))
            else:
                found.append((*column, None))
        return found
    finally:
        for j in range(count):
            free(steps[j].spans)
        free(steps)


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
