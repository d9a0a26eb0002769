"""Rows on the host, made to agree: a list of arrays or array-likes [T_i, ...] that differ in time only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseq import _ext

from .annotations import Shape


def measure(rows: Any, dtype: Any) -> tuple[tuple[NDArray[Any], ...], NDArray[np.int64]]:
    """Rows as a tuple of contiguous arrays that differ in time only, and their lengths, int64 [B]."""
    if not isinstance(rows, (list, tuple)) and not (isinstance(rows, np.ndarray) and rows.ndim):
        raise TypeError(f"rows must be a list or tuple of arrays [T, ...]; received {type(rows).__name__}")
    rows = tuple(rows)
    lengths = np.empty(len(rows), np.int64)
    if _ext.row_lengths(rows, lengths) >= 0:  # one pass over rows that are arrays already; the others take longer
        rows = _standard_rows(rows, dtype)
        bad = _ext.row_lengths(rows, lengths)
        if bad >= 0:
            raise ValueError(f"rows must not change while they are read; received row {bad}, which did")
    if rows:
        check_dtype(rows[0].dtype, "row 0")
    return rows, lengths


def _standard_rows(rows, dtype):
    """Array-likes as contiguous arrays that agree in trailing shape and dtype; the first row that says so decides."""
    arrays, first = [], None
    for i, row in enumerate(rows):
        if isinstance(row, (list, tuple)) and not row:
            arrays.append(None)  # an empty list says nothing about shape and dtype: it takes those of the others
            continue
        try:
            array = np.asarray(row)
        except ValueError as error:
            raise ValueError(f"row {i} must be an array [T, ...]; received {type(row).__name__}: {error}") from None
        if array.ndim == 0:
            raise ValueError(f"row {i} must have shape [T, ...]; received shape () and dtype {array.dtype}")
        check_dtype(array.dtype, f"row {i}")
        if dtype is not None:
            array = array.astype(dtype, copy=False)
        arrays.append(np.ascontiguousarray(array))
        if first is None:
            first = i
        like = arrays[first]
        if array.shape[1:] != like.shape[1:]:
            raise ValueError(
                f"row {i} must have shape [T, ...] with trailing shape {like.shape[1:]}, like row {first}; "
                f"received shape {array.shape}"
            )
        if array.dtype != like.dtype:
            raise TypeError(
                f"row {i} must have dtype {like.dtype}, like row {first} (or pass dtype); received {array.dtype}"
            )
    blank = np.empty(0, dtype) if first is None else arrays[first][:0]
    return tuple(blank if array is None else array for array in arrays)


def concatenate(rows: Any, lengths: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Values and offsets of rows that agree."""
    values = np.empty((int(lengths.sum()), *rows[0].shape[1:]), rows[0].dtype)
    return np.concatenate(rows, out=values), offsets_of(lengths)  # without `out` NumPy would change the byte order


def offsets_of(lengths: Any) -> NDArray[np.int64]:
    """Where rows of these lengths begin in flat storage, and where the last ends: int64 [B + 1]."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def empty_spec(dtype: Any, out: Any) -> tuple[Shape, np.dtype[Any]]:
    """Trailing shape and dtype of a batch of no rows."""
    if isinstance(out, (tuple, list)) and out:
        out = out[0]
    if isinstance(out, np.ndarray) and out.ndim > 1:
        return out.shape[2:], np.dtype(out.dtype if dtype is None else dtype)
    return (), np.dtype(dtype)  # None is float64


def check_dtype(dtype: Any, name: Any) -> None:
    """Refuse what is no number.

    Raises:
        TypeError: another dtype than bool, integers, floats and complex numbers, those of `ml_dtypes` included.
    """
    # Bytes of objects and of NumPy's variable-width strings are pointers. ml_dtypes registers its types: isbuiltin 2.
    if dtype.kind not in "biufc" and not (dtype.kind == "V" and dtype.isbuiltin == 2):
        raise TypeError(f"{name} must have a numeric dtype; received {dtype}")
