"""What the kernels of records share with those of ragged rows: the plan of a copy, and the copy."""

cimport numpy as cnp


cdef struct Span:
    const char* data
    const char* end  # what lies between `data` and it may be read, or NULL
    Py_ssize_t steps


cdef class Plan:
    cdef Span* spans


cdef struct Padding:
    char* pattern  # a row of padding, or NULL where `byte` repeated will do
    char* flags  # `target` times valid, not valid, valid: every row of a mask is a stretch of it
    unsigned char byte


cdef class Filler:
    cdef Padding padding


cdef void write_rows(
    const Span* spans, Py_ssize_t rows, Py_ssize_t target, Py_ssize_t nbytes, char* out, unsigned char* mask,
    const Padding* padding, bint left, bint cut_left,
) noexcept nogil
