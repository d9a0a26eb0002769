"""Ragged rows on the host: lists of arrays [T_i, ...], flat storage, and padded batches [B, T, ...] with their masks.

Everything here is NumPy in and NumPy out, for any numeric dtype (bool, complex and those of `ml_dtypes` included). The
work is done by kernels that copy bytes and release the GIL.
"""

import itertools
from collections.abc import Iterator
from typing import Any, Literal, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from kseq import _ext
from kseq.arguments import as_integer, as_integers
from kseq.masks import check_lengths, check_mask, lengths_to_mask, mask_to_lengths
from kseq.pad_job import PadJob, overlap
from kseq.rows import check_dtype, concatenate, empty_spec, measure, offsets_of


def pad(
    rows: Any,
    *,
    length: int | None = None,
    multiple_of: int | None = None,
    value: Any = 0,
    side: Literal["left", "right"] = "right",
    truncate: Literal["left", "right"] | None = None,
    dtype: DTypeLike | None = None,
    out: Any = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Pad rows [T_i, ...] to one batch: values [B, T, ...] and a mask [B, T], bool, True on the steps of the rows.

    No rows at all give a batch of shape [0, T], of `dtype`, or else of `out`'s or float64.

    Args:
        rows: a list or tuple of arrays or array-likes that differ in time only, or a `Ragged`.
        length: the target time T; the longest row if not given, or the time of `out` if that is.
        multiple_of: round T up to a multiple of this.
        value: scalar to pad with.
        side: "right" pads after the row, "left" before it (`padding="post"` and `"pre"` of Keras's `pad_sequences`).
        truncate: what to do with a row longer than T: "left" drops its beginning, "right" its end (`truncating="pre"`
            and `"post"`), None refuses it.
        dtype: convert to this dtype, as `astype` does; rows may then differ in dtype.
        out: a C-contiguous array [B, T, ...], or a pair of it and a mask [B, T], to fill and return.

    Raises:
        TypeError: rows of different dtype, dtypes that are not numeric.
        ValueError: rows of different trailing shape, rows of rank 0, a row longer than the target, an `out` that does
            not fit or that rows lie in, a padding value that the dtype cannot hold.

    Example:
        >>> values, mask = pad([np.array([1, 2, 3]), np.array([4])])
        >>> values
        array([[1, 2, 3],
               [4, 0, 0]])
        >>> mask
        array([[ True,  True,  True],
               [ True, False, False]])
    """
    if isinstance(rows, Ragged):
        return rows.pad(
            length=length, multiple_of=multiple_of, value=value, side=side, truncate=truncate, dtype=dtype, out=out
        )
    rows, lengths = measure(rows, dtype)
    if rows and dtype is not None and rows[0].dtype != np.dtype(dtype):
        return Ragged(*concatenate(rows, lengths)).pad(
            length=length, multiple_of=multiple_of, value=value, side=side, truncate=truncate, dtype=dtype, out=out
        )
    trailing, dtype = (rows[0].shape[1:], rows[0].dtype) if rows else empty_spec(dtype, out)
    job = PadJob(lengths, trailing, dtype, length, multiple_of, value, side, truncate, out)
    bad = _ext.pad_rows(rows, *job.arguments)
    if bad >= 0:
        raise ValueError(f"rows must not share memory with out; received row {bad}, which does")
    return job.values, job.mask


def unpad(values: ArrayLike, mask: ArrayLike | None) -> list[NDArray[Any]]:
    """Split a batch [B, T, ...] into its rows: a list of B arrays [T_i, ...], copies.

    Args:
        values: array [B, T, ...].
        mask: bool [B, T], whose valid steps are compacted even where it has holes; or integers [B], the lengths of
            right-padded rows; or None, all valid.

    Raises:
        TypeError: a mask that is neither bool nor integers, values that are not numeric.
        ValueError: a mask of another shape than the values, lengths that are negative or larger than T.

    Example:
        >>> unpad(np.array([[1, 2, 0], [3, 0, 0]]), [2, 1])
        [array([1, 2]), array([3])]
    """
    return flatten(values, mask).rows


def flatten(values: ArrayLike, mask: ArrayLike | None) -> "Ragged":
    """Store the valid steps of a batch [B, T, ...] one after the other: a `Ragged` of B rows.

    Args:
        values: array [B, T, ...].
        mask: bool [B, T], whose valid steps are compacted even where it has holes; or integers [B], the lengths of
            right-padded rows; or None, all valid.

    Raises:
        TypeError: a mask that is neither bool nor integers, values that are not numeric.
        ValueError: a mask of another shape than the values, lengths that are negative or larger than T.

    Example:
        >>> flatten(np.array([[1, 2, 0], [3, 0, 0]]), np.array([[True, False, True], [True, False, False]]))
        Ragged(rows=2, values=int64[3])
    """
    values = np.asarray(values)
    if values.ndim < 2:
        raise ValueError(f"values must have shape [B, T, ...]; received shape {values.shape}")
    check_dtype(values.dtype, "values")
    values = np.ascontiguousarray(values)
    batch, steps = values.shape[:2]
    if mask is None:
        mask = np.full(batch, steps)
    if np.ndim(mask) == 1:
        lengths = check_lengths(mask, steps)
        if len(lengths) != batch:
            raise ValueError(f"lengths must have the batch of the values, {batch}; received {len(lengths)}")
        mask = lengths_to_mask(lengths, steps)
    else:
        mask = check_mask(mask, (batch, steps))
        lengths = mask_to_lengths(mask)
    flat = np.empty((int(lengths.sum()), *values.shape[2:]), values.dtype)
    _ext.compact(values, mask.view(np.uint8), flat)
    return Ragged._trusted(flat, offsets_of(lengths))


class Ragged:
    """Rows of different length in flat storage: row i is `values[offsets[i] : offsets[i + 1]]`.

    Nothing is copied where the arrays are contiguous and the offsets int64, so that both may be memory-mapped.

    Args:
        values: array [N, ...] of any numeric dtype.
        offsets: integers [B + 1], non-decreasing, from 0 or more to at most N.

    Raises:
        TypeError: offsets that are not integers, values that are not numeric.
        ValueError: offsets that are empty, negative, decreasing or past the end of the values.

    Example:
        >>> ragged = Ragged(np.arange(5), [0, 2, 2, 5])
        >>> ragged.rows
        [array([0, 1]), array([], dtype=int64), array([2, 3, 4])]
        >>> ragged[-1], ragged[1:]
        (array([2, 3, 4]), Ragged(rows=2, values=int64[5]))
    """

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    __slots__ = ("offsets", "values")

    def __init__(self, values: ArrayLike, offsets: ArrayLike) -> None:
        values, offsets = np.asarray(values), as_integers("offsets", offsets)
        if values.ndim == 0:
            raise ValueError("values must have shape [N, ...]; received shape ()")
        check_dtype(values.dtype, "values")
        if len(offsets) == 0:
            raise ValueError("offsets must have one element more than there are rows; received none")
        if offsets[0] < 0:
            raise ValueError(f"offsets must not be negative; received offsets[0] = {offsets[0]}")
        bad = np.flatnonzero(offsets[1:] < offsets[:-1])
        if len(bad):
            raise ValueError(
                f"offsets must not decrease; received {offsets[bad[0]]} and then {offsets[bad[0] + 1]} "
                f"at offsets[{bad[0] + 1}]"
            )
        if offsets[-1] > len(values):
            raise ValueError(
                f"offsets must lie in the {len(values)} steps of the values; "
                f"received offsets[{len(offsets) - 1}] = {offsets[-1]}"
            )
        self.values, self.offsets = np.ascontiguousarray(values), offsets

    @classmethod
    def _trusted(cls, values, offsets):
        """Make an instance of arrays that are known to be right."""
        self = cls.__new__(cls)
        self.values, self.offsets = values, offsets
        return self

    @classmethod
    def from_rows(cls, rows: Any, dtype: DTypeLike | None = None) -> "Ragged":
        """Store a list of arrays [T_i, ...] one after the other.

        Args:
            rows: a list or tuple of arrays or array-likes that differ in time only.
            dtype: convert to this dtype.

        Raises:
            TypeError: rows of different dtype, dtypes that are not numeric.
            ValueError: rows of different trailing shape, rows of rank 0.

        Example:
            >>> Ragged.from_rows([[1.0, 2.0], [3.0]])
            Ragged(rows=2, values=float64[3])
        """
        rows, lengths = measure(rows, dtype)
        if not rows:
            return cls._trusted(np.empty(0, empty_spec(dtype, None)[1]), np.zeros(1, np.int64))
        values, offsets = concatenate(rows, lengths)
        return cls._trusted(values if dtype is None else values.astype(dtype, copy=False), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        shape = ", ".join(str(n) for n in self.values.shape)
        return f"Ragged(rows={len(self)}, values={self.values.dtype}[{shape}])"

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter(self.rows)

    @overload
    def __getitem__(self, index: slice) -> "Ragged": ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> NDArray[Any]: ...
    def __getitem__(self, index: Any) -> Any:
        """Return row `index` as a view, or for a slice a `Ragged` that shares the values."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError(f"a slice of Ragged rows must have step 1 (use take for others); received {step}")
            return self._trusted(self.values, self.offsets[start : max(start, stop) + 1])
        number = as_integer("a row index", index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"a row index must be in [-{len(self)}, {len(self)}); received {index}")
        number %= len(self)
        return self.values[self.offsets[number] : self.offsets[number + 1]]

    @property
    def rows(self) -> list[NDArray[Any]]:
        """Every row as a view of the values, in a list."""
        return [self.values[start:stop] for start, stop in itertools.pairwise(self.offsets.tolist())]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of steps of every row: int64 [B]."""
        return self.offsets[1:] - self.offsets[:-1]

    def take(self, indices: ArrayLike) -> "Ragged":
        """Copy rows into a new `Ragged`.

        Args:
            indices: integers [B'], row numbers in any order; negative ones count from the end.

        Raises:
            IndexError: a row number out of range.
            TypeError: indices that are not integers.

        Example:
            >>> Ragged(np.arange(5), [0, 2, 2, 5]).take([2, 0]).rows
            [array([2, 3, 4]), array([0, 1])]
        """
        starts, lengths = self._spans(indices)
        values = np.empty((int(lengths.sum()), *self.values.shape[1:]), self.values.dtype)
        self._check_spans(_ext.copy_spans(self.values, starts, lengths, values), starts, lengths)
        return self._trusted(values, offsets_of(lengths))

    def pad(
        self,
        rows: ArrayLike | None = None,
        *,
        length: int | None = None,
        multiple_of: int | None = None,
        value: Any = 0,
        side: Literal["left", "right"] = "right",
        truncate: Literal["left", "right"] | None = None,
        dtype: DTypeLike | None = None,
        out: Any = None,
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Pad rows to one batch, gathered straight from flat storage: values [B, T, ...] and a mask [B, T].

        Args:
            rows: integers [B], row numbers in any order; all rows if not given.
            length: as in `pad`, like every other argument.
            multiple_of: round T up to a multiple of this.
            value: scalar to pad with.
            side: "right" or "left".
            truncate: None, "left" or "right".
            dtype: convert to this dtype.
            out: arrays to fill and return.

        Raises:
            IndexError: a row number out of range.
            TypeError: indices that are not integers.
            ValueError: as `pad`.

        Example:
            >>> Ragged(np.arange(5), [0, 2, 2, 5]).pad([2, 0])[0]
            array([[2, 3, 4],
                   [0, 1, 0]])
        """
        if dtype is not None and self.values.dtype != np.dtype(dtype):
            taken = self.take(range(len(self)) if rows is None else rows)
            return self._trusted(taken.values.astype(dtype), taken.offsets).pad(
                length=length, multiple_of=multiple_of, value=value, side=side, truncate=truncate, out=out
            )
        starts, lengths = self._spans(rows)
        job = PadJob(lengths, self.values.shape[1:], self.values.dtype, length, multiple_of, value, side, truncate, out)
        if out is not None and (overlap(self.values, job.values) or overlap(self.values, job.mask)):
            raise ValueError("out must not share memory with the values; received an out that does")
        self._check_spans(_ext.pad_spans(self.values, starts, lengths, *job.arguments), starts, lengths)
        return job.values, job.mask

    def _spans(self, indices):
        """First step and length of rows: int64 [B], int64 [B]."""
        if indices is None:
            return self.offsets[:-1], self.lengths
        indices, count = as_integers("row indices", indices), len(self)
        if len(indices) and not (-count <= indices.min() and indices.max() < count):
            bad = np.flatnonzero((indices < -count) | (indices >= count))[0]
            raise IndexError(f"row indices must be in [-{count}, {count}); received {indices[bad]} at position {bad}")
        if len(indices) and indices.min() < 0:
            indices = np.where(indices < 0, indices + count, indices)
        starts = self.offsets[indices]
        return starts, self.offsets[indices + 1] - starts

    def _check_spans(self, bad, starts, lengths):
        if bad >= 0:  # the offsets were right when they came in, so somebody has written to them since
            raise ValueError(
                f"rows must lie in the {len(self.values)} steps of the values; "
                f"received a row from {starts[bad]} of length {lengths[bad]}: the offsets have been changed"
            )
