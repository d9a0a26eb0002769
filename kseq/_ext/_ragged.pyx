"""Kernels of ragged rows: they copy bytes, so that one kernel serves every data type.

Each function reads what it was given into a plan of its own (address and length of every row), checks the plan, and
then copies without the GIL. A plan that does not fit is reported by the number of its first bad row, and nothing is
written. `reference.py` says in NumPy what each function does.
"""

cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcpy, memset

cnp.import_array()

cdef extern from "numpy/ndarraytypes.h":
    bint PyDataType_REFCHK(cnp.PyArray_Descr* dtype) nogil


cdef Py_ssize_t SHORT = 256  # bytes of a padded row up to which it is written at full size; found by measuring


cdef class Plan:
    """Where each row lies: memory that is freed with the object, whatever is raised."""

    def __cinit__(self, Py_ssize_t rows):
        self.spans = <Span*>PyMem_Malloc(max(rows, 1) * sizeof(Span))
        if self.spans == NULL:
            raise MemoryError()

    def __dealloc__(self):
        PyMem_Free(self.spans)


cdef class Filler:
    """The padding of rows of `target` steps: memory that is freed with the object, whatever is raised."""

    def __cinit__(self, const unsigned char[::1] fill, Py_ssize_t target, Py_ssize_t nbytes):
        cdef Py_ssize_t done = fill.shape[0], all_bytes = target * nbytes, i
        self.padding.pattern = NULL
        self.padding.byte = fill[0]
        self.padding.flags = <char*>PyMem_Malloc(3 * target + 1)
        if self.padding.flags == NULL:
            raise MemoryError()
        memset(self.padding.flags, 1, target)
        memset(self.padding.flags + target, 0, target)
        memset(self.padding.flags + 2 * target, 1, target)
        for i in range(done):
            if fill[i] != self.padding.byte:
                break
        else:
            return
        self.padding.pattern = <char*>PyMem_Malloc(max(all_bytes, done))
        if self.padding.pattern == NULL:
            raise MemoryError()
        memcpy(self.padding.pattern, &fill[0], done)
        while done < all_bytes:
            memcpy(self.padding.pattern + done, self.padding.pattern, min(done, all_bytes - done))
            done += min(done, all_bytes - done)

    def __dealloc__(self):
        PyMem_Free(self.padding.pattern)
        PyMem_Free(self.padding.flags)


cdef inline void blank(const Padding* padding, char* to, Py_ssize_t nbytes) noexcept nogil:
    if padding.pattern == NULL:
        memset(to, padding.byte, nbytes)
    else:
        memcpy(to, padding.pattern, nbytes)


cdef inline Py_ssize_t step_bytes(cnp.ndarray array, int axes) noexcept:
    """Bytes of one step of an array whose first `axes` axes are batch and time."""
    cdef Py_ssize_t nbytes = cnp.PyArray_ITEMSIZE(array)
    cdef int axis
    for axis in range(axes, cnp.PyArray_NDIM(array)):
        nbytes *= cnp.PyArray_DIM(array, axis)
    return nbytes


cdef inline bint plain(cnp.ndarray array) noexcept:
    """Whether the array's bytes can be copied as they lie."""
    return cnp.PyArray_IS_C_CONTIGUOUS(array) and not PyDataType_REFCHK(cnp.PyArray_DESCR(array))


cdef inline bint alike(cnp.ndarray row, cnp.ndarray first) noexcept:
    """Whether two rows agree in everything but their time."""
    cdef int axis
    if cnp.PyArray_NDIM(row) != cnp.PyArray_NDIM(first):
        return False
    if cnp.PyArray_DESCR(row) != cnp.PyArray_DESCR(first) and not cnp.PyArray_EquivArrTypes(row, first):
        return False
    for axis in range(1, cnp.PyArray_NDIM(row)):
        if cnp.PyArray_DIM(row, axis) != cnp.PyArray_DIM(first, axis):
            return False
    return plain(row)


