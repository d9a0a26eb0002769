"""Random bits that are a function of numbers: the same on every backend, in whatever order they are asked for."""

from typing import Any

from keras import ops

_BITS = 2**32
# Multipliers and shifts of a bijection of 32 bits in which every bit of the input changes every bit of the output in
# almost exactly half of all cases ("lowbias32", C. Wellons, 2018, "Prospecting for Hash Functions").
_SHIFTS, _FACTORS = (16, 15, 16), (0x7FEB352D, 0x846CA68B)


def mixed(x: Any) -> Any:
    """Of int32 numbers others that look random, each bit of them.

    Signed numbers are what every backend multiplies modulo 2**32; shifted in ones are taken away.
    """
    for i, shift in enumerate(_SHIFTS):
        high = ops.bitwise_and(ops.right_shift(x, _int32(shift)), _int32(2 ** (32 - shift) - 1))
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
    positive = ops.bitwise_and(bits, _int32(2**31 - 1))
    return positive >= _int32(min(round(fraction * 2**31), 2**31 - 1))


def _int32(x: int) -> Any:
    return ops.convert_to_tensor(signed(x), dtype="int32")
