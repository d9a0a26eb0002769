"""What the kernel of columns does, in NumPy: the oracle of the tests, and the fallback where nothing was compiled."""

import itertools
import math

import numpy as np

from kseq._ext.reference_widen import NUMBERS

_MAX_STEPS = 2**31 - 1


class Columns:
    """Columns in memory that records are appended to.

    Args:
        fields: a tuple (name, stored dtype or "string" or "bytes", inner shape, ragged, optional) for each column.
        limit: bytes at which the columns count as full; 0 for never.

    Attributes:
        rows: records since they began anew.
        nbytes: their bytes, offsets included.
        room: records for which there is room: one less with each, 0 once the columns are full. May be set.
        number: that of the next record. May be set.
    """

    def __init__(self, fields, limit=0):
        self._fields, self._limit, self.room, self.number = fields, limit, 1 << 62, 0
        self.take()

    def append(self, record):
        """Append a record whose values can be copied as they are, and return its number.

        If one cannot, nothing is appended: -1 minus its column's number is returned; minus the number of columns if the
        record is no dict or has other fields, and one less if there is no room. Strings are taken for "string", bytes
        for "bytes", Python's numbers for a single number that holds them, or NumPy's of its dtype, else C-contiguous
        arrays of the column's dtype and shape; None, or no value, where the column is optional.
        """
        if self.room <= 0:
            return -2 - len(self._fields)
        if not isinstance(record, dict):
            return -1 - len(self._fields)
        datas = []
        for k, (name, dtype, inner, ragged, optional) in enumerate(self._fields):
            value = record.get(name)
            if value is None:
                accepted, data = optional, None
            elif isinstance(dtype, str):
                accepted = isinstance(value, str if dtype == "string" else bytes)
                data = (value.encode() if dtype == "string" else bytes(value)) if accepted else None
            elif not ragged and not inner and type(value) in (int, float) and dtype.char in NUMBERS:
                accepted = _holds(dtype, value)
                data = np.array(value).astype(dtype).tobytes() if accepted else None
            else:
                if not ragged and not inner and isinstance(value, np.generic):
                    value = np.asarray(value)
                accepted = (
                    isinstance(value, np.ndarray)
                    and value.flags.c_contiguous
                    and value.dtype == dtype
                    and value.ndim == ragged + len(inner)
                    and value.shape[ragged:] == inner
                )
                data = value.tobytes() if accepted else None
            size = _size(dtype, inner)
            if not accepted or self._used[k] // size + len(data or b"") // size > _MAX_STEPS:
                return -1 - k
            if data is None and not ragged and not isinstance(dtype, str):
                datas.append((bytes(size), False))
            else:
                datas.append((data or b"", value is not None))
        if not record.keys() <= {name for name, *_ in self._fields}:
            return -1 - len(self._fields)
        for k, (data, present) in enumerate(datas):
            self._datas[k].append(data)
            self._valid[k].append(present)
            self._used[k] += len(data)
        return self._count(1)

    def _count(self, rows):
        self.rows += rows
        self.nbytes = sum(self._used) + 4 * self.rows * len(self._fields)
        self.room = 0 if 0 < self._limit <= self.nbytes else self.room - rows
        self.number += rows
        return self.number - rows

    def extend(self, columns, start, end):
        """Append the rows from `start` to `end` of many, and return the number of the first.

        Args:
            columns: for each column the bytes of all rows; offsets in steps, int64, where rows differ in size, else
                None; and a byte a row that says whether it is there, or None.
            start: number of the first row.
            end: number after the last.

        Raises:
            ValueError: columns that are not so; nothing is appended.
        """
        if len(columns) != len(self._fields) or not 0 <= start <= end:
            raise ValueError(
                f"there must be {len(self._fields)} columns of rows {start} to {end}; received {len(columns)}"
            )
        parts = []
        for k, ((name, dtype, inner, ragged, _), (data, offsets, valid)) in enumerate(
            zip(self._fields, columns, strict=True)
        ):
            size, listed = _size(dtype, inner), ragged or isinstance(dtype, str)
            ends = np.arange(end + 1) if offsets is None else offsets
            good = (offsets is not None) == listed and len(ends) > end and (valid is None or len(valid) >= end)
            ends = ends[start : end + 1]
            if not (good and ends[0] >= 0 and (np.diff(ends) >= 0).all() and ends[-1] <= len(data) // size):
                raise ValueError(f"column {name!r} must have data, offsets and validity of rows {start} to {end}")
            if self._used[k] // size + int(ends[-1] - ends[0]) > _MAX_STEPS:
                raise ValueError(f"column {name!r} would have more than 2**31 - 1 steps")
            cuts = (ends * size).tolist()
            parts.append([data[first:last].tobytes() for first, last in itertools.pairwise(cuts)])
        for k, (part, (_, _, valid)) in enumerate(zip(parts, columns, strict=True)):
            self._datas[k] += part
            self._valid[k] += [True] * len(part) if valid is None else [bool(there) for there in valid[start:end]]
            self._used[k] += sum(map(len, part))
        return self._count(end - start)

    def take(self):
        """For each column its data as bytes, int32 offsets or None, and a byte a row or None; and begin anew.

        The arrays stay as they are, whatever is appended.
        """
        taken = []
        for k, (_, dtype, inner, ragged, _) in enumerate(self._fields if hasattr(self, "_datas") else []):
            data, valid = self._datas[k], np.array(self._valid[k], np.uint8)
            offsets = None
            if ragged or isinstance(dtype, str):
                ends = np.cumsum([0, *map(len, data)]) // _size(dtype, inner)
                offsets = ends.astype(np.int32)
            taken.append((np.frombuffer(b"".join(data), np.uint8), offsets, None if valid.all() else valid))
        self._datas, self._valid = [[] for _ in self._fields], [[] for _ in self._fields]
        self._used, self.rows, self.nbytes = [0] * len(self._fields), 0, 0
        return taken


def _holds(dtype, value):
    """Whether a dtype holds one of Python's numbers; integers are not taken from floats, nor floats from integers."""
    if type(value) is float:
        with np.errstate(over="ignore"):
            return dtype.kind == "f" and (not math.isfinite(value) or bool(np.isfinite(np.array(value).astype(dtype))))
    if dtype.kind not in "iu" or not -(2**63) <= value < 2**63:
        return False
    return np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def _size(dtype, inner):
    return 1 if isinstance(dtype, str) else dtype.itemsize * int(np.prod(inner, dtype=np.int64))
