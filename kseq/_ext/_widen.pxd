"""Numbers of one kind as another, for the kernels of tables and columns."""

cdef enum Number:
    NONE, I1, U1, I2, U2, I4, U4, I8, U8, F4, F8

cdef int number_code(dtype)
cdef void convert(const char* source, int source_code, char* out, int code, Py_ssize_t count) noexcept nogil