cdef check_out(cnp.ndarray out, int axes):
    if cnp.PyArray_NDIM(out) < axes or not plain(out) or not cnp.PyArray_ISWRITEABLE(out):
        raise ValueError(
            f"out must be writeable and C-contiguous, of rank >= {axes}; "
            f"received {(<object>out).shape}, {(<object>out).dtype}"
        )


cdef check_pad(cnp.ndarray out, cnp.ndarray mask, Py_ssize_t rows, const unsigned char[::1] fill):
    check_out(out, 2)
    check_out(mask, 2)
    if (
        cnp.PyArray_NDIM(mask) != 2
        or cnp.PyArray_ITEMSIZE(mask) != 1
        or cnp.PyArray_DIM(out, 0) != rows
        or cnp.PyArray_DIM(mask, 0) != rows
        or cnp.PyArray_DIM(mask, 1) != cnp.PyArray_DIM(out, 1)
        or fill.shape[0] != cnp.PyArray_ITEMSIZE(out)
        or fill.shape[0] == 0
    ):
        raise ValueError(
            f"out {(<object>out).shape}, mask {(<object>mask).shape} and fill ({fill.shape[0]} bytes) "
            f"do not fit {rows} rows"
        )


cdef inline bint overlap(const char* a, Py_ssize_t a_bytes, const char* b, Py_ssize_t b_bytes) noexcept nogil:
    return a_bytes > 0 and b_bytes > 0 and a < b + b_bytes and b < a + a_bytes


cdef void write_rows(
    const Span* spans, Py_ssize_t rows, Py_ssize_t target, Py_ssize_t nbytes, char* out, unsigned char* mask,
    const Padding* padding, bint left, bint cut_left,
) noexcept nogil:
    """Write planned rows of `nbytes` a step."""
    cdef Py_ssize_t i, steps, copied, blanked, row_bytes, all_bytes = target * nbytes
    cdef bint short = all_bytes <= SHORT
    cdef const char* data
    for i in range(rows):
        data, steps = spans[i].data, spans[i].steps
        if steps > target:
            if cut_left:
                data += (steps - target) * nbytes
            steps = target
        copied = row_bytes = steps * nbytes
        blanked = all_bytes - row_bytes
        # A copy whose size varies from row to row costs a mispredicted branch, more than the bytes of a short row. So
        # short rows are copied and blanked at full size: the excess lands in the next row, which is written after.
        if short and i < rows - 1:
            blanked = all_bytes
            if spans[i].end != NULL and spans[i].end - data >= all_bytes:
                copied = all_bytes
        if left:
            blank(padding, out, blanked)
            memcpy(out + all_bytes - row_bytes, data, copied)
            memcpy(mask, padding.flags + target + steps, target)
        else:
            memcpy(out, data, copied)
            blank(padding, out + row_bytes, blanked)
            memcpy(mask, padding.flags + target - steps, target)
        out += all_bytes
        mask += target


def row_lengths(tuple rows not None, long long[::1] lengths not None):
    cdef Py_ssize_t i
    cdef cnp.ndarray row, first
    if lengths.shape[0] != len(rows):
        raise ValueError(f"lengths must have {len(rows)} elements; received {lengths.shape[0]}")
    first = None
    for i in range(len(rows)):
        if not cnp.PyArray_Check(rows[i]):
            return i
        row = <cnp.ndarray>rows[i]
        if first is None:
            if cnp.PyArray_NDIM(row) == 0:
                return i
            first = row
        if not alike(row, first):
            return i
        lengths[i] = cnp.PyArray_DIM(row, 0)
    return -1


