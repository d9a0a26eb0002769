"""The hashes of integers that Keras takes from TensorFlow, in `keras.ops`: compiled as all else is, on every backend.

A number is hashed as the text of its decimal digits. A word of 64 bits, which not every backend has, is the eight bytes
of it on a last axis, the lowest first.

References: Pike, "FarmHash" (2014), `Fingerprint64` of up to 32 bytes; Aumasson and Bernstein, "SipHash: a fast
short-input PRF" (2012), with two and four rounds.
"""

from typing import Any

import keras
from keras import ops

_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F
_INITIAL = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
#: Buckets that a hash can be divided into.
MOST_BUCKETS = 2**27


def buckets(values: Any, count: int, salt: Any = None) -> Any:
    """The bucket of each integer, int32: its `Fingerprint64`, or with a salt, a pair of integers, its `SipHash64`.

    Args:
        values: of any shape.
        count: buckets, at most `MOST_BUCKETS`.
        salt: or `None`.
    """
    text, length = digits(values)
    word = fingerprint(text, length) if salt is None else siphash(text, length, salt)
    rest = ops.zeros_like(length)
    for byte in range(7, -1, -1):
        for nibble in (ops.right_shift(word[..., byte], 4), ops.bitwise_and(word[..., byte], 15)):
            rest = ops.mod(16 * rest + nibble, count)
    return rest


def digits(values: Any) -> tuple[Any, Any]:
    """Integers of 32 or 64 bits as text: 16 or 24 bytes [..., N] with zeros behind them, and how many [...], int32."""
    size, most = (24, 19) if keras.backend.standardize_dtype(values.dtype) == "int64" else (16, 10)
    negative = ops.cast(values < 0, "int32")
    rest = ops.where(values < 0, values, -values)  # there is a negative number for every integer
    found, length = [], negative + 1
    for _ in range(most):
        digit = ops.mod(10 - ops.mod(rest, 10), 10)
        rest = (rest + digit) // 10  # `floor_divide` makes 32 bits of 64 on torch
        length = length + ops.cast(rest != 0, "int32")
        found.append(ops.cast(digit, "int32"))
    place = length[..., None] - 1 - ops.arange(size, dtype="int32")  # of the digit that stands there
    of_digits = ops.take_along_axis(ops.stack(found, axis=-1), ops.clip(place, 0, most - 1), axis=-1) + 48
    first = ops.arange(size, dtype="int32") < negative[..., None]
    return ops.where(first, 45, ops.where(place >= 0, of_digits, 0)), length


