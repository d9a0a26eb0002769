"""Numbers of one kind as another: what is stored narrow is widened when it is read.

`reference_widen.py` says in NumPy what each does.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

import numpy as np

_CODES = {
    "?": U1, "i1": I1, "u1": U1, "i2": I2, "u2": U2, "i4": I4, "u4": U4, "i8": I8, "u8": U8, "f4": F4, "f8": F8
}


cdef int number_code(dtype):
    return _CODES.get("?" if dtype == bool else f"{dtype.kind}{dtype.itemsize}", NONE) if dtype.isbuiltin == 1 else NONE


def widens(source, dtype):
    """Whether `Job` takes a stored dtype for another output dtype: numbers that no conversion changes."""
    return number_code(source) != NONE and number_code(dtype) != NONE and np.can_cast(source, dtype, "safe")


ctypedef fused Stored:
    int8_t
    uint8_t
    int16_t
    uint16_t
    int32_t
    uint32_t
    int64_t
    uint64_t
    float

ctypedef fused Shown:
    int8_t
    uint8_t
    int16_t
    uint16_t
    int32_t
    uint32_t
    int64_t
    uint64_t
    float
    double


cdef void convert_to(const Stored* source, Shown* out, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        out[i] = <Shown>source[i]


cdef void convert_from(const Stored* source, char* out, int code, Py_ssize_t count) noexcept nogil:
    if code == I1:
        convert_to(source, <int8_t*>out, count)
    elif code == U1:
        convert_to(source, <uint8_t*>out, count)
    elif code == I2:
        convert_to(source, <int16_t*>out, count)
    elif code == U2:
        convert_to(source, <uint16_t*>out, count)
    elif code == I4:
        convert_to(source, <int32_t*>out, count)
    elif code == U4:
        convert_to(source, <uint32_t*>out, count)
    elif code == I8:
        convert_to(source, <int64_t*>out, count)
    elif code == U8:
        convert_to(source, <uint64_t*>out, count)
    elif code == F4:
        convert_to(source, <float*>out, count)
    elif code == F8:
        convert_to(source, <double*>out, count)


cdef void convert(const char* source, int source_code, char* out, int code, Py_ssize_t count) noexcept nogil:
    """Write `count` numbers of one kind as those of another. Integers that it does not hold are cut off."""
    if source_code == I1:
        convert_from(<const int8_t*>source, out, code, count)
    elif source_code == U1:
        convert_from(<const uint8_t*>source, out, code, count)
    elif source_code == I2:
        convert_from(<const int16_t*>source, out, code, count)
    elif source_code == U2:
        convert_from(<const uint16_t*>source, out, code, count)
    elif source_code == I4:
        convert_from(<const int32_t*>source, out, code, count)
    elif source_code == U4:
        convert_from(<const uint32_t*>source, out, code, count)
    elif source_code == I8:
        convert_from(<const int64_t*>source, out, code, count)
    elif source_code == U8:
        convert_from(<const uint64_t*>source, out, code, count)
    elif source_code == F4:
        convert_from(<const float*>source, out, code, count)
