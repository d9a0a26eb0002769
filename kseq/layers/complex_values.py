"""Complex numbers in `keras.ops`: their dtypes, and values as real and imaginary parts."""

from typing import Any

import keras
from keras import ops

from ..dtypes import real_dtype as real_dtype


def is_complex(dtype: str) -> bool:
    """Whether a dtype, by name, is one of complex numbers."""
    return dtype.startswith("complex")


def has_fractions(dtype: str) -> bool:
    """Whether a dtype, by name, is one of floats or of complex numbers: one that has gradients."""
    return is_complex(dtype) or keras.backend.is_float_dtype(dtype)


def complex_dtype(dtype: str) -> str:
    """The complex dtype that computes as floats of a dtype do, in float32 at least."""
    return "complex128" if dtype in ("float64", "complex128") else "complex64"


def split(x: Any, dtype: str) -> tuple[Any, Any]:
    """Real and imaginary part, of a dtype, of complex or real values."""
    if is_complex(keras.backend.standardize_dtype(x.dtype)):
        return ops.cast(ops.real(x), dtype), ops.cast(ops.imag(x), dtype)
    x = ops.cast(x, dtype)
    return x, ops.zeros_like(x)


def joined(real: Any, imaginary: Any) -> Any:
    """Complex values of their parts."""
    dtype = complex_dtype(keras.backend.standardize_dtype(real.dtype))
    return ops.cast(real, dtype) + 1j * ops.cast(imaginary, dtype)
