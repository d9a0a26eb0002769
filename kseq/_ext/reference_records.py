"""What the kernels of records do, in NumPy: the oracle of the tests, and the fallback where nothing was compiled."""

import itertools
import math

import numpy as np

from kseq._ext.reference import pad_rows

_MAX_STEPS = 2**31 - 1
_WIDENED = set("?bBhHiIlLqQfd")


def widens(source, dtype):
    """Whether `Job` takes a stored dtype for another output dtype: numbers that no conversion changes."""
    known = all(kind.isbuiltin == 1 and kind.char in _WIDENED for kind in (source, dtype))
    return known and np.can_cast(source, dtype, "safe")


class Job:
    """How a batch shows one column.

    Args:
        column: number of the column in the table.
        nbytes: bytes of a step as it is stored.
        source: dtype that is stored.
        dtype: dtype of the output.
        inner: shape of one step.
        ragged: whether the output is padded in time.
        fill: bytes of the padding value, as in the output.
        end: bytes of a step to append to every row, as in the output; none if empty.
        cut: what to do with rows that are too long: 0 refuse them, 1 drop their beginning, 2 their end.
        begin: bytes of a step to put before every row; none if empty.
        skip: steps of a row, begin and end among them, that are left out at its beginning.
        left: whether the padding comes before the row.
    """

    def __init__(self, column, nbytes, source, dtype, inner, ragged, fill, end, cut, begin=b"", skip=0, left=False):
        self.column, self.nbytes, self.source, self.dtype, self.inner = column, nbytes, source, dtype, inner
        self.ragged, self.fill, self.end, self.cut = ragged, np.asarray(fill), np.asarray(end), cut
        self.begin, self.skip, self.left = np.frombuffer(begin, np.uint8), skip, left
        step = int(np.prod(inner, dtype=np.int64))
        if source != dtype and not widens(source, dtype):
            raise ValueError(f"the kernel does not widen {source} to {dtype}")
        if (len(self.end) or len(self.begin) or skip or left) and not ragged:
            raise ValueError("only a sequence can have a begin, an end, steps to skip, or padding before it")
        if skip < 0:
            raise ValueError(f"skip must be at least 0; received {skip}")
        if len(self.fill) != dtype.itemsize or not {len(self.begin), len(self.end)} <= {0, step * dtype.itemsize}:
            raise ValueError(
                f"fill, begin and end must be bytes of {dtype}; received {len(fill)}, {len(begin)} and {len(end)}"
            )
        if step * source.itemsize != nbytes:
            raise ValueError(f"a step of shape {inner} must have {step * source.itemsize} bytes; received {nbytes}")


