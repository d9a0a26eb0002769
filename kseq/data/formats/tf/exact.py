"""Arrays in another dtype, only where that changes no value."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def exact(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """The array in another dtype, or None where that would change a value.

    Example:
        >>> exact(np.array([1.0, 2.0]), np.dtype("int8"))
        array([1, 2], dtype=int8)
        >>> exact(np.array([300]), np.dtype("int8")) is None
        True
    """
    source = array.dtype
    if source == dtype:
        return array
    if source.kind in "iu" and dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        fits = not array.size or (bounds.min <= array.min() and array.max() <= bounds.max)
        return array.astype(dtype) if fits else None
    if source.kind in "SU" and source.kind == dtype.kind:
        cast = array.astype(dtype)
        return cast if (cast == array).all() else None
    if not _number(source) or not _number(dtype) or (source.kind == "c" and dtype.kind != "c"):
        return None
    with np.errstate(all="ignore"):
        try:
            cast = array.astype(dtype)
            same = (cast.astype(source) == array) | ((cast != cast) & (array != array))
        except (TypeError, ValueError):
            return None
        # Floats beyond the integers come back as the largest integer on some machines, which is not what they are.
        if source.kind in "iu" and dtype.kind == "f":
            same &= cast < _beyond(source)
        elif source.kind == "f" and dtype.kind in "iu":
            same &= (array < _beyond(dtype)) & ((array < 0) == (cast < 0))
    return cast if same.all() else None


def _beyond(dtype):
    """The first power of two that a dtype of integers does not hold, as a float."""
    return 2.0 ** (np.iinfo(dtype).bits - (dtype.kind == "i"))


def _number(dtype):
    # The numbers of ml_dtypes (bfloat16, int4, ...) are of NumPy's kind "V", as are structures and raw memory.
    return dtype.kind in "biufcmM" or (dtype.kind == "V" and dtype.names is None and dtype.type is not np.void)
