"""What the kernels of tables do, in NumPy: the oracle of the tests, and the fallback where nothing was compiled."""

import itertools

import numpy as np

from kseq._ext.reference import pad_rows
from kseq._ext.reference_widen import widens


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

    def gather(self, column, ids, start, rows):
        """The values of rows as they are stored, one after the other; or the first bad position.

        Args:
            column: number of the column.
            ids: rows of the table, or None for `rows` of them from `start`.
            start: first row where `ids` is None.
            rows: their number.

        Returns:
            The bytes, offsets of the rows in steps, int64 [rows + 1], and a byte a row that says whether it is there,
            or None if all are; where rows are of one size, one that is not there is zeros. Or an integer: the position
            of the first row that is not in the table or whose offsets lie.
        """
        self._check_column(column)
        if ids is not None and len(ids) != rows:
            raise ValueError(f"ids must have {rows} elements; received {len(ids)}")
        if ids is None and rows and not 0 <= start <= self.rows - rows:
            return 0
        size, parts, valid = self._sizes[column], [], np.ones(rows, np.uint8)
        for i, row in enumerate(range(start, start + rows) if ids is None else ids.tolist()):
            place = self.locate(column, row) if 0 <= row < self.rows else None
            if place is None:
                return i
            c, at, steps = place
            data, offsets, _ = self._parts[column][c]
            valid[i] = steps >= 0
            missing = np.zeros(size if offsets is None else 0, np.uint8)
            parts.append(data[at * size : (at + steps) * size] if steps >= 0 else missing)
        ends = np.cumsum([0, *map(len, parts)]) // size
        return np.concatenate([np.empty(0, np.uint8), *parts]), ends, None if valid.all() else valid

    def _check_column(self, column):
        if not 0 <= column < self.columns:
            raise IndexError(f"a column must be in [0, {self.columns}); received {column}")
