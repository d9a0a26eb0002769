"""What one call of a model was given, row by row, as a padded batch with something in its padding."""

import dataclasses
from typing import Any

import keras
import numpy as np

from .distance import distance, larger
from .report import LARGE, NAN
from .tensors import to_numpy

_LARGE = 1e4


class NoRows(Exception):
    """What a call was given, or gave, that is not a batch of rows."""


@dataclasses.dataclass
class RowsOf:
    """A tensor of a call, of each row alone.

    Attributes:
        rows: NumPy arrays [1, ...].
        masks: of them, bool [1, T], or `None`s.
        dtype: of the tensor.
        axes: those along which rows are of unequal length.
        own: what it was where all rows were padded, or `None` where that is not known.
    """

    rows: list[Any]
    masks: list[Any]
    dtype: str
    axes: tuple[int, ...]
    own: Any = None

    @classmethod
    def of(cls, tensors: list[Any], masks: list[Any], padded: Any = None) -> "RowsOf":
        """Of a tensor of each row alone, with their masks, and the one of all of them padded.

        Raises:
            NoRows: tensors that are not of one row each.
        """
        rows = [to_numpy(t) for t in tensors]
        if len({row.ndim for row in rows}) != 1:
            raise NoRows("its ranks differ from row to row")
        if rows[0].ndim == 0 or any(row.shape[0] != 1 for row in rows):
            raise NoRows("it has no batch axis of its own")
        axes = tuple(axis for axis in range(1, rows[0].ndim) if len({row.shape[axis] for row in rows}) > 1)
        found = cls(rows, masks, keras.backend.standardize_dtype(tensors[0].dtype), axes)
        found.masks = [m if m is None or m.shape == r.shape[:2] else None for m, r in zip(masks, rows, strict=True)]
        own = None if padded is None else to_numpy(padded)
        found.own = own if own is not None and own.shape == found.shape else None
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all rows in one array."""
        return (len(self.rows), *(max(self.lengths(axis)) for axis in range(1, self.rows[0].ndim)))

    @property
    def is_mask(self) -> bool:
        return self.dtype == "bool" and self.rows[0].ndim == 2

    @property
    def has_time(self) -> bool:
        """Whether it is [B, T, ...], of which a mask can tell what is padding."""
        return self.axes == (1,) and not self.is_mask

    @property
    def takes_nan(self) -> bool:
        return self.has_time and "float" in self.dtype

    def lengths(self, axis: int = 1) -> list[int]:
        return [row.shape[axis] for row in self.rows]

    def padded(self, padding: str) -> Any:
        """All rows in one array; only what a mask can tell is filled with other than what the model leaves there."""
        filled = np.zeros(self.shape, self.rows[0].dtype)
        if not self.is_mask and self.own is not None:
            filled[...] = self.own
        if self.has_time and self.dtype != "bool" and padding in (LARGE, NAN):
            filled[...] = self._fill(padding)
        for i, row in enumerate(self.rows):
            filled[i][tuple(slice(size) for size in row.shape[1:])] = row[0]
        return filled

    def _fill(self, padding):
        if self.takes_nan:
            return np.nan if padding == NAN else _LARGE
        return max(row.max(initial=0) for row in self.rows)  # another of what the layer takes

    def mask(self) -> Any:
        """Which steps of `padded` count: bool [B, T]."""
        mask = np.zeros((len(self.rows), max(self.lengths())), bool)
        for i, (row, own) in enumerate(zip(self.rows, self.masks, strict=True)):
            mask[i, : row.shape[1]] = True if own is None else own[0]
        return mask

    def change(self, y: Any, other: Any, tolerance: float) -> float | None:
        """How far the valid steps of one array of all rows are from those of another; `None` where it is rounding."""
        found = None
        for i, row in enumerate(self.rows):
            valid = (i, *(slice(size) for size in row.shape[1:]))
            found = larger(found, distance(other[valid], y[valid], tolerance))
        return found

    def difference(self, y: Any, mask: Any, tolerance: float) -> float | None:
        """The largest difference of a valid step of all rows in one array from the rows; `None` where it is rounding.

        Args:
            y: the array.
            mask: of it, or `None`.
            tolerance: relative to the largest number of a row.
        """
        largest = None
        for i, row in enumerate(self.rows):
            wanted, own = row[0], y[i]
            if 1 in self.axes:
                alone = self.masks[i]
                wanted = wanted if alone is None else wanted[alone[0]]
                if mask is not None and mask.shape == y.shape[:2]:
                    own = own[mask[i]]  # wherever they stand
                elif alone is not None:
                    own = own[: alone.shape[1]][alone[0]]
                wanted = wanted[: len(own)]  # fewer are no leak
            own = own[tuple(slice(size) for size in wanted.shape)]
            if own.shape != wanted.shape:
                return np.inf
            largest = larger(largest, distance(own, wanted, tolerance))
        return largest
