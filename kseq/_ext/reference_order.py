"""What the kernels of order do, in NumPy."""

import math

import numpy as np

_MASK = (1 << 64) - 1
_ROUNDS = 4


def scramble(number):
    """A 64-bit number for a 64-bit number, one to one: the finaliser of splitmix64."""
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


def permute(start, size, key, out):
    """Write elements `start`, `start + 1`, ... of a permutation of `range(size)` to `out`.

    Positions are pairs of two digits to the base ceil(sqrt(size)); each of four rounds adds a random function of one
    digit to the other. A position that leaves the range is sent on until it is inside.
    """
    if not 0 <= size <= 1 << 62 or not 0 <= start <= size - len(out):
        raise ValueError(f"positions {start} to {start + len(out)} must lie in {size} elements")
    side = math.isqrt(max(size - 1, 0)) + 1 if size else 0
    keys = []
    for _ in range(_ROUNDS):
        key = scramble((key + 0x9E3779B97F4A7C15) & _MASK)
        keys.append(np.uint64(key))
    moved = np.arange(start, start + len(out), dtype=np.uint64)
    todo = np.arange(len(out))
    while len(todo):
        left, right = np.divmod(moved, np.uint64(side))
        for key in keys:
            added = left + (((_mixed(right + key) >> np.uint64(32)) * np.uint64(side)) >> np.uint64(32))
            left, right = right, np.where(added >= side, added - np.uint64(side), added)
        moved = left * np.uint64(side) + right
        inside = moved < size
        out[todo[inside]] = moved[inside]
        todo, moved = todo[~inside], moved[~inside]


def _mixed(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def order_by_length(lengths, out):
    """Write to `out` the order of lengths from 0 to 2**20, ascending, equal ones as they come; returns if it could."""
    if len(out) != len(lengths):
        raise ValueError(f"out must have {len(lengths)} elements; received {len(out)}")
    if lengths.min(initial=0) < 0 or lengths.max(initial=0) > 1 << 20:
        return False
    out[:] = np.argsort(lengths, kind="stable")
    return True


def pack(lengths, size, bins, out):
    """Write to `out` the row that each length goes to: the first of `bins` open rows of `size` steps with room for it.

    Where none has room the fullest row is closed and a new one opened. Returns the number of rows, or the first
    length that is negative or above `size` as -1 - its number.
    """
    if len(out) != len(lengths) or bins < 1:
        raise ValueError(f"out must have {len(lengths)} elements and bins be at least 1")
    bins = min(bins, max(len(lengths), 1))  # no more are ever open
    room, row, opened = [-1] * bins, [0] * bins, 0
    for i, length in enumerate(lengths.tolist()):
        if not 0 <= length <= size:
            return -1 - i
        place = next((b for b in range(bins) if room[b] >= length), None)
        if place is None:
            place = room.index(min(room))
            room[place], row[place] = size, opened
            opened += 1
        room[place] -= length
        out[i] = row[place]
    return opened
