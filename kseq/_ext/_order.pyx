"""Kernels of order: a permutation by position, and records packed into rows.

`reference_order.py` says in NumPy what each does.
"""

cimport cython
from libc.math cimport sqrt
from libc.stdint cimport int32_t, int64_t, uint64_t

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc

cdef enum:
    ROUNDS = 4
    MOST = 0x100000  # in digits: Cython cannot compute an enum under overflow checks


@cython.overflowcheck(False)  # it is meant to wrap, in checked builds too
cdef inline uint64_t mixed(uint64_t x) noexcept nogil:
    """The finaliser of splitmix64."""
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


def scramble(uint64_t number):
    """A 64-bit number for a 64-bit number, one to one."""
    return mixed(number)


@cython.overflowcheck(False)
def permute(int64_t start, int64_t size, uint64_t key, int64_t[::1] out not None):
    """Write elements `start`, `start + 1`, ... of a permutation of `range(size)` to `out`."""
    cdef Py_ssize_t i
    cdef int r
    cdef uint64_t side, left, right, moved, high = 0, low = 0, n = size
    cdef uint64_t[ROUNDS] keys
    if not 0 <= size <= 1 << 62 or not 0 <= start <= size - out.shape[0]:
        raise ValueError(f"positions {start} to {start + out.shape[0]} must lie in {size} elements")
    with nogil:
        # Positions are pairs (left, right) of two digits to the base `side`; a round adds a random function of one
        # digit to the other. Positions at or past `size`, of which there are few, are sent on until they are inside.
        side = <uint64_t>sqrt(<double>n)
        while side * side < n:
            side += 1
        while side and (side - 1) * (side - 1) >= n:
            side -= 1
        for r in range(ROUNDS):
            key = mixed(key + <uint64_t>0x9E3779B97F4A7C15)
            keys[r] = key
        if out.shape[0]:
            high, low = <uint64_t>start // side, <uint64_t>start % side
        for i in range(out.shape[0]):
            left, right = high, low
            low += 1
            if low == side:
                high, low = high + 1, 0
            while True:
                for r in range(ROUNDS):
                    moved = left + (((mixed(right + keys[r]) >> 32) * side) >> 32)
                    left = right
                    right = moved - (side & (0 - <uint64_t>(moved >= side)))  # a branch would be mispredicted
                moved = left * side + right
                if moved < n:
                    break
            out[i] = moved


def order_by_length(const int64_t[::1] lengths not None, int64_t[::1] out not None):
    """Write to `out` the order of lengths from 0 to 2**20, ascending, equal ones as they come; returns if it could."""
    cdef Py_ssize_t i, n = lengths.shape[0]
    cdef int64_t longest = 0, before = 0, count
    cdef int64_t* place
    cdef bint good = True
    if out.shape[0] != n:
        raise ValueError(f"out must have {n} elements; received {out.shape[0]}")
    for i in range(n):
        good &= lengths[i] >= 0
        longest = max(longest, lengths[i])
    if not good or longest > MOST:
        return False
    place = <int64_t*>PyMem_Calloc(longest + 1, sizeof(int64_t))
    if place == NULL:
        raise MemoryError()
    with nogil:
        for i in range(n):
            if 0 <= lengths[i] <= longest:  # whatever another thread writes meanwhile
                place[lengths[i]] += 1
        for i in range(longest + 1):
            count = place[i]
            place[i] = before
            before += count
        for i in range(n):
            if 0 <= lengths[i] <= longest and place[lengths[i]] < n:
                out[place[lengths[i]]] = i
                place[lengths[i]] += 1
    PyMem_Free(place)
    return True


def pack(const int64_t[::1] lengths not None, int64_t size, Py_ssize_t bins, int64_t[::1] out not None):
    """Write to `out` the row that each length goes to: the first of `bins` open rows of `size` steps with room for it.

    Where none has room the fullest row is closed and a new one opened. Returns the number of rows, or the first
    length that is negative or above `size` as -1 - its number.
    """
    cdef Py_ssize_t i, b, fullest, opened = 0
    cdef int64_t* room
    cdef int64_t* row
    if out.shape[0] != lengths.shape[0] or bins < 1:
        raise ValueError(f"out must have {lengths.shape[0]} elements and bins be at least 1")
    bins = min(bins, max(lengths.shape[0], 1))  # no more are ever open
    room = <int64_t*>PyMem_Malloc(bins * sizeof(int64_t))
    row = <int64_t*>PyMem_Malloc(bins * sizeof(int64_t))
    if room == NULL or row == NULL:
        PyMem_Free(room)
        PyMem_Free(row)
        raise MemoryError()
    with nogil:
        for b in range(bins):
            room[b] = -1
        for i in range(lengths.shape[0]):
            if not 0 <= lengths[i] <= size:
                opened = -1 - i
                break
            fullest = 0
            for b in range(bins):
                if room[b] >= lengths[i]:
                    break
                if room[b] < room[fullest]:
                    fullest = b
            else:
                b = fullest
                room[b], row[b] = size, opened
                opened += 1
            room[b] -= lengths[i]
            out[i] = row[b]
    PyMem_Free(room)
    PyMem_Free(row)
    return opened
