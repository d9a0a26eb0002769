"""Random orders that need no memory: any stretch of a permutation from its position alone."""

import numpy as np

from kseq import _ext


def permute(start, count, size, key):
    """Elements `start` to `start + count` of a random permutation of `range(size)`: int64 [count].

    The permutation is a Feistel network over the positions: a pure function of size and key, the same on every
    machine and with every version of NumPy.

    Args:
        start: first position.
        count: number of positions.
        size: number of elements.
        key: integers that choose the permutation, such as a seed and an epoch.

    Source: J. Black and P. Rogaway, Ciphers with arbitrary finite domains, 2002.

    Example:
        >>> sorted(permute(0, 5, 5, (0, 1)).tolist())
        [0, 1, 2, 3, 4]
    """
    out = np.empty(count, np.int64)
    _ext.permute(start, size, mix(*key), out)
    return out


def mix(*numbers) -> int:
    """A 64-bit number from integers, any two of which give others."""
    mixed = 0
    for number in numbers:
        number = int(number)
        while True:  # integers of any size, 64 bits at a time
            mixed = _ext.scramble((mixed + 0x9E3779B97F4A7C15 + (number & _MASK)) & _MASK)
            if -(1 << 63) <= number < 1 << 63:
                break
            number >>= 64
    return mixed


_MASK = (1 << 64) - 1
