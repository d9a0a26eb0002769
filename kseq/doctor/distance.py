"""How far numbers are from others."""

from typing import Any

import numpy as np

#: Of numbers, whose rounding is no difference; float64 is computed in float32 by some layers on some backends.
EPSILON = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-7, "float64": 1e-7}


def distance(own: Any, wanted: Any, tolerance: float) -> float | None:
    """How far numbers are from others, `None` where it is no more than rounding; infinity where one is no number."""
    if not np.issubdtype(wanted.dtype, np.inexact):
        return None if np.array_equal(own, wanted) else 1.0
    if not wanted.size:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        far = np.abs(own.astype("complex128" if wanted.dtype.kind == "c" else "float64") - wanted)
    known = np.isfinite(wanted)
    far = np.where(known, far, 0)
    if not np.isfinite(far).all():
        return np.inf
    scale = np.abs(wanted[known]).max(initial=0)
    return float(far.max()) if far.max() > tolerance * max(scale, 1e-6) else None


def larger(a: Any, b: Any) -> Any:
    """The larger of two numbers, of which either may be `None`."""
    return b if a is None else a if b is None else max(a, b)


def worst(sizes: Any) -> float | None:
    """The largest of numbers, `None`s aside."""
    return max((size for size in sizes if size is not None), default=None)
