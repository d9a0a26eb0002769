"""Random orders that need no memory: any stretch of a permutation from its position alone."""

from collections.abc import Iterable
from typing import SupportsInt

import numpy as np
from numpy.typing import NDArray

from kseq import _ext


def permute(start: int, count: int, size: int, key: Iterable[int]) -> NDArray[np.int64]:
    """Elements `start` to `start + count` of a random permutation of `range(size)`: int64 [count].

    The permutation is a Feistel network over the positions: a pure function of size and key, the same on every
    machine and with every version of NumPy. Of few elements a network makes some orders far more often than others:
    these are sorted by random numbers instead.

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
    if size <= _FEW:
        if not 0 <= start <= start + count <= size:
            raise ValueError(f"positions {start} to {start + count} must lie in {size} elements")
        return np.argsort(_random(mix(*key), size), kind="stable")[start : start + count]
    out = np.empty(count, np.int64)
    _ext.permute(start, size, mix(*key), out)
    return out


def _random(key: int, count: int) -> NDArray[np.uint64]:
    """Random 64-bit numbers: splitmix64, begun at a key."""
    x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_STEP) + np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def mix(*numbers: SupportsInt) -> int:
    """A 64-bit number from integers, any two of which give others."""
    mixed = 0
    for number in numbers:
        number = int(number)
        while True:  # integers of any size, 64 bits at a time
            mixed = _ext.scramble((mixed + _STEP + (number & _MASK)) & _MASK)
            if -(1 << 63) <= number < 1 << 63:
                break
            number >>= 64
    return mixed


_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_FEW = 512  # from half of it on neighbours are where chance would put them, as far as 200,000 orders tell
