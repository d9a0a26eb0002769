"""Types of the kernels of tables; `reference_table.py` says what each does."""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Chunk = tuple[Bytes, Int32 | None, Bytes | None]

class Job:
    def __init__(
        self,
        column: int,
        nbytes: int,
        source: np.dtype,
        dtype: np.dtype,
        inner: tuple[int, ...],
        ragged: bool,
        fill: Bytes,
        end: Bytes,
        cut: int,
        begin: Bytes | bytes = b"",
        skip: int = 0,
        left: bool = False,
    ) -> None: ...

class Table:
    rows: int
    chunks: int
    columns: int
    def __init__(self, first: Int64, columns: list[tuple[int, list[Chunk]]]) -> None: ...
    def check(self, column: int) -> int: ...
    def locate(self, column: int, row: int) -> tuple[int, int, int] | None: ...
    def lengths(self, column: int, ids: Int64 | None, out: Int64) -> int: ...
    def batch(
        self, jobs: tuple[Job, ...], ids: Int64 | None, start: int, rows: int, targets: tuple[int, ...]
    ) -> list[np.ndarray] | int: ...
    def packed(self, job: Job, ids: Int64, ends: Int64, size: int) -> tuple[np.ndarray, Int32, Int32] | int: ...
    def gather(
        self, column: int, ids: Int64 | None, start: int, rows: int
    ) -> tuple[Bytes, Int64, Bytes | None] | int: ...
