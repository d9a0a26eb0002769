"""Rotary positions (RoPE), half-split."""

from keras import ops


def rotate(x, positions, wavelength: float):
    """Rotate the pairs (i, i + D/2) of the last axis of x [B, T, ..., D] by angles that grow with positions [B, T].

    Pair `i` turns once every `2 pi * wavelength ** (2 i / D)` positions. Angles are computed in float32 at least.

    Source: Su et al., 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".
    """
    half = x.shape[-1] // 2
    # A tuple, not an array: array constants do not survive the torch exporters.
    frequencies = tuple(wavelength ** (-i / half) for i in range(half))
    dtype = "float64" if x.dtype == "float64" else "float32"
    angles = ops.cast(positions, dtype)[..., None] * ops.convert_to_tensor(list(frequencies), dtype=dtype)
    for _ in range(len(x.shape) - 3):
        angles = ops.expand_dims(angles, 2)
    cos, sin = ops.cast(ops.cos(angles), x.dtype), ops.cast(ops.sin(angles), x.dtype)
    first, second = x[..., :half], x[..., half:]
    return ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
