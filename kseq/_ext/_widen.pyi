"""Types of the kernels of numbers; `reference_widen.py` says what each does."""

import numpy as np

def widens(source: np.dtype, dtype: np.dtype) -> bool: ...
