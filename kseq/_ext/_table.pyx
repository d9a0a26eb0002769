"""The table over a store's columns on disk, from which batches are made.

The columns lie in chunks (the record batches of shards); a `Table` holds where each begins, so that one call makes a
whole batch from any rows. Every row is checked against its chunk before it is read: files can lie.
`reference_table.py` says in NumPy what each does.
"""

cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset

from kseq._ext._ragged cimport Filler, Plan, write_rows
from kseq._ext._widen cimport convert, number_code

from kseq._ext._widen import widens

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_Empty(int rank, cnp.npy_intp* dims, cnp.PyArray_Descr* dtype, int fortran)

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define KSEQ_PREFETCH(address) __builtin_prefetch(address)
    #else
    #define KSEQ_PREFETCH(address) ((void)(address))
    #endif
    """
    void KSEQ_PREFETCH(const void* address) noexcept nogil


cdef enum:
    MAX_AXES = 32
    AHEAD = 2  # rows; found by measuring
    MAX_STEPS = 0x7FFFFFFF  # Arrow's offsets are 32-bit


cdef struct Part:  # one column in one chunk
    const char* data
    const int32_t* offsets  # NULL where every row has one step
    const unsigned char* valid  # a bit a row, or NULL where every row is there
    int64_t steps


cdef class Job:
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

    cdef Py_ssize_t column, nbytes, out_bytes, skip, added
    cdef int rank, cut, source_code, code
    cdef bint ragged, widen, left
    cdef cnp.npy_intp[MAX_AXES] dims
    cdef object dtype
    cdef const unsigned char[::1] fill, end, begin

    def __init__(
        self, Py_ssize_t column, Py_ssize_t nbytes, source, dtype, tuple inner, bint ragged, fill, end, int cut,
        begin=b"", Py_ssize_t skip=0, bint left=False,
    ):
        cdef int axis
        if len(inner) + 2 > MAX_AXES:
            raise ValueError(f"a step must have at most {MAX_AXES - 2} axes; received {len(inner)}")
        self.column, self.nbytes, self.ragged, self.cut = column, nbytes, ragged, cut
        self.dtype, self.widen = dtype, source != dtype
        self.source_code, self.code = number_code(source), number_code(dtype)
        if self.widen and not widens(source, dtype):
            raise ValueError(f"the kernel does not widen {source} to {dtype}")
        self.rank = 1 + ragged + len(inner)
        self.out_bytes = dtype.itemsize
        for axis in range(len(inner)):
            self.dims[1 + ragged + axis] = inner[axis]
            self.out_bytes *= inner[axis]
        self.fill, self.end, self.begin, self.skip, self.left = fill, end, begin, skip, left
        self.added = (self.end.shape[0] != 0) + (self.begin.shape[0] != 0)
        if (self.added or skip or left) and not ragged:
            raise ValueError("only a sequence can have a begin, an end, steps to skip, or padding before it")
        if skip < 0:
            raise ValueError(f"skip must be at least 0; received {skip}")
        if self.fill.shape[0] != dtype.itemsize or not (fits(self.begin, self) and fits(self.end, self)):
            raise ValueError(
                f"fill, begin and end must be bytes of {dtype}; received {len(fill)}, {len(begin)} and {len(end)}"
            )
        if self.out_bytes != nbytes // source.itemsize * dtype.itemsize or nbytes % source.itemsize:
            raise ValueError(f"a step of shape {inner} must have {self.out_bytes} bytes; received {nbytes}")

    cdef cnp.ndarray empty(self, Py_ssize_t rows, Py_ssize_t steps):
        self.dims[0] = rows
        if self.ragged:
            self.dims[1] = steps
        Py_INCREF(self.dtype)  # PyArray_Empty takes a reference
        return PyArray_Empty(self.rank, self.dims, <cnp.PyArray_Descr*>self.dtype, 0)


cdef inline bint fits(const unsigned char[::1] mark, Job job):
    return mark.shape[0] == 0 or mark.shape[0] == job.out_bytes


cdef class Table:
    """Columns in chunks, as rows.

    Args:
        first: int64 [C + 1], the first row of each chunk, and the number of rows.
        columns: for each column a tuple (bytes of a step, chunks); a chunk is a tuple of three arrays, its data as
            bytes, the int32 offsets of its rows in steps, and a bitmap of the rows that are there; the last two may be
            None.
    """

    cdef Part* parts  # [columns * chunks]
    cdef Py_ssize_t* nbytes
    cdef int64_t* first
    cdef double chunks_per_row
    cdef readonly Py_ssize_t rows, chunks, columns
    cdef list alive

    def __cinit__(self, const int64_t[::1] first not None, list columns not None):
        cdef Py_ssize_t c, k
        self.chunks, self.columns = first.shape[0] - 1, len(columns)
        if self.chunks < 0:
            raise ValueError("first must have one element more than there are chunks; received none")
        self.first = <int64_t*>PyMem_Malloc((self.chunks + 1) * sizeof(int64_t))
        self.nbytes = <Py_ssize_t*>PyMem_Malloc(max(self.columns, 1) * sizeof(Py_ssize_t))
        self.parts = <Part*>PyMem_Malloc(max(self.chunks * self.columns, 1) * sizeof(Part))
        if self.first == NULL or self.nbytes == NULL or self.parts == NULL:
            raise MemoryError()
        for c in range(self.chunks + 1):
            self.first[c] = first[c]
            if self.first[c] < (self.first[c - 1] if c else 0) or (c == 0 and self.first[0] != 0):
                raise ValueError("first must begin with 0 and not decrease")
        self.rows = self.first[self.chunks]
        self.chunks_per_row = <double>self.chunks / max(self.rows, 1)
        self.alive = []
        for k in range(self.columns):
            self.nbytes[k], chunks = columns[k]
            if len(chunks) != self.chunks or self.nbytes[k] < 1:
                raise ValueError(f"column {k} must have {self.chunks} chunks; received {len(chunks)}")
            for c in range(self.chunks):
                data, offsets, valid = chunks[c]
                self.add(k, c, data, offsets, valid)

    cdef add(
        self, Py_ssize_t k, Py_ssize_t c, const unsigned char[::1] data, const int32_t[::1] offsets,
        const unsigned char[::1] valid,
    ):
        cdef Part* part = &self.parts[k * self.chunks + c]
        cdef int64_t rows = self.first[c + 1] - self.first[c]
        part.data, part.offsets, part.valid = NULL, NULL, NULL
        if data.shape[0]:
            part.data = <const char*>&data[0]
        part.steps = data.shape[0] // self.nbytes[k]
        if offsets is not None:
            if offsets.shape[0] < rows + 1:
                raise ValueError(f"column {k}, chunk {c}: {offsets.shape[0]} offsets for {rows} rows")
            part.offsets = &offsets[0]
        elif part.steps < rows:
            raise ValueError(f"column {k}, chunk {c}: {part.steps} values for {rows} rows")
        if valid is not None and rows:
            if valid.shape[0] * 8 < rows:
                raise ValueError(f"column {k}, chunk {c}: {valid.shape[0]} bytes of validity for {rows} rows")
            part.valid = &valid[0]
        self.alive.append((data, offsets, valid))

    def __dealloc__(self):
        PyMem_Free(self.parts)
        PyMem_Free(self.nbytes)
        PyMem_Free(self.first)

    cdef inline Py_ssize_t chunk_of(self, int64_t row) noexcept nogil:
        """The chunk of a row: chunks are alike in size, so that the first guess is nearly always right."""
        cdef Py_ssize_t c = 0
        if self.chunks > 1:
            c = <Py_ssize_t>(row * self.chunks_per_row)
            c = min(max(c, 0), self.chunks - 1)
            while row < self.first[c]:
                c -= 1
            while row >= self.first[c + 1]:
                c += 1
        return c

    cdef inline bint find(self, Py_ssize_t column, int64_t row, const Part** part, int64_t* start, int64_t* steps) \
            noexcept nogil:
        """Where a row lies, with -1 steps if it is not there; false if its offsets lie."""
        cdef Py_ssize_t c = self.chunk_of(row)
        cdef const Part* found = &self.parts[column * self.chunks + c]
        row -= self.first[c]
        part[0] = found
        if found.valid != NULL and not found.valid[row >> 3] >> (row & 7) & 1:
            start[0], steps[0] = 0, -1
            return True
        if found.offsets == NULL:
            start[0], steps[0] = row, 1
            return True
        start[0] = found.offsets[row]
        steps[0] = <int64_t>found.offsets[row + 1] - start[0]
        return start[0] >= 0 and steps[0] >= 0 and start[0] + steps[0] <= found.steps

    def check(self, Py_ssize_t column):
        """The first row whose offsets decrease or leave the data, or -1."""
        cdef Py_ssize_t c, row = 0, rows
        cdef const int32_t* offsets
        cdef bint good
        self.check_column(column)
        with nogil:
            for c in range(self.chunks):
                offsets = self.parts[column * self.chunks + c].offsets
                rows = self.first[c + 1] - self.first[c]
                if offsets == NULL or rows == 0:
                    continue
                good = offsets[0] >= 0 and offsets[rows] <= self.parts[column * self.chunks + c].steps
                for row in range(rows):
                    good &= offsets[row] <= offsets[row + 1]
                if good:
                    continue
                for row in range(rows):
                    if (
                        offsets[row] < 0
                        or offsets[row] > offsets[row + 1]
                        or offsets[row + 1] > self.parts[column * self.chunks + c].steps
                    ):
                        break
                with gil:
                    return self.first[c] + row
        return -1

    def locate(self, Py_ssize_t column, int64_t row):
        """Chunk, first step and steps of a row; -1 steps if it is not there, None if its offsets lie."""
        cdef const Part* part
        cdef int64_t start, steps
        self.check_column(column)
        if not 0 <= row < self.rows:
            raise IndexError(f"a row must be in [0, {self.rows}); received {row}")
        if not self.find(column, row, &part, &start, &steps):
            return None
        return self.chunk_of(row), start, steps

    def lengths(self, Py_ssize_t column, const int64_t[::1] ids, int64_t[::1] out not None):
        """Write the steps of rows to `out`, 0 for those that are not there; the first bad position, or -1.

        Args:
            column: number of the column.
            ids: the rows, or None for all from the first.
            out: int64, one a row.
        """
        cdef Py_ssize_t i
        cdef int64_t row, start, steps
        cdef const Part* part
        self.check_column(column)
        if ids is not None and ids.shape[0] != out.shape[0]:
            raise ValueError(f"out must have {ids.shape[0]} elements; received {out.shape[0]}")
        with nogil:
            for i in range(out.shape[0]):
                row = i if ids is None else ids[i]
                if not 0 <= row < self.rows or not self.find(column, row, &part, &start, &steps):
                    with gil:
                        return i
                out[i] = max(steps, 0)
        return -1

    def batch(self, tuple jobs not None, const int64_t[::1] ids, int64_t start, Py_ssize_t rows, tuple targets not None):
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
        cdef list arrays = []
        cdef Job job
        cdef Py_ssize_t n, bad
        cdef Plan plan
        if ids is not None and ids.shape[0] != rows:
            raise ValueError(f"ids must have {rows} elements; received {ids.shape[0]}")
        if len(targets) != len(jobs):
            raise ValueError(f"there must be a target for each of {len(jobs)} jobs; received {len(targets)}")
        if ids is None and rows and not 0 <= start <= self.rows - rows:
            return 0
        plan = Plan(rows)
        for n in range(len(jobs)):
            job = <Job?>jobs[n]
            self.check_column(job.column)
            if job.nbytes != self.nbytes[job.column]:
                raise ValueError(f"a step of column {job.column} has {self.nbytes[job.column]} bytes, not {job.nbytes}")
            bad = self.add_output(plan, job, ids, start, rows, targets[n], arrays)
            if bad >= 0:
                return bad
        return arrays

    cdef Py_ssize_t add_output(
        self, Plan plan, Job job, const int64_t[::1] ids, int64_t start, Py_ssize_t rows, Py_ssize_t target, list arrays,
    ) except -2:
        cdef Py_ssize_t i, longest = 0, extra = job.end.shape[0] != 0, limit = -1, steps, bad = -1
        cdef bint marked = job.begin.shape[0] or job.skip or job.left
        cdef int64_t row, at, found
        cdef const Part* part
        cdef cnp.ndarray out, mask
        cdef char* values
        cdef unsigned char* flags
        cdef unsigned char ignored = 0
        cdef Filler filler
        if target >= 0 and job.ragged:
            limit = target - job.added
            if limit < 0:
                return 0
        with nogil:
            if ids is not None:
                for i in range(rows):  # the memory of all rows is asked for before any of it is needed
                    row = ids[i]
                    if not 0 <= row < self.rows:
                        bad = i
                        break
                    part = &self.parts[job.column * self.chunks + self.chunk_of(row)]
                    if part.offsets != NULL:
                        KSEQ_PREFETCH(&part.offsets[row - self.first[self.chunk_of(row)]])
            if bad < 0:
                for i in range(rows):
                    row = start + i if ids is None else ids[i]
                    # Again, since another thread may write to ids meanwhile.
                    if not 0 <= row < self.rows or not self.find(job.column, row, &part, &at, &found):
                        bad = i
                        break
                    plan.spans[i].data = part.data + at * job.nbytes
                    plan.spans[i].end = part.data + part.steps * job.nbytes
                    KSEQ_PREFETCH(plan.spans[i].data)
                    if found > 1 and not job.ragged:  # there is room for one step
                        bad = i
                        break
                    if found > limit and limit >= 0:
                        if job.cut == 0:
                            bad = i
                            break
                        if job.cut == 1:
                            plan.spans[i].data = plan.spans[i].data + (found - limit) * job.nbytes
                        found = limit
                    plan.spans[i].steps = found
                    longest = max(longest, found)
        if bad >= 0:
            return bad
        if not job.ragged:
            target = 1
        elif target < 0:
            target = longest + job.added
        out = job.empty(rows, target)
        arrays.append(out)
        values, flags = cnp.PyArray_BYTES(out), &ignored
        if job.ragged:
            mask = cnp.PyArray_EMPTY(2, [rows, target], cnp.NPY_BOOL, 0)
            arrays.append(mask)
            flags = <unsigned char*>cnp.PyArray_BYTES(mask)
        if rows == 0 or target == 0:
            return -1
        if marked:
            with nogil:
                self.write_marked(plan, job, rows, target, values, flags)
            return -1
        if job.ragged and not job.widen:
            for i in range(rows):  # rows that are not there
                plan.spans[i].steps = max(plan.spans[i].steps, 0)
            filler = Filler(job.fill, target, job.out_bytes)
            with nogil:
                write_rows(plan.spans, rows, target, job.out_bytes, values, flags, &filler.padding, False, False)
        else:
            with nogil:
                self.write_plainly(plan, job, rows, target, values, flags)
        if extra:
            with nogil:
                for i in range(rows):
                    steps = plan.spans[i].steps
                    memcpy(values + (i * target + steps) * job.out_bytes, &job.end[0], job.out_bytes)
                    flags[i * target + steps] = 1
        return -1

    cdef void write_marked(
        self, Plan plan, Job job, Py_ssize_t rows, Py_ssize_t target, char* out, unsigned char* mask
    ) noexcept nogil:
        """Rows one by one, with what comes before and after them, without what is skipped, on their side."""
        cdef Py_ssize_t i, k, at, steps, skip, shown, step = job.out_bytes, size = job.fill.shape[0]
        cdef Py_ssize_t numbers = step // size
        cdef bint begins = job.begin.shape[0] != 0 and not job.skip, ends
        for i in range(rows):
            steps = max(plan.spans[i].steps, 0)
            skip = max(job.skip - (job.begin.shape[0] != 0), 0)
            ends = job.end.shape[0] != 0 and skip <= steps
            skip = min(skip, steps)
            steps -= skip
            shown = begins + steps + ends  # at most `target`: what is added to a row is within the limit
            at = target - shown if job.left else 0
            for k in range(at * numbers):
                memcpy(out + k * size, &job.fill[0], size)
            memset(mask, 0, target)
            memset(mask + at, 1, shown)
            if begins:
                memcpy(out + at * step, &job.begin[0], step)
                at += 1
            if job.widen:
                convert(plan.spans[i].data + skip * job.nbytes, job.source_code, out + at * step, job.code, steps * numbers)
            elif steps:
                memcpy(out + at * step, plan.spans[i].data + skip * job.nbytes, steps * step)
            at += steps
            if ends:
                memcpy(out + at * step, &job.end[0], step)
                at += 1
            for k in range(at * numbers, target * numbers):
                memcpy(out + k * size, &job.fill[0], size)
            mask += target
            out += target * step

    cdef void write_plainly(
        self, Plan plan, Job job, Py_ssize_t rows, Py_ssize_t target, char* out, unsigned char* mask
    ) noexcept nogil:
        """Rows one by one: widened, or of one step each."""
        cdef Py_ssize_t i, k, steps, size = job.fill.shape[0], numbers = job.out_bytes // size
        for i in range(rows):
            if i + AHEAD < rows:  # a row of a kilobyte elsewhere is a dozen waits for memory, unless it is asked for
                for k in range(64, min(plan.spans[i + AHEAD].steps * job.nbytes, 2048), 64):
                    KSEQ_PREFETCH(plan.spans[i + AHEAD].data + k)
            steps = max(plan.spans[i].steps, 0)
            plan.spans[i].steps = steps
            if job.widen:
                convert(plan.spans[i].data, job.source_code, out, job.code, steps * numbers)
            elif steps:
                memcpy(out, plan.spans[i].data, job.out_bytes)
            for k in range(steps * numbers, target * numbers):
                memcpy(out + k * size, &job.fill[0], size)
            if job.ragged:
                memset(mask, 1, steps)
                memset(mask + steps, 0, target - steps)
                mask += target
            out += target * job.out_bytes

    def packed(self, Job job not None, const int64_t[::1] ids not None, const int64_t[::1] ends not None, Py_ssize_t size):
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
        cdef Py_ssize_t row, i = 0, k, steps, used, rows = ends.shape[0], bad = -1, nbytes = job.out_bytes
        cdef Py_ssize_t ahead = job.begin.shape[0] != 0, item = job.fill.shape[0]
        cdef int32_t segment
        cdef int64_t at, found
        cdef const Part* part
        cdef cnp.ndarray out, segments, positions
        cdef char* values
        cdef int32_t* numbers
        cdef int32_t* places
        self.check_column(job.column)
        if job.nbytes != self.nbytes[job.column] or not job.ragged or not 0 < size <= MAX_STEPS:
            raise ValueError("packing needs a sequence, and rows of 1 to 2**31 - 1 steps")
        if job.widen or job.skip or job.left:
            raise ValueError("packing neither widens nor skips nor pads before a row")
        for row in range(rows):
            if not (ends[row - 1] if row else 0) <= ends[row] <= ids.shape[0]:
                raise ValueError(f"ends must not decrease, up to {ids.shape[0]}; received {ends[row]}")
        out = job.empty(rows, size)
        segments = cnp.PyArray_ZEROS(2, [rows, size], cnp.NPY_INT32, 0)
        positions = cnp.PyArray_ZEROS(2, [rows, size], cnp.NPY_INT32, 0)
        values = cnp.PyArray_BYTES(out)
        numbers, places = <int32_t*>cnp.PyArray_DATA(segments), <int32_t*>cnp.PyArray_DATA(positions)
        with nogil:
            for row in range(rows):
                used, segment = 0, 0
                while bad < 0 and i < ends[row]:
                    if not 0 <= ids[i] < self.rows or not self.find(job.column, ids[i], &part, &at, &found):
                        bad = i
                        break
                    steps = max(found, 0)
                    if steps + job.added > size - used:
                        bad = i
                        break
                    if ahead:
                        memcpy(values + used * nbytes, &job.begin[0], nbytes)
                    if steps:
                        memcpy(values + (used + ahead) * nbytes, part.data + at * nbytes, steps * nbytes)
                    if job.end.shape[0]:
                        memcpy(values + (used + ahead + steps) * nbytes, &job.end[0], nbytes)
                    segment += 1
                    for k in range(steps + job.added):
                        numbers[used + k] = segment
                        places[used + k] = <int32_t>k
                    used += steps + job.added
                    i += 1
                if bad >= 0:
                    break
                for k in range(used * (nbytes // item), size * (nbytes // item)):
                    memcpy(values + k * item, &job.fill[0], item)
                values += size * nbytes
                numbers += size
                places += size
        if bad >= 0:
            return bad
        return out, segments, positions

    def gather(self, Py_ssize_t column, const int64_t[::1] ids, int64_t start, Py_ssize_t rows):
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
        cdef Py_ssize_t i, nbytes, missing = 0, bad = -1
        cdef int64_t row, at, found, total = 0, size
        cdef const Part* part
        cdef const char* data
        cdef cnp.ndarray out, ends, valid
        cdef char* values
        cdef int64_t* places
        cdef unsigned char* there
        cdef Plan plan
        self.check_column(column)
        if ids is not None and ids.shape[0] != rows:
            raise ValueError(f"ids must have {rows} elements; received {ids.shape[0]}")
        if ids is None and rows and not 0 <= start <= self.rows - rows:
            return 0
        plan, nbytes = Plan(rows), self.nbytes[column]
        ends, valid = cnp.PyArray_EMPTY(1, [rows + 1], cnp.NPY_INT64, 0), cnp.PyArray_EMPTY(1, [rows], cnp.NPY_UINT8, 0)
        places, there = <int64_t*>cnp.PyArray_DATA(ends), <unsigned char*>cnp.PyArray_DATA(valid)
        places[0] = 0
        with nogil:
            for i in range(rows):
                row = start + i if ids is None else ids[i]
                if not 0 <= row < self.rows or not self.find(column, row, &part, &at, &found):
                    bad = i
                    break
                there[i] = found >= 0
                missing += found < 0
                plan.spans[i].data = part.data + at * nbytes if found > 0 else NULL
                if part.offsets == NULL:
                    found = 1
                total += max(found, 0)
                places[i + 1] = total
        if bad >= 0:
            return bad
        out = cnp.PyArray_EMPTY(1, [total * nbytes], cnp.NPY_UINT8, 0)
        values = cnp.PyArray_BYTES(out)
        with nogil:
            i = 0
            while i < rows:
                data, at, size = plan.spans[i].data, places[i] * nbytes, (places[i + 1] - places[i]) * nbytes
                i += 1
                if data == NULL:
                    memset(values + at, 0, size)
                    continue
                while i < rows and plan.spans[i].data == data + size:  # rows that lie together are copied together
                    size = places[i + 1] * nbytes - at
                    i += 1
                if i + AHEAD < rows:
                    KSEQ_PREFETCH(plan.spans[i + AHEAD].data)
                memcpy(values + at, data, size)
        return out, ends, valid if missing else None

    cdef check_column(self, Py_ssize_t column):
        if not 0 <= column < self.columns:
            raise IndexError(f"a column must be in [0, {self.columns}); received {column}")
