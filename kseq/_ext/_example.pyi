"""Type of the kernel that reads Examples; `reference_example.py` says what it does."""

from collections.abc import Sequence

import numpy as np

def example_columns(
    batch: Sequence[bytes], names: Sequence[bytes], lists: bool = False
) -> list[tuple[str | None, np.ndarray | list[bytes], np.ndarray, np.ndarray, np.ndarray | None]] | None: ...
