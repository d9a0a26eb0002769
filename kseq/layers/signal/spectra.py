"""Fourier transforms of real frames on the last axis, and what is given of a spectrum."""

from typing import Any, Literal

import numpy as np
from keras import ops
from numpy.typing import NDArray

from ...arguments import as_size, check_table
from ...hints import is_exporting
from ..complex_values import complex_dtype, joined, real_dtype

FFTPadding = Literal["right", "center"]
SpectrumMode = Literal["complex", "magnitude", "power", "real_imag"]

FFT_PADDINGS: tuple[FFTPadding, ...] = ("right", "center")
MODES: tuple[SpectrumMode, ...] = ("complex", "magnitude", "power", "real_imag")


def as_optional_size(name: str, value: Any) -> int | None:
    """An argument that is `None` or an integer of at least 1, and no larger than a transform can be."""
    if value is None:
        return None
    check_table(f"transform by `{name}`", size := as_size(name, value))
    return size


def bins_of(fft_length: int) -> int:
    """Frequencies of a real transform."""
    return fft_length // 2 + 1


def margins(size: int, wanted: int, padding: str) -> tuple[int, int]:
    """What is added before and after an axis of `size` to make it `wanted` long; below zero it is cut off."""
    missing = wanted - size
    before = (abs(missing) // 2) * (1 if missing > 0 else -1) if padding == "center" else 0
    return before, missing - before


def fitted(x: Any, wanted: int, padding: str) -> Any:
    """The last axis padded with zeros, or cut, to a length."""
    size = x.shape[-1]
    before, after = margins(size, wanted, padding)
    if wanted < size:
        return x[..., -before : size + after]
    return ops.pad(x, [*[(0, 0)] * (len(x.shape) - 1), (before, after)]) if wanted > size else x


def used(size: int, fft_length: int, padding: str) -> NDArray[np.bool_]:
    """Which of `size` samples are not cut off, bool [size]."""
    before, after = (min(n, 0) for n in margins(size, fft_length, padding))
    return (np.arange(size) >= -before) & (np.arange(size) < size + after)


def dft_matrix(weights: NDArray[np.float64], fft_length: int, padding: str) -> NDArray[np.float64]:
    """The real transform of samples under weights [size] as a matrix [size, 2 * bins]: real parts, then imaginary."""
    size, bins = len(weights), bins_of(fft_length)
    check_table("matrix of the transform", size, 2 * bins, most=2**27)
    place = np.arange(size) + margins(size, fft_length, padding)[0]
    # The angle of whole turns less is the same, and far more exact.
    turns = (place[:, None] * np.arange(bins) % fft_length) / fft_length
    kept = (weights * used(size, fft_length, padding))[:, None]
    return np.concatenate([kept * np.cos(2 * np.pi * turns), -kept * np.sin(2 * np.pi * turns)], axis=1)


def product(x: Any, matrix: NDArray[np.float64]) -> Any:
    """The last axis times a matrix, in the dtype of `x`; Keras's `matmul` would round float64 to float32 on torch."""
    return ops.einsum("...i,ij->...j", x, ops.convert_to_tensor(matrix, dtype=x.dtype))


def by_matrix(x: Any, matrix: NDArray[np.float64]) -> tuple[Any, Any]:
    """Real and imaginary part of the transform of the last axis by a `dft_matrix`."""
    y = product(x, matrix)
    bins = matrix.shape[1] // 2
    return y[..., :bins], y[..., bins:]


def transformed(x: Any, length: int) -> tuple[Any, Any]:
    """Real and imaginary part of the transform of the last axis, of a length, by whatever runs there."""
    if is_exporting():  # few runtimes have a transform, of few lengths
        return by_matrix(x, dft_matrix(np.ones(length), length, "right"))
    return ops.rfft(x, length)


def inverse(real: Any, imaginary: Any, length: int) -> Any:
    """The signal of a length of which these are the real and imaginary part of the transform."""
    if is_exporting():
        return product(ops.concatenate([real, imaginary], axis=-1), _inverse_matrix(length))
    return ops.irfft((real, imaginary), length)


def _inverse_matrix(length):
    """The inverse of the real transform as a matrix [2 * bins, length]: of real parts, then of imaginary ones."""
    bins = bins_of(length)
    check_table("matrix of the transform", 2 * bins, length, most=2**27)
    turns = (np.arange(bins)[:, None] * np.arange(length) % length) / length
    # All but the first and, of an even length, the last stand for their conjugates too.
    times = np.where((np.arange(bins) == 0) | (2 * np.arange(bins) == length), 1, 2)[:, None] / length
    return np.concatenate([times * np.cos(2 * np.pi * turns), -times * np.sin(2 * np.pi * turns)])


def given(real: Any, imaginary: Any, mode: str, dtype: str) -> Any:
    """A spectrum as one of `MODES`, in a dtype."""
    if mode == "complex":
        return joined(real, imaginary)
    if mode == "real_imag":
        y = ops.stack([real, imaginary], axis=-1)
    else:
        y = ops.square(real) + ops.square(imaginary)
        if mode == "magnitude":
            y = _root(y)
    return ops.cast(y, dtype)


def _root(x):
    """The square root, whose gradient at zero is zero."""
    positive = x > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, x, ops.ones_like(x))), ops.zeros_like(x))


def spectrum_dtype(mode: str, compute_dtype: str) -> str:
    """The dtype of a spectrum."""
    return complex_dtype(compute_dtype) if mode == "complex" else compute_dtype


def spectrum_shape(shape: tuple[int, ...], mode: str) -> tuple[int, ...]:
    """The channels of a spectrum whose parts have a shape."""
    return (*shape, 2) if mode == "real_imag" else shape


def in_real_dtype(x: Any, layer: Any) -> Any:
    """Real values in the floats, of float32 at least, in which a layer transforms them."""
    return ops.cast(x, real_dtype(layer.compute_dtype))
