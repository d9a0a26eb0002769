"""Kernels of masks and lengths, all of them linear in time whatever the window.

A window's taps lie `gap` steps apart. One pass over a row notes for every step the last unwanted step at or before it
that lies a multiple of `gap` away; a window then holds only wanted steps if that note at its last tap lies before its
first tap. `reference.py` says the same in NumPy.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.string cimport memset

cdef Py_ssize_t NEVER = -(1 << 62)  # before the first tap of any window


cdef class Steps:
    """A scratch array of time steps: memory that is freed with the object, whatever is raised."""

    cdef Py_ssize_t* at

    def __cinit__(self, Py_ssize_t count):
        self.at = NULL
        if count < PY_SSIZE_T_MAX // <Py_ssize_t>sizeof(Py_ssize_t):
            self.at = <Py_ssize_t*>PyMem_Malloc(max(count, 1) * sizeof(Py_ssize_t))
        if self.at == NULL:
            raise MemoryError()

    def __dealloc__(self):
        PyMem_Free(self.at)


cdef void note_unwanted(
    const unsigned char[::1] mask, bint wanted, Py_ssize_t gap, Py_ssize_t* unwanted
) noexcept nogil:
    """For every step the last one at or before it, a multiple of `gap` away, that is not `wanted`."""
    cdef Py_ssize_t step
    for step in range(mask.shape[0]):
        if (mask[step] != 0) != wanted:
            unwanted[step] = step
        elif step >= gap:
            unwanted[step] = unwanted[step - gap]
        else:
            unwanted[step] = NEVER


cdef inline bint all_wanted(
    const Py_ssize_t* unwanted, Py_ssize_t steps, Py_ssize_t first, Py_ssize_t last, Py_ssize_t gap
) noexcept nogil:
    """Whether the taps `first`, `first + gap`, ..., `last` that lie inside the row are all wanted."""
    if first >= steps:
        return True
    if last >= steps:
        last = first + (steps - 1 - first) // gap * gap
    return last < 0 or unwanted[last] < first


def lengths_to_mask(const long long[::1] lengths not None, unsigned char[:, ::1] out not None):
    cdef Py_ssize_t row, steps = out.shape[1]
    cdef long long length
    if out.shape[0] != lengths.shape[0]:
        raise ValueError(f"out must have {lengths.shape[0]} rows; received {out.shape[0]}")
    if out.shape[0] == 0 or steps == 0:
        return
    with nogil:
        for row in range(out.shape[0]):
            length = min(max(lengths[row], 0), steps)
            memset(&out[row, 0], 1, length)
            memset(&out[row, 0] + length, 0, steps - length)


def mask_to_lengths(const unsigned char[:, ::1] mask not None, long long[::1] out not None):
    cdef Py_ssize_t row, step
    cdef long long count
    if out.shape[0] != mask.shape[0]:
        raise ValueError(f"out must have {mask.shape[0]} elements; received {out.shape[0]}")
    with nogil:
        for row in range(mask.shape[0]):
            count = 0
            for step in range(mask.shape[1]):
                count += mask[row, step] != 0
            out[row] = count


def window(
    const unsigned char[:, ::1] mask not None, unsigned char[:, ::1] out not None, Py_ssize_t left,
    Py_ssize_t kernel_size, Py_ssize_t strides, Py_ssize_t dilation_rate, bint any_valid, bint before, bint after,
):
    cdef Py_ssize_t row, step, first, last, steps = mask.shape[1], reach = (kernel_size - 1) * dilation_rate
    cdef bint wanted = not any_valid, good
    check(mask, out, kernel_size, strides, dilation_rate)
    cdef Steps unwanted = Steps(steps)
    with nogil:
        for row in range(mask.shape[0]):
            note_unwanted(mask[row], wanted, dilation_rate, unwanted.at)
            for step in range(out.shape[1]):
                first = step * strides - left
                last = first + reach
                good = all_wanted(unwanted.at, steps, first, last, dilation_rate)
                if any_valid:
                    out[row, step] = not good
                else:
                    out[row, step] = good and (before or first >= 0) and (after or last < steps)


def transposed_window(
    const unsigned char[:, ::1] mask not None, unsigned char[:, ::1] out not None, Py_ssize_t left,
    Py_ssize_t kernel_size, Py_ssize_t strides, Py_ssize_t dilation_rate,
):
    cdef Py_ssize_t row, step, phase, tap, first, steps = mask.shape[1]
    check(mask, out, kernel_size, strides, dilation_rate)
    # Output n meets input (n - left + tap * dilation_rate) / strides at the taps for which that is whole: the first
    # such tap depends on n modulo strides, and every `period`th tap after it is another, `gap` inputs on.
    cdef Py_ssize_t common = gcd(strides, dilation_rate)
    cdef Py_ssize_t period = strides // common, gap = dilation_rate // common
    cdef Steps first_tap = Steps(strides), unwanted = Steps(steps)
    with nogil:
        for phase in range(strides):
            first_tap.at[phase] = kernel_size
        phase = 0
        for tap in range(min(period, kernel_size)):
            first_tap.at[phase] = tap
            phase = (phase + dilation_rate % strides) % strides
        for row in range(mask.shape[0]):
            note_unwanted(mask[row], True, gap, unwanted.at)
            for step in range(out.shape[1]):
                phase = (left - step) % strides
                if phase < 0:
                    phase += strides
                tap = first_tap.at[phase]
                if tap >= kernel_size:
                    out[row, step] = True
                    continue
                first = (step - left + tap * dilation_rate) // strides
                out[row, step] = all_wanted(
                    unwanted.at, steps, first, first + (kernel_size - 1 - tap) // period * gap, gap
                )


cdef Py_ssize_t gcd(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    while b:
        a, b = b, a % b
    return a


cdef check(
    const unsigned char[:, ::1] mask, unsigned char[:, ::1] out, Py_ssize_t kernel_size, Py_ssize_t strides,
    Py_ssize_t dilation_rate,
):
    if out.shape[0] != mask.shape[0]:
        raise ValueError(f"out must have {mask.shape[0]} rows; received {out.shape[0]}")
    if min(kernel_size, strides, dilation_rate) < 1:
        raise ValueError(
            "kernel_size, strides and dilation_rate must be at least 1; "
            f"received {kernel_size}, {strides} and {dilation_rate}"
        )