def fingerprint(text: Any, length: Any) -> Any:
    """FarmHash's fingerprint of a text of up to 24 bytes, a word."""
    n = length[..., None]

    def word(place, size=8):
        found = ops.take_along_axis(text, ops.maximum(place, 0) + ops.arange(size, dtype="int32"), axis=-1)
        return ops.concatenate([found, ops.zeros_like(text[..., : 8 - size])], axis=-1)

    def times(x):  # a constant, and twice the length
        return _carried(_product(x, _K2) + 2 * n * x)

    # By the length, of three kinds, two words that are mixed; and where it is below four, the hash itself.
    first, last = word(0 * n), word(n - 8)
    a = _sum(first, _K2)
    u = _sum(times(_right_turned(last, 37)), a)
    v = times(_sum(_right_turned(a, 25), last))
    u = ops.where(n >= 8, u, _carried(8 * word(0 * n, 4) + n * _bytes(1)))
    v = ops.where(n >= 8, v, word(n - 4, 4))
    if text.shape[-1] > 16:
        a, b = _carried(_product(first, _K1)), word(0 * n + 8)
        c, d = times(last), _carried(_product(word(n - 16), _K2))
        u = ops.where(n > 16, _sum(_right_turned(_sum(a, b), 43), _right_turned(c, 30), d), u)
        v = ops.where(n > 16, _sum(a, _right_turned(_sum(b, _K2), 18), c), v)
    a = times(ops.bitwise_xor(u, v))
    b = times(ops.bitwise_xor(v, ops.bitwise_xor(a, _right(a, 47))))
    of_many = times(ops.bitwise_xor(b, _right(b, 47)))
    y = _carried(text[..., :1] * _bytes(1) + ops.take_along_axis(text, n // 2, axis=-1) * _bytes(256))
    z = _carried((n + 4 * ops.take_along_axis(text, n - 1, axis=-1)) * _bytes(1))
    few = ops.bitwise_xor(_carried(_product(y, _K2)), _carried(_product(z, _K0)))
    return ops.where(n >= 4, of_many, _carried(_product(ops.bitwise_xor(few, _right(few, 47)), _K2)))


def siphash(text: Any, length: Any, salt: Any) -> Any:
    """SipHash of a text of bytes, a word, by a key of two integers."""
    n, like = length[..., None], ops.zeros_like(text[..., :8])
    keys = [int(part) % 2**64 for part in salt]
    state = [like + _bytes(word ^ keys[i % 2]) for i, word in enumerate(_INITIAL)]
    for i in range(text.shape[-1] // 8):  # of which the one that the text ends in has its length as well
        word = text[..., 8 * i : 8 * i + 8] + ops.where(n // 8 == i, n, 0) * _bytes(2**56)
        after = _sipped(state, word, 2)
        state = [ops.where(n // 8 >= i, new, old) for new, old in zip(after, state, strict=True)]
    state[2] = ops.bitwise_xor(state[2], _bytes(0xFF))
    a, b, c, d = _sipped(state, like, 4)
    return ops.bitwise_xor(ops.bitwise_xor(a, b), ops.bitwise_xor(c, d))


def _sipped(state, word, rounds):
    a, b, c, d = state
    d = ops.bitwise_xor(d, word)
    for _ in range(rounds):
        a, c = _sum(a, b), _sum(c, d)
        b, d = ops.bitwise_xor(_turned(b, 13), a), ops.bitwise_xor(_turned(d, 16), c)
        a, c = _sum(_turned(a, 32), d), _sum(c, b)
        b, d = ops.bitwise_xor(_turned(b, 17), c), ops.bitwise_xor(_turned(d, 21), a)
        c = _turned(c, 32)
    return ops.bitwise_xor(a, word), b, c, d


# Words: eight bytes, or what carries over from them.


def _bytes(number):
    return ops.convert_to_tensor(list(number.to_bytes(8, "little")), "int32")


def _carried(sums):
    """A word of sums of bytes, of which what is more than a byte goes to the next."""
    found, carry = [], 0
    for i in range(8):
        value = sums[..., i] + carry
        found.append(ops.bitwise_and(value, 255))
        carry = ops.right_shift(value, 8)
    return ops.stack(found, axis=-1)


def _sum(*words):
    return _carried(sum(_bytes(word) if isinstance(word, int) else word for word in words))


def _product(word, number):
    """A word times a number, as sums of bytes."""
    table = [_bytes(number << 8 * i & 2**64 - 1) for i in range(8)]  # of which byte `i` counts so many
    return ops.sum(word[..., :, None] * ops.stack(table), axis=-2)


def _right(word, bits):
    whole, rest = divmod(bits, 8)
    wide = ops.concatenate([word[..., whole:], ops.zeros_like(word[..., : whole + 1])], axis=-1)
    return _between(wide, rest)


def _right_turned(word, bits):
    """A word moved right, the bits that fall off coming in on the left."""
    whole, rest = divmod(bits, 8)
    return _between(ops.concatenate([word[..., whole:], word[..., : whole + 1]], axis=-1), rest)


def _turned(word, bits):
    """A word moved left, the bits that fall off coming in on the right."""
    return _right_turned(word, 64 - bits)


def _between(wide, rest):
    """Eight bytes of nine that are moved right by less than eight bits."""
    moved = ops.right_shift(wide[..., :8], rest) + ops.left_shift(wide[..., 1:], 8 - rest)
    return ops.bitwise_and(moved, 255)
