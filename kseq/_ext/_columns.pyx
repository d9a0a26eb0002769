"""Columns in memory that records are appended to, before they are written as a chunk of a shard.

`reference_columns.py` says in NumPy what they do.
"""

cimport numpy as cnp
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport PyObject, _Py_REFCNT
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_Check
from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from kseq._ext._widen cimport F4, F8, I8, NONE, convert, number_code

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_FromScalar(object scalar, cnp.PyArray_Descr* dtype)


cdef enum:
    MAX_STEPS = 0x7FFFFFFF  # Arrow's offsets are 32-bit


cdef class Memory:
    """Memory that arrays may be views of: as long as there are any it stays as it is."""

    cdef void* at

    def __dealloc__(self):
        PyMem_Free(self.at)

    cdef int resize(self, Py_ssize_t nbytes) except -1:
        cdef void* moved = PyMem_Realloc(self.at, nbytes)
        if moved == NULL:
            raise MemoryError()
        self.at = moved
        return 0

    cdef array(self, cnp.npy_intp size, int kind):
        cdef cnp.ndarray found = cnp.PyArray_SimpleNewFromData(1, &size, kind, self.at)
        cnp.set_array_base(found, self)
        return found


cdef class Column:
    """One column that is being written: its bytes, the end of each row, and which rows are there."""

    cdef str name
    cdef object dtype  # None for text
    cdef bint ragged, text, binary, optional, listed, boolean, negative  # the last: whether numbers may be
    cdef int rank, number  # the kind of a single number, else NONE
    cdef cnp.npy_intp* inner
    cdef Py_ssize_t nbytes, used, size, rows, room, missing
    # What the pointers point into. What was taken may still be with others: see `own`.
    cdef Memory all_data, all_offsets, all_valid
    cdef char* data
    cdef int32_t* offsets
    cdef unsigned char* valid
    cdef bint taken
    # The value that is to be appended, between its check and its copy.
    cdef object value
    cdef const char* next_data
    cdef Py_ssize_t next_bytes
    cdef int64_t next_number  # room for any number

    def __cinit__(self, str name not None, dtype, tuple inner not None, bint ragged, bint optional):
        cdef int axis
        self.name, self.ragged, self.optional, self.rank = name, ragged, optional, len(inner)
        self.text, self.binary = dtype == "string", dtype == "bytes"
        self.dtype = None if self.text or self.binary else dtype
        self.listed = ragged or self.dtype is None
        self.boolean, self.negative = not self.listed and dtype.kind == "b", not self.listed and dtype.kind == "i"
        self.number = number_code(dtype) if self.dtype is not None and not ragged and not inner else NONE
        self.nbytes = 1 if self.dtype is None else dtype.itemsize
        self.inner = <cnp.npy_intp*>PyMem_Malloc(max(self.rank, 1) * sizeof(cnp.npy_intp))
        if self.inner == NULL:
            raise MemoryError()
        for axis in range(self.rank):
            self.inner[axis] = inner[axis]
            self.nbytes *= self.inner[axis]
        self.all_data, self.all_offsets, self.all_valid = Memory(), Memory(), Memory()
        self.make_data(1 << 12)
        self.make_rows(1 << 8)

    def __dealloc__(self):
        PyMem_Free(self.inner)

    cdef int make_data(self, Py_ssize_t size) except -1:
        """Have memory for so many bytes, those included that are there."""
        self.all_data.resize(size)
        self.size, self.data = size, <char*>self.all_data.at
        return 0

    cdef int make_rows(self, Py_ssize_t room) except -1:
        """Have memory for so many rows, those included that are there."""
        self.all_offsets.resize((room + 1) * sizeof(int32_t))
        self.offsets = <int32_t*>self.all_offsets.at
        self.all_valid.resize(room)
        self.valid = <unsigned char*>self.all_valid.at
        self.room, self.offsets[0] = room, 0
        return 0

    cdef int own(self) except -1:
        """After `take`: memory that others still look at is left to them, else it is used again."""
        cdef Memory data, offsets, valid
        if _Py_REFCNT(<PyObject*>self.all_data) > 1:
            data = Memory()
            data.resize(self.size)
            self.all_data, self.data = data, <char*>data.at
        if _Py_REFCNT(<PyObject*>self.all_offsets) > 1 or _Py_REFCNT(<PyObject*>self.all_valid) > 1:
            offsets, valid = Memory(), Memory()
            offsets.resize((self.room + 1) * sizeof(int32_t))
            valid.resize(self.room)
            self.all_offsets, self.offsets = offsets, <int32_t*>offsets.at
            self.all_valid, self.valid = valid, <unsigned char*>valid.at
        self.offsets[0], self.taken = 0, False
        return 0

    cdef int reserve(self, Py_ssize_t rows, Py_ssize_t nbytes) except -1:
        """Have memory for more rows of so many bytes."""
        if self.taken:
            self.own()
        if self.used + nbytes > self.size:
            self.make_data(max(self.used + nbytes, 2 * self.size))
        if self.rows + rows > self.room:
            self.make_rows(max(self.rows + rows, 2 * self.room))
        return 0

    cdef bint accept(self, object value) except -1:
        """Whether the value can be copied as it is."""
        cdef cnp.ndarray array
        cdef Py_ssize_t length
        cdef int axis, first = self.ragged
        self.value = value
        if value is None:
            self.next_data, self.next_bytes = NULL, -1
            return self.optional
        if self.text:
            if not PyUnicode_Check(value):
                return False
            self.next_data = PyUnicode_AsUTF8AndSize(value, &length)
            self.next_bytes = length
        elif self.binary:
            if not PyBytes_Check(value):
                return False
            self.next_data, self.next_bytes = PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value)
        elif self.number and (PyLong_CheckExact(value) or PyFloat_CheckExact(value)):
            return self.accept_number(value)
        else:
            if not first and not self.rank and not cnp.PyArray_Check(value) and cnp.PyArray_CheckScalar(value):
                self.value = value = PyArray_FromScalar(value, NULL)
            if not cnp.PyArray_Check(value):
                return False
            array = <cnp.ndarray>value
            if (
                cnp.PyArray_NDIM(array) != first + self.rank
                or not cnp.PyArray_IS_C_CONTIGUOUS(array)
                or not (<object>cnp.PyArray_DESCR(array) is self.dtype or array.dtype == self.dtype)
            ):
                return False
            for axis in range(self.rank):
                if cnp.PyArray_DIM(array, first + axis) != self.inner[axis]:
                    return False
            self.next_data, self.next_bytes = cnp.PyArray_BYTES(array), cnp.PyArray_NBYTES(array)
        return self.used // self.nbytes + self.next_bytes // self.nbytes <= MAX_STEPS

    cdef bint accept_number(self, object value) except -1:
        """Whether one of Python's numbers is one that the column holds; integers are not taken from floats."""
        cdef int overflow = 0
        cdef int64_t integer, again
        cdef double real
        cdef float single
        self.next_data, self.next_bytes = <const char*>&self.next_number, self.nbytes
        if self.number == F4 or self.number == F8:
            if not PyFloat_CheckExact(value):
                return False
            real = PyFloat_AS_DOUBLE(value)
            if self.number == F8:
                memcpy(&self.next_number, &real, sizeof(double))
                return True
            single = <float>real
            memcpy(&self.next_number, &single, sizeof(float))
            return isfinite(single) or not isfinite(real)
        if not PyLong_CheckExact(value) or self.boolean:
            return False
        integer = PyLong_AsLongLongAndOverflow(value, &overflow)
        # What does not fit is cut off, and does not come back as it was.
        convert(<const char*>&integer, I8, <char*>&self.next_number, self.number, 1)
        convert(<const char*>&self.next_number, self.number, <char*>&again, I8, 1)
        return not overflow and again == integer and (integer >= 0 or self.negative)

    cdef int append(self) except -1:
        """Copy the value that was accepted."""
        cdef Py_ssize_t nbytes = max(self.next_bytes, 0)
        if not self.listed:
            nbytes = self.nbytes
        self.reserve(1, nbytes)
        if self.next_bytes > 0:
            memcpy(self.data + self.used, self.next_data, nbytes)
        elif self.next_bytes < 0:
            memset(self.data + self.used, 0, nbytes)
            self.missing += 1
        self.valid[self.rows] = self.next_bytes >= 0
        self.used += nbytes
        self.rows += 1
        self.offsets[self.rows] = <int32_t>(self.used // self.nbytes)
        self.value = None
        return 0

    cdef int extend(
        self, Py_ssize_t start, Py_ssize_t end, const unsigned char[::1] data, const int64_t[::1] offsets,
        const unsigned char[::1] valid,
    ) except -1:
        """Copy the values of some rows, once `check` has found them good."""
        cdef Py_ssize_t i, rows = end - start
        cdef int64_t first = start if offsets is None else offsets[start]
        cdef int64_t last = end if offsets is None else offsets[end]
        cdef int64_t base = self.used // self.nbytes - first, step
        cdef Py_ssize_t nbytes = (last - first) * self.nbytes
        self.reserve(rows, nbytes)
        if nbytes:
            memcpy(self.data + self.used, &data[first * self.nbytes], nbytes)
        for i in range(rows):
            step = start + i + 1 if offsets is None else offsets[start + i + 1]
            self.offsets[self.rows + i + 1] = <int32_t>(base + step)
            self.valid[self.rows + i] = valid is None or valid[start + i] != 0
            self.missing += not self.valid[self.rows + i]
        self.used += nbytes
        self.rows += rows
        return 0

    cdef int check(
        self, Py_ssize_t start, Py_ssize_t end, const unsigned char[::1] data, const int64_t[::1] offsets,
        const unsigned char[::1] valid,
    ) except -1:
        cdef Py_ssize_t i
        cdef int64_t first = start, last = end
        cdef bint good = (offsets is not None) == self.listed and (valid is None or valid.shape[0] >= end)
        if offsets is not None:
            good &= offsets.shape[0] > end
            if good:
                first, last = offsets[start], offsets[end]
                good &= first >= 0
                for i in range(start, end):
                    good &= offsets[i] <= offsets[i + 1]
        good &= last <= data.shape[0] // self.nbytes
        if not good:
            raise ValueError(f"column {self.name!r} must have data, offsets and validity of rows {start} to {end}")
        if self.used // self.nbytes + last - first > MAX_STEPS:
            raise ValueError(f"column {self.name!r} would have more than 2**31 - 1 steps")
        return 0

    cdef tuple take(self):
        """The column's data as bytes, its offsets if it has any, its validity if a row is missing; and begin anew."""
        data = self.all_data.array(self.used, cnp.NPY_UINT8)
        offsets = self.all_offsets.array(self.rows + 1, cnp.NPY_INT32) if self.listed else None
        valid = self.all_valid.array(self.rows, cnp.NPY_UINT8) if self.missing else None
        self.used = self.rows = self.missing = 0
        self.taken = True
        return data, offsets, valid


cdef class Columns:
    """Columns in memory that records are appended to.

    Args:
        fields: a tuple (name, stored dtype or "string" or "bytes", inner shape, ragged, optional) for each column.
        limit: bytes at which the columns count as full; 0 for never.

    Attributes:
        rows: records since they began anew.
        nbytes: their bytes, offsets included.
        room: records for which there is room: one less with each, 0 once the columns are full. May be set.
        number: that of the next record. May be set.
    """

    cdef list columns
    cdef Py_ssize_t limit
    cdef readonly Py_ssize_t rows, nbytes
    cdef public int64_t room, number

    def __init__(self, list fields not None, Py_ssize_t limit=0):
        self.columns, self.limit = [Column(*field) for field in fields], limit
        self.room = 1 << 62

    def append(self, record):
        """Append a record whose values can be copied as they are, and return its number.

        If one cannot, nothing is appended: -1 minus its column's number is returned; minus the number of columns if the
        record is no dict or has other fields, and one less if there is no room. Strings are taken for "string", bytes
        for "bytes", Python's numbers for a single number that holds them, or NumPy's of its dtype, else C-contiguous
        arrays of the column's dtype and shape; None, or no value, where the column is optional.
        """
        cdef Py_ssize_t k, known = 0, nbytes = 0, count = len(self.columns)
        cdef Column column
        cdef PyObject* value
        if self.room <= 0:
            return -2 - count
        if not isinstance(record, dict):
            return -1 - count
        for k in range(count):
            column = <Column>self.columns[k]
            value = PyDict_GetItemWithError(record, column.name)
            known += value != NULL
            if not column.accept(None if value == NULL else <object>value):
                return -1 - k
        if known != len(<dict>record):
            return -1 - count
        for k in range(count):
            column = <Column>self.columns[k]
            column.append()
            nbytes += column.used + 4 * column.rows
        return self.count(1, nbytes)

    cdef int64_t count(self, Py_ssize_t rows, Py_ssize_t nbytes) noexcept:
        """Note that there are more rows, and return the number of the first."""
        self.rows += rows
        self.nbytes = nbytes
        self.room = 0 if 0 < self.limit <= nbytes else self.room - rows
        self.number += rows
        return self.number - rows

    def extend(self, list columns not None, Py_ssize_t start, Py_ssize_t end):
        """Append the rows from `start` to `end` of many, and return the number of the first.

        Args:
            columns: for each column the bytes of all rows; offsets in steps, int64, where rows differ in size, else
                None; and a byte a row that says whether it is there, or None.
            start: number of the first row.
            end: number after the last.

        Raises:
            ValueError: columns that are not so; nothing is appended.
        """
        cdef Py_ssize_t k, nbytes = 0
        cdef Column column
        if len(columns) != len(self.columns) or not 0 <= start <= end:
            raise ValueError(f"there must be {len(self.columns)} columns, of rows from 0; received {len(columns)}")
        for k in range(len(self.columns)):
            data, offsets, valid = columns[k]
            (<Column>self.columns[k]).check(start, end, data, offsets, valid)
        for k in range(len(self.columns)):
            column = <Column>self.columns[k]
            data, offsets, valid = columns[k]
            column.extend(start, end, data, offsets, valid)
            nbytes += column.used + 4 * column.rows
        return self.count(end - start, nbytes)

    def take(self):
        """For each column its data as bytes, int32 offsets or None, and a byte a row or None; and begin anew.

        The arrays stay as they are: their memory is used again only if they are gone when more is appended.
        """
        self.rows = self.nbytes = 0
        return [(<Column>column).take() for column in self.columns]
