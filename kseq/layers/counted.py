"""Random bits that are a function of numbers: the same on every backend, in whatever order they are asked for."""

import math
from typing import Any

import keras
from keras import ops

from ..hints import is_exporting

_BITS = 2**32
# Multipliers and shifts of a bijection of 32 bits in which every bit of the input changes every bit of the output in
# almost exactly half of all cases ("lowbias32", C. Wellons, 2018, "Prospecting for Hash Functions").
_SHIFTS, _FACTORS = (16, 15, 16), (0x7FEB352D, 0x846CA68B)


def mixed(x: Any) -> Any:
    """Of int32 numbers others that look random, each bit of them.

    Signed numbers are what every backend multiplies modulo 2**32; shifted in ones are taken away.
    """
    for i, shift in enumerate(_SHIFTS):
        high = _low_bits(ops.right_shift(x, _int32(shift)), 32 - shift)
        x = ops.bitwise_xor(x, high)
        if i < len(_FACTORS):
            x = ops.multiply(x, _int32(_FACTORS[i]))
    return x


def mixed_number(x: int) -> int:
    """`mixed` of a number of any size of Python's, as a number from -2**31 to below 2**31."""
    x %= _BITS
    for i, shift in enumerate(_SHIFTS):
        x ^= x >> shift
        if i < len(_FACTORS):
            x = x * _FACTORS[i] % _BITS
    return signed(x)


def signed(x: int) -> int:
    """A number modulo 2**32 in the range of int32."""
    return (x + _BITS // 2) % _BITS - _BITS // 2


def at_least(bits: Any, fraction: float) -> Any:
    """Whether int32 numbers, taken as fractions of all that there are, are at least a fraction from 0 to 1."""
    if fraction >= 1:
        return ops.zeros_like(bits, dtype="bool")
    positive = _low_bits(bits, 31)
    return positive >= _int32(min(round(fraction * 2**31), 2**31 - 1))


def uniform(bits: Any) -> Any:
    """Of int32 numbers floats from 0 to below 1, in float32."""
    fractions = _low_bits(ops.right_shift(bits, _int32(7)), 24)  # as many bits as a float has
    return ops.cast(fractions, "float32") / 2**24


def normal(bits: Any, others: Any) -> Any:
    """Of int32 numbers, twice as many, normal ones of mean 0 and standard deviation 1, in float32.

    Source: Box and Muller, 1958, "A Note on the Generation of Random Normal Deviates".
    """
    return ops.sqrt(-2 * ops.log(1 - uniform(bits))) * ops.cos(math.tau * uniform(others))


def row_keys(key: int, seeds: Any, name: str) -> Any:
    """Of the seeds of rows, whole numbers [B, n], a key for each, int32 [B].

    Args:
        key: of all of them.
        seeds: an array, or a sequence of it.
        name: what errors call them.

    Raises:
        TypeError: no whole numbers, or another rank.
    """
    seeds = ops.convert_to_tensor(getattr(seeds, "values", seeds))
    dtype = keras.backend.standardize_dtype(seeds.dtype)
    if "int" not in dtype or len(seeds.shape) != 2:
        raise TypeError(
            f"the seeds of rows, {name!r}, must be whole numbers [B, n]; received shape {tuple(seeds.shape)} and dtype "
            f"{dtype}"
        )
    keys: Any = key
    for i in range(seeds.shape[1]):
        keys = mixed(keys + ops.cast(seeds[:, i], "int32"))
    return keys


def _low_bits(x: Any, count: int) -> Any:
    """The last bits of int32 numbers."""
    if not is_exporting():
        return ops.bitwise_and(x, _int32(2**count - 1))
    if count == 31:  # whose next power of two is no int32; LiteRT has no `and` of integers
        return ops.where(x < 0, x - _int32(2**31), x)
    return ops.mod(x, _int32(2**count))


def _int32(x: int) -> Any:
    return ops.convert_to_tensor(signed(x), dtype="int32")
