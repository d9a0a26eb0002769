"""Types of the kernel of columns; `reference_columns.py` says what it does."""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Chunk = tuple[Bytes, NDArray[np.int32] | None, Bytes | None]
Given = tuple[Bytes, NDArray[np.int64] | None, Bytes | None]

class Columns:
    rows: int
    nbytes: int
    room: int
    number: int
    def __init__(
        self, fields: list[tuple[str, np.dtype | str, tuple[int, ...], bool, bool]], limit: int = 0
    ) -> None: ...
    def append(self, record: object) -> int: ...
    def extend(self, columns: list[Given], start: int, end: int) -> int: ...
    def take(self) -> list[Chunk]: ...
