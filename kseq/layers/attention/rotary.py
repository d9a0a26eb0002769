"""Rotary positions (RoPE), half-split."""

import math
from typing import Any

from keras import ops

_BITS = 32


def rotate(x: Any, positions: Any, wavelength: float) -> Any:
    """Rotate the pairs (i, i + D/2) of the last axis of x [B, T, ..., D] by angles that grow with positions [B, T].

    Pair `i` turns once every `2 pi * wavelength ** (2 i / D)` positions. Positions are int32, and so are angles, in
    parts of a turn: their product wraps around where whole turns are complete. So two rotations differ by exactly what
    the difference of their positions says, however large these are, and also where positions themselves wrap around.
    Frequencies are whole numbers of those parts, which changes the angle between two steps by at most 1e-9 for each
    step between them.

    Source: Su et al., 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
    """
    half = x.shape[-1] // 2
    # A list, not an array: array constants do not survive the torch exporters.
    frequencies = [_as_int32(wavelength ** (-i / half) / math.tau) for i in range(half)]
    parts = ops.cast(positions, "int32")[..., None] * ops.convert_to_tensor(
        frequencies, dtype="int32"
    )  # of a turn, from -1/2 to 1/2
    angles = ops.cast(parts, "float64" if x.dtype == "float64" else "float32") * (math.tau / 2**_BITS)
    for _ in range(len(x.shape) - 3):
        angles = ops.expand_dims(angles, 2)
    cos, sin = ops.cast(ops.cos(angles), x.dtype), ops.cast(ops.sin(angles), x.dtype)
    first, second = x[..., :half], x[..., half:]
    return ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _as_int32(turns: float) -> int:
    """A part of a turn, with whole turns left out, as the int32 that it is 2 ** -32 of."""
    parts = round(turns * 2**_BITS) % 2**_BITS
    return parts - 2**_BITS if parts >= 2 ** (_BITS - 1) else parts
