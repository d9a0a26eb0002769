"""Types of the ragged kernels; `reference.py` says what each does."""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Int64 = NDArray[np.int64]

def row_lengths(rows: tuple, lengths: Int64) -> int: ...
def pad_rows(rows: tuple, out: np.ndarray, mask: Bytes, fill: Bytes, left: bool, cut_left: bool) -> int: ...
def pad_spans(
    values: np.ndarray,
    starts: Int64,
    lengths: Int64,
    out: np.ndarray,
    mask: Bytes,
    fill: Bytes,
    left: bool,
    cut_left: bool,
) -> int: ...
def copy_spans(values: np.ndarray, starts: Int64, lengths: Int64, out: np.ndarray) -> int: ...
def compact(values: np.ndarray, mask: Bytes, out: np.ndarray) -> None: ...
