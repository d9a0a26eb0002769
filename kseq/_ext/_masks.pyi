"""Types of the mask kernels; `reference.py` says what each does."""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Int64 = NDArray[np.int64]

def lengths_to_mask(lengths: Int64, out: Bytes) -> None: ...
def mask_to_lengths(mask: Bytes, out: Int64) -> None: ...
def window(
    mask: Bytes,
    out: Bytes,
    left: int,
    kernel_size: int,
    strides: int,
    dilation_rate: int,
    any_valid: bool,
    before: bool,
    after: bool,
) -> None: ...
def transposed_window(
    mask: Bytes, out: Bytes, left: int, kernel_size: int, strides: int, dilation_rate: int
) -> None: ...