class Table:
    """Columns in chunks, as rows.

    Args:
        first: int64 [C + 1], the first row of each chunk, and the number of rows.
        columns: for each column a tuple (bytes of a step, chunks); a chunk is a tuple of three arrays, its data as
            bytes, the int32 offsets of its rows in steps, and a bitmap of the rows that are there; the last two may be
            None.
    """

    def __init__(self, first, columns):
        if len(first) == 0 or first[0] != 0 or (np.diff(first) < 0).any():
            raise ValueError("first must begin with 0 and not decrease")
        self._first, self.rows, self.chunks, self.columns = first, int(first[-1]), len(first) - 1, len(columns)
        self._sizes, self._parts = [size for size, _ in columns], [chunks for _, chunks in columns]
        for k, (size, chunks) in enumerate(columns):
            if len(chunks) != self.chunks or size < 1:
                raise ValueError(f"column {k} must have {self.chunks} chunks; received {len(chunks)}")
            for c, (data, offsets, valid) in enumerate(chunks):
                rows = int(first[c + 1] - first[c])
                if offsets is not None and len(offsets) < rows + 1:
                    raise ValueError(f"column {k}, chunk {c}: {len(offsets)} offsets for {rows} rows")
                if offsets is None and len(data) // size < rows:
                    raise ValueError(f"column {k}, chunk {c}: {len(data) // size} values for {rows} rows")
                if valid is not None and len(valid) * 8 < rows:
                    raise ValueError(f"column {k}, chunk {c}: {len(valid)} bytes of validity for {rows} rows")

    def check(self, column):
        """The first row whose offsets decrease or leave the data, or -1."""
        self._check_column(column)
        for c, (data, offsets, _) in enumerate(self._parts[column]):
            rows = int(self._first[c + 1] - self._first[c])
            if offsets is None or rows == 0:
                continue
            starts, ends = offsets[:rows], offsets[1 : rows + 1]
            bad = np.flatnonzero((starts < 0) | (starts > ends) | (ends > len(data) // self._sizes[column]))
            if len(bad):
                return int(self._first[c] + bad[0])
        return -1

    def locate(self, column, row):
        """Chunk, first step and steps of a row; -1 steps if it is not there, None if its offsets lie."""
        self._check_column(column)
        if not 0 <= row < self.rows:
            raise IndexError(f"a row must be in [0, {self.rows}); received {row}")
        c = int(np.searchsorted(self._first, row, "right")) - 1
        data, offsets, valid = self._parts[column][c]
        row -= int(self._first[c])
        if valid is not None and not valid[row >> 3] >> (row & 7) & 1:
            return c, 0, -1
        if offsets is None:
            return c, row, 1
        start, end = int(offsets[row]), int(offsets[row + 1])
        return (c, start, end - start) if 0 <= start <= end <= len(data) // self._sizes[column] else None

    def lengths(self, column, ids, out):
        """Write the steps of rows to `out`, 0 for those that are not there; the first bad position, or -1.

        Args:
            column: number of the column.
            ids: the rows, or None for all from the first.
            out: int64, one a row.
        """
        self._check_column(column)
        if ids is not None and len(ids) != len(out):
            raise ValueError(f"out must have {len(ids)} elements; received {len(out)}")
        for i, row in enumerate(range(len(out)) if ids is None else ids.tolist()):
            place = self.locate(column, row) if 0 <= row < self.rows else None
            if place is None:
                return i
            out[i] = max(place[2], 0)
        return -1

    def batch(self, jobs, ids, start, rows, targets):
        """The arrays of a batch, for each job one, or values and mask if it is ragged; or the first bad position.

        Args:
            jobs: `Job`s.
            ids: rows of the table, or None for `rows` of them from `start`.
            start: first row where `ids` is None.
            rows: rows of the batch.
            targets: for each job the time of the padded rows, or -1 for that of the longest; not looked at if it
                is not ragged.

        Returns:
            A list of arrays, or an integer: the position of the first row that is not in the table, whose offsets
            lie, or that is longer than the target.
        """
        if ids is not None and len(ids) != rows:
            raise ValueError(f"ids must have {rows} elements; received {len(ids)}")
        if len(targets) != len(jobs):
            raise ValueError(f"there must be a target for each of {len(jobs)} jobs; received {len(targets)}")
        if ids is None and rows and not 0 <= start <= self.rows - rows:
            return 0
        arrays = []
        for job, target in zip(jobs, targets, strict=True):
            self._check_column(job.column)
            if job.nbytes != self._sizes[job.column]:
                raise ValueError(f"a step of column {job.column} has {self._sizes[job.column]} bytes, not {job.nbytes}")
            bad = self._add_output(job, range(start, start + rows) if ids is None else ids.tolist(), target, arrays)
            if bad >= 0:
                return bad
        return arrays

    def _add_output(self, job, ids, target, arrays):
        marks = [mark.view(job.dtype).reshape(-1, *job.inner) for mark in (job.begin, job.end)]
        limit = target - sum(map(len, marks)) if job.ragged and target >= 0 else None
        if limit is not None and limit < 0:
            return 0
        rows = []
        for i, row in enumerate(ids):  # all of them before any is looked at
            if not 0 <= row < self.rows:
                return i
        for i, row in enumerate(ids):
            place = self.locate(job.column, row)
            if place is None:
                return i
            c, start, steps = place
            if steps > 1 and not job.ragged:  # there is room for one step
                return i
            if limit is not None and steps > limit:
                if job.cut == 0:
                    return i
                start, steps = start + (steps - limit if job.cut == 1 else 0), limit
            data = self._parts[job.column][c][0][start * job.nbytes : (start + max(steps, 0)) * job.nbytes]
            steps = data.view(job.source).reshape(-1, *job.inner).astype(job.dtype)
            rows.append(np.concatenate([marks[0], steps, marks[1]]))
        if not job.ragged:
            target = 1
        elif target < 0:
            target = max(map(len, rows), default=sum(map(len, marks)))
        rows = [row[job.skip :] for row in rows]
        out = np.empty((len(rows), target, *job.inner), job.dtype)
        mask = np.empty((len(rows), target), bool)
        pad_rows(tuple(rows), out, mask.view(np.uint8), job.fill, job.left, False)
        arrays.extend([out, mask] if job.ragged else [out[:, 0]])
        return -1

    def packed(self, job, ids, ends, size):
        """Rows that hold several records each, one after the other; or the first bad position in `ids`.

        Args:
            job: a `Job` that does not widen.
            ids: rows of the table.
            ends: where the records of each row end in `ids`.
            size: steps of a row.

        Returns:
            values [B, size, ...], segment numbers from 1 (0 is padding) and positions within each record, int32
            [B, size]; or an integer: the position of the first record that is not in the table, whose offsets lie, or
            that does not fit its row.
        """
        self._check_column(job.column)
        if job.nbytes != self._sizes[job.column] or not job.ragged or not 0 < size < 2**31:
            raise ValueError("packing needs a sequence, and rows of 1 to 2**31 - 1 steps")
        if job.source != job.dtype or job.skip or job.left:
            raise ValueError("packing neither widens nor skips nor pads before a row")
        bounds = [0, *ends.tolist()]
        if bounds != sorted(bounds) or bounds[-1] > len(ids):
            raise ValueError(f"ends must not decrease, up to {len(ids)}; received {bounds}")
        out = np.empty((len(ends), size, *job.inner), job.dtype)
        out[...] = job.fill.view(job.dtype)[0]
        segments, positions = np.zeros((2, len(ends), size), np.int32)
        for row, (first, last) in enumerate(itertools.pairwise(bounds)):
            used = 0
            for i in range(first, last):
                found = []
                bad = self._add_output(job, ids[i : i + 1].tolist(), -1, found)
                if bad >= 0 or found[0].shape[1] > size - used:
                    return i
                steps = found[0].shape[1]
                out[row, used : used + steps] = found[0][0]
                segments[row, used : used + steps] = i - first + 1
                positions[row, used : used + steps] = np.arange(steps)
                used += steps
        return out, segments, positions

    def _check_column(self, column):
        if not 0 <= column < self.columns:
            raise IndexError(f"a column must be in [0, {self.columns}); received {column}")


class Columns:
    """Columns in memory that records are appended to.

    Args:
        fields: a tuple (name, stored dtype or "string" or "bytes", inner shape, ragged, optional) for each column.
        limit: bytes at which the columns count as full; 0 for never.
    """

    def __init__(self, fields, limit=0):
        self._fields, self._limit = fields, limit
        self.take()

    def append(self, record):
        """Append a record whose values can be copied as they are, and return -1, or -2 if the columns are full now.

        If one cannot, nothing is appended, and its column's number is returned, or the number of columns if the
        record has other fields. Strings are taken for "string", bytes for "bytes", Python's numbers for a single number
        that holds them, or NumPy's of its dtype, else C-contiguous arrays of the column's dtype and shape; None, or no
        value, where the column is optional.
        """
        datas = []
        for k, (name, dtype, inner, ragged, optional) in enumerate(self._fields):
            value = record.get(name)
            if value is None:
                accepted, data = optional, None
            elif isinstance(dtype, str):
                accepted = isinstance(value, str if dtype == "string" else bytes)
                data = (value.encode() if dtype == "string" else bytes(value)) if accepted else None
            elif not ragged and not inner and type(value) in (int, float) and dtype.char in _WIDENED:
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
                return k
            if data is None and not ragged and not isinstance(dtype, str):
                datas.append((bytes(size), False))
            else:
                datas.append((data or b"", value is not None))
        if not record.keys() <= {name for name, *_ in self._fields}:
            return len(self._fields)
        for k, (data, present) in enumerate(datas):
            self._datas[k].append(data)
            self._valid[k].append(present)
            self._used[k] += len(data)
        self.rows += 1
        self.nbytes = sum(self._used) + 4 * self.rows * len(self._fields)
        return -2 if 0 < self._limit <= self.nbytes else -1

    def extend(self, columns, rows):
        """Append many rows, given as `take` gives them with offsets from 0, and return whether the columns are full.

        Raises:
            ValueError: columns that are not so; nothing is appended.
        """
        if len(columns) != len(self._fields) or rows < 0:
            raise ValueError(f"there must be {len(self._fields)} columns; received {len(columns)}")
        parts = []
        for k, ((name, dtype, inner, ragged, _), (data, offsets, valid)) in enumerate(
            zip(self._fields, columns, strict=True)
        ):
            size, listed = _size(dtype, inner), ragged or isinstance(dtype, str)
            ends = np.arange(rows + 1) if offsets is None else offsets
            good = (offsets is not None) == listed and len(ends) == rows + 1 and (valid is None or len(valid) == rows)
            good = good and ends[0] == 0 and (np.diff(ends) >= 0).all() and ends[-1] * size == len(data)
            if not good:
                raise ValueError(f"column {name!r} must have data, offsets and validity of {rows} rows")
            if self._used[k] // size + int(ends[-1]) > _MAX_STEPS:
                raise ValueError(f"column {name!r} would have more than 2**31 - 1 steps")
            cuts = (ends * size).tolist()
            parts.append([data[start:end].tobytes() for start, end in itertools.pairwise(cuts)])
        for k, (part, (data, _, valid)) in enumerate(zip(parts, columns, strict=True)):
            self._datas[k] += part
            self._valid[k] += [True] * rows if valid is None else [bool(there) for there in valid]
            self._used[k] += len(data)
        self.rows += rows
        self.nbytes = sum(self._used) + 4 * self.rows * len(self._fields)
        return 0 < self._limit <= self.nbytes

    def take(self):
        """For each column its data as bytes, int32 offsets or None, and a byte a row or None; and begin anew."""
        taken = []
        for k, (_, dtype, inner, ragged, _) in enumerate(self._fields if hasattr(self, "_datas") else ()):
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
