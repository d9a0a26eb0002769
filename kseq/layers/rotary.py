"""Angles that grow with the position, exact however large it is, and rotary positions (RoPE), half-split."""

import math
from typing import Any

import keras
from keras import ops

_BITS = 32


def angles(positions: Any, frequencies: list[float], dtype: Any = "float32", absolute: bool = False) -> Any:
    """Angles [B, T, F] of positions [B, T] that turn by each of `frequencies`, in turns a step.

    Positions are int32, and so are angles, in parts of a turn: their product wraps around where whole turns are
    complete. So two angles differ by exactly what the difference of their positions says, however large these are, and
    also where positions themselves wrap around. Frequencies are whole numbers of those parts, which changes the angle
    between two steps by at most 1e-9 for each step between them.

    Args:
        positions: of any integer dtype.
        frequencies: turns a step.
        dtype: of the angles, float32 at least.
        absolute: whether what frequencies lose in this way is added, so that angles are right by themselves too, at
            positions from 0 on. Where positions wrap around they are still continuous.
    """
    rounded = [_as_int32(turns) for turns in frequencies]
    positions = ops.cast(positions, "int32")
    # Lists, not arrays: array constants do not survive the torch exporters.
    parts = positions[..., None] * ops.convert_to_tensor(rounded, dtype="int32")  # of a turn, from -1/2 to 1/2
    found = ops.cast(parts, dtype) * (math.tau / 2**_BITS)
    if absolute:
        lost = [math.remainder(f - n / 2**_BITS, 1) * math.tau for f, n in zip(frequencies, rounded, strict=True)]
        # The distance from zero, which goes back as it came where positions wrap around, and does not jump.
        found = found + ops.abs(ops.cast(positions, dtype))[..., None] * ops.convert_to_tensor(lost, dtype=dtype)
    return found


def speeds(size: int, wavelength: float) -> list[float]:
    """Radians a step of each pair of `size` channels: `wavelength ** (-2 i / size)`."""
    half = size // 2
    return [wavelength ** (-i / half) for i in range(half)]


def rotate(x: Any, positions: Any, wavelength: float, exact: bool = True) -> Any:
    """Rotate the pairs (i, i + D/2) of the last axis of x [B, T, ..., D] by angles that grow with positions [B, T].

    Pair `i` turns once every `2 pi * wavelength ** (2 i / D)` positions.

    Args:
        x: values.
        positions: of each step, of all rows or of one for all.
        wavelength: of the slowest pair, were there one more.
        exact: whether angles are, or are products of positions and frequencies in the dtype of x.

    Source: Su et al., 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
    """
    turning = speeds(x.shape[-1], wavelength)
    if exact:
        return rotate_at(x, positions, turning)
    return _rotate_by(x, ops.cast(positions, x.dtype)[..., None] * ops.convert_to_tensor(turning, dtype=x.dtype))


def rotate_at(x: Any, positions: Any, turning: list[float], scale: float = 1.0) -> Any:
    """What `rotate` gives, exact, at other speeds: radians a step of each pair, and a factor on what is rotated."""
    wide = keras.backend.standardize_dtype(x.dtype) == "float64"
    turned = angles(positions, [speed / math.tau for speed in turning], "float64" if wide else "float32")
    return _rotate_by(x, turned, scale)


def _rotate_by(x, turned, scale=1.0):
    """Pairs of x [B, T, ..., D] rotated by angles [B, T, D/2]."""
    for _ in range(len(x.shape) - 3):
        turned = ops.expand_dims(turned, 2)
    cos, sin = ops.cos(turned), ops.sin(turned)
    if scale != 1.0:
        cos, sin = scale * cos, scale * sin
    cos, sin = ops.cast(cos, x.dtype), ops.cast(sin, x.dtype)
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _as_int32(turns: float) -> int:
    """A part of a turn, with whole turns left out, as the int32 that it is 2 ** -32 of."""
    parts = round(turns * 2**_BITS) % 2**_BITS
    return parts - 2**_BITS if parts >= 2 ** (_BITS - 1) else parts
