"""Dtypes by their names, as backends have them, without a backend."""

import numpy as np


def real_dtype(dtype: str) -> str:
    """The floats, of float32 at least, in which numbers of a dtype are computed: the parts of complex ones.

    Example:
        >>> real_dtype("bfloat16"), real_dtype("complex128")
        ('float32', 'float64')
    """
    return "float64" if dtype in ("float64", "complex128") else "float32"


def is_64_bit(dtype: str) -> bool:
    """Whether numbers of a dtype, or the parts of complex ones, have 64 bits, as jax's have where it is told so.

    Example:
        >>> is_64_bit("int64"), is_64_bit("complex64")
        (True, False)
    """
    return dtype in ("int64", "uint64", "float64", "complex128")


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of a backend's.

    Example:
        >>> numpy_dtype("float16")
        dtype('float16')
    """
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def host_dtype(name: str) -> np.dtype:
    """The NumPy dtype that a caller's arrays have where a backend has one of this name: float32 for bfloat16."""
    return np.dtype("float32" if name == "bfloat16" else name)