def pad_rows(
    tuple rows not None, cnp.ndarray out not None, cnp.ndarray mask not None, const unsigned char[::1] fill not None,
    bint left, bint cut_left,
):
    cdef Py_ssize_t i, batch = len(rows), target, nbytes, out_bytes, mask_bytes
    cdef cnp.ndarray row, first = None
    cdef char* out_at
    cdef char* mask_at
    check_pad(out, mask, batch, fill)
    target, nbytes = cnp.PyArray_DIM(out, 1), step_bytes(out, 2)
    out_at, mask_at = cnp.PyArray_BYTES(out), cnp.PyArray_BYTES(mask)
    out_bytes, mask_bytes = cnp.PyArray_NBYTES(out), cnp.PyArray_NBYTES(mask)
    if overlap(out_at, out_bytes, mask_at, mask_bytes):
        raise ValueError("out and mask must not share memory")
    cdef Plan plan = Plan(batch)
    for i in range(batch):
        if not cnp.PyArray_Check(rows[i]):
            return i
        row = <cnp.ndarray>rows[i]
        if first is None:
            if cnp.PyArray_NDIM(row) + 1 != cnp.PyArray_NDIM(out) or step_bytes(row, 1) != nbytes:
                return i
            if not cnp.PyArray_EquivArrTypes(row, out):
                return i
            first = row
        if not alike(row, first):
            return i
        plan.spans[i].data = cnp.PyArray_BYTES(row)
        plan.spans[i].end = NULL
        plan.spans[i].steps = cnp.PyArray_DIM(row, 0)
        if overlap(plan.spans[i].data, cnp.PyArray_NBYTES(row), out_at, out_bytes):
            return i
        if overlap(plan.spans[i].data, cnp.PyArray_NBYTES(row), mask_at, mask_bytes):
            return i
    cdef Filler filler = Filler(fill, target if batch else 0, nbytes)
    with nogil:
        write_rows(
            plan.spans, batch, target, nbytes, out_at, <unsigned char*>mask_at, &filler.padding, left, cut_left
        )
    return -1


cdef Py_ssize_t plan_spans(
    Plan plan, const char* data, Py_ssize_t steps, Py_ssize_t nbytes,
    const long long[::1] starts, const long long[::1] lengths,
) noexcept nogil:
    """Plan rows that lie in flat storage of `steps` steps; the number of the first that is outside it, or -1."""
    cdef Py_ssize_t i
    cdef long long start, length
    for i in range(starts.shape[0]):
        start, length = starts[i], lengths[i]
        if start < 0 or length < 0 or start > steps or length > steps - start:
            return i
        plan.spans[i].data = data + start * nbytes
        plan.spans[i].end = data + steps * nbytes
        plan.spans[i].steps = length
    return -1


def pad_spans(
    cnp.ndarray values not None, const long long[::1] starts not None, const long long[::1] lengths not None,
    cnp.ndarray out not None, cnp.ndarray mask not None, const unsigned char[::1] fill not None, bint left,
    bint cut_left,
):
    cdef Py_ssize_t batch = starts.shape[0], target, nbytes, bad, out_bytes, mask_bytes
    cdef char* out_at
    cdef char* mask_at
    check_pad(out, mask, batch, fill)
    check_spans(values, starts, lengths)
    target, nbytes = cnp.PyArray_DIM(out, 1), step_bytes(out, 2)
    if step_bytes(values, 1) != nbytes:
        raise ValueError(f"a step of values has {step_bytes(values, 1)} bytes, a step of out {nbytes}")
    out_at, mask_at = cnp.PyArray_BYTES(out), cnp.PyArray_BYTES(mask)
    out_bytes, mask_bytes = cnp.PyArray_NBYTES(out), cnp.PyArray_NBYTES(mask)
    check_apart(cnp.PyArray_BYTES(values), cnp.PyArray_NBYTES(values), out_at, out_bytes)
    check_apart(cnp.PyArray_BYTES(values), cnp.PyArray_NBYTES(values), mask_at, mask_bytes)
    check_apart(out_at, out_bytes, mask_at, mask_bytes)
    cdef Plan plan = Plan(batch)
    cdef Filler filler = Filler(fill, target if batch else 0, nbytes)
    cdef const char* data = cnp.PyArray_BYTES(values)
    cdef Py_ssize_t steps = cnp.PyArray_DIM(values, 0)
    with nogil:
        bad = plan_spans(plan, data, steps, nbytes, starts, lengths)
        if bad < 0:
            write_rows(
                plan.spans, batch, target, nbytes, out_at, <unsigned char*>mask_at, &filler.padding, left, cut_left
            )
    return bad


cdef check_spans(cnp.ndarray values, const long long[::1] starts, const long long[::1] lengths):
    if cnp.PyArray_NDIM(values) < 1 or not plain(values):
        raise ValueError(
            f"values must be C-contiguous, of rank >= 1; received {(<object>values).shape}, {(<object>values).dtype}"
        )
    if lengths.shape[0] != starts.shape[0]:
        raise ValueError(f"starts and lengths must match; received {starts.shape[0]} and {lengths.shape[0]}")


cdef check_apart(const char* a, Py_ssize_t a_bytes, const char* b, Py_ssize_t b_bytes):
    if overlap(a, a_bytes, b, b_bytes):
        raise ValueError("out must not share memory with what is read")


def copy_spans(
    cnp.ndarray values not None, const long long[::1] starts not None, const long long[::1] lengths not None,
    cnp.ndarray out not None,
):
    cdef Py_ssize_t i, batch = starts.shape[0], nbytes, bad, total = 0, room
    check_out(out, 1)
    check_spans(values, starts, lengths)
    nbytes, room = step_bytes(out, 1), cnp.PyArray_DIM(out, 0)
    if step_bytes(values, 1) != nbytes:
        raise ValueError(f"a step of values has {step_bytes(values, 1)} bytes, a step of out {nbytes}")
    cdef const char* data = cnp.PyArray_BYTES(values)
    cdef char* out_at = cnp.PyArray_BYTES(out)
    check_apart(data, cnp.PyArray_NBYTES(values), out_at, cnp.PyArray_NBYTES(out))
    cdef Plan plan = Plan(batch)
    cdef Py_ssize_t steps = cnp.PyArray_DIM(values, 0)
    with nogil:
        bad = plan_spans(plan, data, steps, nbytes, starts, lengths)
        if bad < 0:
            for i in range(batch):
                if plan.spans[i].steps > room - total:
                    bad = i
                    break
                total += plan.spans[i].steps
        if bad < 0 and total == room:
            for i in range(batch):
                memcpy(out_at, plan.spans[i].data, plan.spans[i].steps * nbytes)
                out_at += plan.spans[i].steps * nbytes
    if bad < 0 and total != room:
        raise ValueError(f"out must have {total} steps; received {room}")
    return bad


def compact(cnp.ndarray values not None, const unsigned char[:, ::1] mask not None, cnp.ndarray out not None):
    cdef Py_ssize_t row, step, start, nbytes, left
    cdef Py_ssize_t batch = mask.shape[0], steps = mask.shape[1]
    check_out(out, 1)
    if (
        cnp.PyArray_NDIM(values) < 2
        or not plain(values)
        or cnp.PyArray_DIM(values, 0) != batch
        or cnp.PyArray_DIM(values, 1) != steps
    ):
        raise ValueError(
            f"values must be C-contiguous and start with ({batch}, {steps}); received {(<object>values).shape}"
        )
    nbytes, left = step_bytes(values, 2), cnp.PyArray_DIM(out, 0)
    if step_bytes(out, 1) != nbytes:
        raise ValueError(f"a step of values has {nbytes} bytes, a step of out {step_bytes(out, 1)}")
    cdef const char* data = cnp.PyArray_BYTES(values)
    cdef char* out_at = cnp.PyArray_BYTES(out)
    check_apart(data, cnp.PyArray_NBYTES(values), out_at, cnp.PyArray_NBYTES(out))
    with nogil:
        for row in range(batch):
            step = 0
            while step < steps and left > 0:
                if not mask[row, step]:
                    step += 1
                    continue
                start = step
                while step < steps and mask[row, step]:
                    step += 1
                step = start + min(step - start, left)  # never past the end of out, even if the mask has changed
                memcpy(out_at, data + start * nbytes, (step - start) * nbytes)
                out_at += (step - start) * nbytes
                left -= step - start
            data += steps * nbytes
    if left:
        raise ValueError(f"out has {left} more steps than the mask has valid ones")
