"""The kernels of records and of order: the compiled ones against their NumPy definitions, on what is and what lies."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kseq import _ext
from kseq._ext import reference_columns, reference_order, reference_table, reference_widen

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
DTYPES = [np.dtype(c) for c in ("?", "i1", "u2", "i4", "i8", "u8", "f4", "f8", "c8", "f2", "M8[s]", "U2")]
DTYPES += [np.dtype(ml_dtypes.bfloat16), np.dtype([("a", "i1"), ("b", "f4")])]
NUMBERS = [np.dtype(c) for c in ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")]
WIDENED = [(a, b) for a in NUMBERS for b in NUMBERS if a != b and np.can_cast(a, b, "safe")]
INT32 = [-(2**31), -7, -1, 0, 1, 2, 3, 9, 2**31 - 1]
NO_BYTES = np.empty(0, np.uint8)


def bytes_of(rng, dtype, count):
    """The bytes of `count` values of a dtype."""
    if dtype.kind in "?b":
        return rng.integers(0, 2, count).astype(np.uint8)
    if dtype.kind == "U":
        return np.array([chr(c) for c in rng.integers(97, 123, count)], dtype).view(np.uint8).reshape(-1)
    if dtype.kind in "fc" or dtype.isbuiltin != 1:  # no NaN, whose bits may change in a conversion
        return np.ascontiguousarray(rng.integers(0, 100, count).astype(dtype)).view(np.uint8).reshape(-1)
    return rng.integers(0, 256, count * dtype.itemsize).astype(np.uint8)


def table_columns(seed, counts, kinds):
    """Columns of chunks of `counts` rows, for each kind (dtype, inner shape, ragged, optional)."""
    rng = np.random.default_rng(seed)
    columns = []
    for dtype, inner, ragged, optional in kinds:
        numbers, chunks = int(np.prod(inner, dtype=int)), []
        for rows in counts:
            lengths = rng.integers(0, 6, rows) if ragged else np.ones(rows, int)
            valid = None
            if optional:
                there = rng.random(rows) < 0.6
                valid = np.packbits(there, bitorder="little")
                lengths = np.where(there | (not ragged), lengths, 0)
            before = int(rng.integers(0, 3)) if ragged else 0
            offsets = np.concatenate([[before], before + np.cumsum(lengths)]).astype(np.int32) if ragged else None
            steps = before + int(lengths.sum()) + int(rng.integers(0, 2))
            chunks.append((bytes_of(rng, dtype, steps * numbers), offsets, valid))
        columns.append((dtype.itemsize * numbers, chunks))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), columns


def both_tables(first, columns):
    return _ext.Table(first, columns), reference_table.Table(first, columns)


def assert_same(got, wanted):
    if wanted is None or isinstance(wanted, int) or (isinstance(wanted, tuple) and isinstance(wanted[0], int)):
        assert got == wanted
        return
    for a, b in zip(got, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert a.tobytes() == b.tobytes()


KINDS = st.tuples(st.sampled_from(DTYPES), st.sampled_from([(), (1,), (3,), (2, 2)]), st.booleans(), st.booleans())
COUNTS = st.lists(st.integers(0, 7), min_size=0, max_size=5)


@st.composite
def jobs(draw, kinds):
    """For some columns the arguments of a `Job`, and its target."""
    arguments, targets = [], []
    for number in draw(st.lists(st.integers(0, len(kinds) - 1), min_size=1, max_size=3)):
        dtype, inner, ragged, _ = kinds[number]
        shown = draw(st.sampled_from([dtype, *(b for a, b in WIDENED if a == dtype)]))
        numbers = int(np.prod(inner, dtype=int))
        rng = np.random.default_rng(draw(st.integers(0, 9)))
        fill = bytes_of(rng, shown, 1) if draw(st.booleans()) else np.zeros(shown.itemsize, np.uint8)
        end = bytes_of(rng, shown, numbers) if ragged and draw(st.booleans()) else NO_BYTES
        begin = bytes_of(rng, shown, numbers) if ragged and draw(st.booleans()) else NO_BYTES
        cut, skip, left = draw(st.integers(0, 2)), draw(st.integers(0, 4)), draw(st.booleans())
        marks = (begin, skip * ragged, left and ragged)
        arguments.append((number, dtype.itemsize * numbers, dtype, shown, inner, ragged, fill, end, cut, *marks))
        targets.append(draw(st.sampled_from([-1, -1, 0, 1, 2, 4, 9])))
    return arguments, tuple(targets)


@UNHURRIED
@given(st.data())
def test_tables_are_the_same(data):
    kinds = data.draw(st.lists(KINDS, min_size=1, max_size=3))
    first, columns = table_columns(data.draw(st.integers(0, 99)), data.draw(COUNTS), kinds)
    tables = both_tables(first, columns)
    rows = int(first[-1])
    if data.draw(st.booleans()):  # rows in any order, some of which are perhaps not there
        ids = data.draw(st.lists(st.integers(-1 if data.draw(st.booleans()) else 0, max(rows - 1, 0)), max_size=12))
        ids, start, count = np.array(ids, np.int64), 0, len(ids)
    else:
        ids, start, count = None, data.draw(st.integers(0, rows)), data.draw(st.integers(0, rows + 1))
    for number in range(len(kinds)):
        got = []
        for table in tables:
            out = np.full(rows if ids is None else count, -9, np.int64)
            got.append((table.lengths(number, ids, out), out.tolist(), table.check(number)))
            got[-1] += tuple(table.locate(number, row) for row in range(rows))
        assert got[0] == got[1]
        assert_same(*(table.gather(number, ids, start, count) for table in tables))
    arguments, targets = data.draw(jobs(kinds))
    results = [
        table.batch(tuple(module.Job(*a) for a in arguments), ids, start, count, targets)
        for table, module in zip(tables, (_ext, reference_table), strict=True)
    ]
    assert_same(*results)


@UNHURRIED
@given(st.data())
def test_lying_offsets_are_found_and_never_followed(data):
    """The sanitised builds of test_ext_build.py see any byte that is read beyond a chunk."""
    dtype = data.draw(st.sampled_from([np.dtype("u1"), np.dtype("i4"), np.dtype("f4")]))
    kinds = [(dtype, data.draw(st.sampled_from([(), (2,)])), True, data.draw(st.booleans()))]
    first, columns = table_columns(data.draw(st.integers(0, 99)), data.draw(COUNTS.filter(sum)), kinds)
    chunks = [chunk for chunk in columns[0][1] if len(chunk[1]) > 1]
    for _ in range(data.draw(st.integers(1, 3))):
        offsets = data.draw(st.sampled_from(chunks))[1]
        lie = data.draw(st.sampled_from(INT32) | st.integers(-(2**31), 2**31 - 1))
        offsets[data.draw(st.integers(0, len(offsets) - 1))] = lie
    tables, rows = both_tables(first, columns), int(first[-1])
    assert_same(tables[0].check(0), tables[1].check(0))
    arguments, targets = data.draw(jobs(kinds))
    got = []
    for table, module in zip(tables, (_ext, reference_table), strict=True):
        out = np.zeros(rows, np.int64)
        located = [table.locate(0, row) for row in range(rows)]
        batch = table.batch(tuple(module.Job(*a) for a in arguments), None, 0, rows, targets)
        # Where a length lies, out is not written further.
        got.append((located, table.lengths(0, None, out), out.tolist(), batch, table.gather(0, None, 0, rows)))
    assert got[0][:3] == got[1][:3]
    assert_same(got[0][3], got[1][3])
    assert_same(got[0][4], got[1][4])


@UNHURRIED
@given(st.data())
def test_packed_rows_are_the_same(data):
    kind = data.draw(KINDS)
    kinds = [(kind[0], kind[1], True, kind[3])]
    first, columns = table_columns(data.draw(st.integers(0, 99)), data.draw(COUNTS), kinds)
    tables, rows = both_tables(first, columns), int(first[-1])
    ids = np.array(data.draw(st.lists(st.integers(0, max(rows, 1) - 1), max_size=12)), np.int64)
    if data.draw(st.booleans()) and len(ids):
        ids[-1] = data.draw(st.sampled_from([-1, rows, 2**62]))
    ends = np.array(sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=4))), np.int64)
    arguments = (*data.draw(jobs(kinds))[0][0][:10], 0, False)  # neither skips nor pads on the left
    if arguments[2] != arguments[3]:
        arguments = (
            *arguments[:3],
            arguments[2],
            *arguments[4:6],
            bytes_of(np.random.default_rng(0), arguments[2], 1),
            NO_BYTES,
            0,
        )
    size = data.draw(st.integers(1, 20))
    assert_same(
        *(
            table.packed(module.Job(*arguments), ids, ends, size)
            for table, module in zip(tables, (_ext, reference_table), strict=True)
        )
    )


@pytest.mark.parametrize(("source", "dtype"), WIDENED, ids=lambda d: d.name)
def test_every_widening(source, dtype):
    kinds = [(source, (3,), True, True), (source, (), False, True)]
    first, columns = table_columns(5, [4, 0, 9], kinds)
    for size, chunks in columns:  # the extremes of the dtype
        for data, _, _ in chunks:
            values = data[: len(data) // size * size].view(source)
            limits = (np.finfo if source.kind == "f" else np.iinfo)(source) if source.kind != "b" else None
            if limits is not None:
                values[: len(values) // 3], values[-len(values) // 3 :] = limits.min, limits.max
    tables = both_tables(first, columns)
    fill, empty = np.ones(1, dtype).view(np.uint8), NO_BYTES
    both = [
        (m.Job(0, 3 * source.itemsize, source, dtype, (3,), True, fill, empty, 1),
         m.Job(1, source.itemsize, source, dtype, (), False, fill, empty, 0))
        for m in (_ext, reference_table)
    ]  # fmt: skip
    assert _ext.widens(source, dtype) and reference_widen.widens(source, dtype)
    results = [table.batch(jobs, None, 0, 13, (-1, -1)) for table, jobs in zip(tables, both, strict=True)]
    assert_same(*results)
    lengths = np.zeros(13, np.int64)
    assert tables[0].lengths(0, None, lengths) == -1 and lengths.sum() > 9


def test_what_is_widened_is_never_changed():
    for a in [*DTYPES, *NUMBERS]:
        for b in [*DTYPES, *NUMBERS]:
            assert _ext.widens(a, b) == reference_widen.widens(a, b)
            assert not _ext.widens(a, b) or np.can_cast(a, b, "safe")
    for module in (_ext, reference_table):
        for pair in (("i8", "i4"), ("f4", "f2"), ("i4", "?"), ("f4", "c8"), ("i4", ">i8")):
            source, dtype = map(np.dtype, pair)
            zero = np.zeros(dtype.itemsize, np.uint8)
            with pytest.raises(ValueError, match="does not widen"):
                module.Job(0, source.itemsize, source, dtype, (), True, zero, NO_BYTES, 0)


INT = np.dtype("i4")
ZERO = np.zeros(4, np.uint8)


@pytest.mark.parametrize("module", [_ext, reference_table], ids=["installed", "reference"])
class TestHostile:
    @pytest.mark.parametrize(
        "arguments",
        [
            (0, 4, INT, INT, (), True, np.zeros(3, np.uint8), NO_BYTES, 0),  # fill of 3 bytes
            (0, 4, INT, INT, (), True, ZERO, np.zeros(3, np.uint8), 0),  # end of 3 bytes
            (0, 4, INT, INT, (), False, ZERO, ZERO, 0),  # an end without a sequence
            (0, 8, INT, INT, (), True, ZERO, NO_BYTES, 0),  # a step of 8 bytes
            (0, 4, INT, INT, (2,), True, ZERO, NO_BYTES, 0),
            (0, 5, INT, INT, (), True, ZERO, NO_BYTES, 0),
        ],
    )
    def test_jobs(self, module, arguments):
        with pytest.raises(ValueError):
            module.Job(*arguments)

    @pytest.mark.parametrize(
        ("first", "columns"),
        [
            ([], []),
            ([1, 2], []),
            ([0, 2, 1], [(4, [(np.zeros(99, np.uint8), None, None)] * 2)]),
            ([0, 3], [(4, [(np.zeros(11, np.uint8), None, None)])]),  # 2 steps for 3 rows
            ([0, 3], [(4, [(np.zeros(12, np.uint8), np.zeros(3, np.int32), None)])]),  # 3 offsets for 3 rows
            ([0, 9], [(4, [(np.zeros(36, np.uint8), None, np.zeros(1, np.uint8))])]),  # 8 bits for 9 rows
            ([0, 1], [(4, [])]),
            ([0, 1], [(0, [(np.zeros(4, np.uint8), None, None)])]),
        ],
    )
    def test_tables(self, module, first, columns):
        with pytest.raises(ValueError):
            module.Table(np.array(first, np.int64), columns)

    def table(self, module):
        data, offsets = np.arange(6, dtype=INT).view(np.uint8), np.array([0, 2, 2, 5], np.int32)
        return module.Table(np.array([0, 3]), [(4, [(data, offsets, None)]), (4, [(data, None, None)])])

    def job(self, module, column=0, nbytes=4, ragged=True, dtype=INT, cut=0):
        fill = np.zeros(dtype.itemsize, np.uint8)
        return module.Job(column, nbytes, INT, dtype, (nbytes // 4,) if nbytes > 4 else (), ragged, fill, NO_BYTES, cut)

    def test_rows_and_columns_out_of_range(self, module):
        table = self.table(module)
        jobs = (self.job(module),)
        for column in (-1, 2, 2**40):
            with pytest.raises(IndexError):
                table.check(column)
            with pytest.raises(IndexError):
                table.locate(column, 0)
            with pytest.raises(IndexError):
                table.lengths(column, None, np.zeros(3, np.int64))
            with pytest.raises(IndexError):
                table.batch((self.job(module, column),), None, 0, 3, (-1,))
        for row in (-1, 3, 2**62, -(2**63)):
            with pytest.raises(IndexError):
                table.locate(0, row)
            assert table.lengths(0, np.array([1, row]), np.zeros(2, np.int64)) == 1
            assert table.batch(jobs, np.array([1, row]), 0, 2, (-1,)) == 1
            assert table.batch(jobs, None, row, 1, (-1,)) == 0
        assert table.batch(jobs, None, 1, 3, (-1,)) == 0
        assert table.batch(jobs, None, 2**62, 2**40, (-1,)) == 0
        assert table.lengths(0, None, np.zeros(4, np.int64)) == 3
        for bad in (
            lambda: table.lengths(0, np.zeros(2, np.int64), np.zeros(3, np.int64)),
            lambda: table.batch(jobs, np.zeros(2, np.int64), 0, 3, (-1,)),
            lambda: table.batch(jobs, None, 0, 3, ()),
            lambda: table.batch((self.job(module, nbytes=8),), None, 0, 3, (-1,)),
        ):
            with pytest.raises(ValueError):
                bad()

    def test_a_sequence_shown_as_one_step_has_room_for_one(self, module):
        table = self.table(module)
        for dtype in (INT, np.dtype("f8")):
            job = self.job(module, ragged=False, dtype=dtype)
            assert table.batch((job,), None, 0, 3, (-1,)) == 0
            assert table.batch((job,), np.array([1, 2]), 0, 2, (-1,)) == 1
            assert table.batch((job,), np.array([1]), 0, 1, (-1,))[0].tolist() == [0]

    def test_rows_longer_than_the_target(self, module):
        table = self.table(module)
        assert table.batch((self.job(module),), None, 0, 3, (2,)) == 2
        left = table.batch((self.job(module, cut=1),), None, 0, 3, (2,))
        right = table.batch((self.job(module, cut=2),), None, 0, 3, (2,))
        assert left[0].tolist() == [[0, 1], [0, 0], [3, 4]]
        assert right[0].tolist() == [[0, 1], [0, 0], [2, 3]]

    def test_packing(self, module):
        table, job, ids = self.table(module), self.job(module), np.array([0, 2, 0])
        values, segments, positions = table.packed(job, ids, np.array([2, 3]), 6)
        assert values.tolist() == [[0, 1, 2, 3, 4, 0], [0, 1, 0, 0, 0, 0]]
        assert segments.tolist() == [[1, 1, 2, 2, 2, 0], [1, 1, 0, 0, 0, 0]]
        assert positions.tolist() == [[0, 1, 0, 1, 2, 0], [0, 1, 0, 0, 0, 0]]
        assert table.packed(job, ids, np.array([3]), 6) == 2
        for ends, size in (([2, 1], 6), ([4], 6), ([-1], 6), ([3], 0), ([3], -1), ([3], 2**31)):
            with pytest.raises(ValueError):
                table.packed(job, ids, np.array(ends), size)
        with pytest.raises(ValueError):
            table.packed(self.job(module, dtype=np.dtype("f8")), ids, np.array([3]), 6)
        with pytest.raises(ValueError):
            table.packed(self.job(module, 1, ragged=False), ids, np.array([3]), 6)

    def test_gathering(self, module):
        table = self.table(module)
        for ids, start, rows, bad in ((None, -1, 2, 0), (None, 2, 2, 0), ([0, 3], 0, 2, 1), ([-1], 0, 1, 0)):
            assert table.gather(0, None if ids is None else np.array(ids), start, rows) == bad
        with pytest.raises(ValueError):
            table.gather(0, np.array([0, 1]), 0, 3)
        with pytest.raises(IndexError):
            table.gather(9, None, 0, 1)
        data, ends, valid = table.gather(0, np.array([2, 0, 0]), 0, 3)
        assert data.view(INT).tolist() == [2, 3, 4, 0, 1, 0, 1] and ends.tolist() == [0, 3, 5, 7] and valid is None

    def test_an_empty_table(self, module):
        table = module.Table(np.array([0]), [(4, [])])
        assert (table.rows, table.check(0)) == (0, -1)
        values, mask = table.batch((self.job(module),), None, 0, 0, (-1,))
        assert values.shape == mask.shape == (0, 0)
        assert table.batch((self.job(module),), np.array([0]), 0, 1, (-1,)) == 0


# Columns that are written


@st.composite
def records(draw):
    """Kinds of columns, and records of which some do not fit them."""
    kinds, rng = [], np.random.default_rng(draw(st.integers(0, 99)))
    for number in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from(["string", "bytes", *DTYPES]))
        text = isinstance(dtype, str)
        inner = () if text else draw(st.sampled_from([(), (2,), (2, 1)]))
        kinds.append((f"f{number}", dtype, inner, not text and draw(st.booleans()), draw(st.booleans())))
    rows = []
    for _ in range(draw(st.integers(0, 8))):
        record = {}
        for name, dtype, inner, ragged, optional in kinds:
            odd = draw(st.integers(0, 19))
            if odd == 0 or (optional and odd < 6):
                if odd % 2:
                    record[name] = None
            elif dtype == "string":
                record[name] = draw(st.text("aé漢𝄞\0", max_size=4)) if odd != 7 else b"bytes"
            elif dtype == "bytes":
                record[name] = draw(st.binary(max_size=4)) if odd != 7 else "text"
            else:
                shape = (draw(st.sampled_from([0, 1, 2, 700])),) * ragged + inner
                shape = (*shape, 1) if odd == 8 else shape
                value = bytes_of(rng, dtype, int(np.prod(shape, dtype=int))).view(dtype).reshape(shape)
                if odd == 9 and value.size > 1:
                    value = np.concatenate([value, value])[::2]
                record[name] = value.astype(dtype.newbyteorder()) if odd == 10 and dtype.isbuiltin == 1 else value
                if odd == 11:
                    record[name] = value.tolist()
                if odd > 16 and not shape:
                    record[name] = value[()]  # NumPy's scalar
        if draw(st.integers(0, 19)) == 0:
            record["unknown"] = 1
        rows.append(record)
    return kinds, rows


@UNHURRIED
@given(records())
def test_columns_are_the_same(case):
    kinds, rows = case
    columns = _ext.Columns(kinds), reference_columns.Columns(kinds)
    for _ in range(2):  # they begin anew
        for record in rows:
            assert columns[0].append(record) == columns[1].append(record)
        assert (columns[0].rows, columns[0].nbytes) == (columns[1].rows, columns[1].nbytes)
        for got, wanted in zip(columns[0].take(), columns[1].take(), strict=True):
            for a, b in zip(got, wanted, strict=True):
                assert (a is None) == (b is None)
                assert a is None or (a.dtype == b.dtype and a.tolist() == b.tolist())
        assert columns[0].rows == columns[1].rows == 0


@UNHURRIED
@given(records(), st.data())
def test_columns_that_are_extended_are_the_same(case, data):
    kinds, rows = case
    columns = _ext.Columns(kinds, 3000), reference_columns.Columns(kinds, 3000)
    source = reference_columns.Columns(kinds)
    for record in rows:
        source.append(record)
    count, taken = source.rows, source.take()
    bare = [(data, None if ends is None else ends.astype(np.int64), valid) for data, ends, valid in taken]
    for _ in range(data.draw(st.integers(1, 3))):
        for record in rows[: data.draw(st.integers(0, 3))]:
            assert columns[0].append(record) == columns[1].append(record)
        end = data.draw(st.integers(0, count))
        start = data.draw(st.integers(0, end))
        assert columns[0].extend(bare, start, end) == columns[1].extend(bare, start, end)
        for what in ("rows", "nbytes", "room", "number"):
            assert getattr(columns[0], what) == getattr(columns[1], what)
    for got, wanted in zip(columns[0].take(), columns[1].take(), strict=True):
        for a, b in zip(got, wanted, strict=True):
            assert (a is None) == (b is None)
            assert a is None or (a.dtype == b.dtype and a.tolist() == b.tolist())


@pytest.mark.parametrize("module", [_ext, reference_columns], ids=["installed", "reference"])
@pytest.mark.parametrize("bad", ["size", "start", "order", "end", "offsets", "no offsets", "valid", "columns", "rows"])
def test_columns_refuse_what_does_not_agree(module, bad):
    columns = module.Columns([("a", INT, (), True, False), ("b", INT, (), False, True)])
    data, ends = np.arange(12, dtype="u1"), np.array([0, 2, 3])
    good = [(data, ends, None), (data[:8], None, np.array([1, 0], "u1"))]
    change = {
        "size": (data[:11], ends, None),
        "start": (data, ends - 1, None),
        "order": (data, np.array([0, 4, 3]), None),
        "end": (data, np.array([0, 2, 4]), None),
        "offsets": (data, ends[:2], None),
        "no offsets": (data, None, None),
        "valid": (data, ends, np.ones(1, "u1")),
    }
    wrong = [change[bad], good[1]] if bad in change else good[:1] if bad == "columns" else good
    with pytest.raises(ValueError, match="column"):
        columns.extend(wrong, 0, -1 if bad == "rows" else 2)
    assert columns.extend(good, 0, 2) == 0 and columns.rows == columns.number == 2
    (_, offsets, _), (values, _, valid) = columns.take()
    assert offsets.tolist() == [0, 2, 3] and values.tolist() == list(range(8)) and valid.tolist() == [1, 0]


@pytest.mark.parametrize("module", [_ext, reference_columns], ids=["installed", "reference"])
def test_columns_append_all_of_a_record_or_nothing(module):
    columns = module.Columns([("a", INT, (), True, False), ("b", "string", (), False, False)])
    value = np.arange(3, dtype=INT)
    assert columns.append({"a": value, "b": "x"}) == 0
    assert columns.append({"a": value, "b": 5}) == -2
    assert columns.append({"a": value.astype(">i4"), "b": "y"}) == -1
    assert columns.append({"a": value, "b": "y", "c": 1}) == -3
    assert columns.append({"b": "y"}) == -1
    assert columns.append([]) == columns.append(None) == -3
    with pytest.raises(UnicodeEncodeError):
        columns.append({"a": value, "b": "\ud800"})
    (data, offsets, valid), (text, ends, _) = columns.take()
    assert (data.view(INT).tolist(), offsets.tolist(), valid) == ([0, 1, 2], [0, 3], None)
    assert (text.tobytes(), ends.tolist()) == (b"x", [0, 1])


@pytest.mark.parametrize("module", [_ext, reference_columns], ids=["installed", "reference"])
def test_columns_know_how_much_room_there_is(module):
    columns = module.Columns([("a", np.dtype("i8"), (), False, False)], 40)  # 12 bytes a record, with its offset
    columns.number, columns.room = 7, 2
    assert [columns.append({"a": n}) for n in range(3)] == [7, 8, -3] and columns.rows == 2
    columns.room = 9
    assert [columns.append({"a": n}) for n in range(3)] == [9, 10, -3] and (columns.nbytes, columns.room) == (48, 0)
    columns.take()
    columns.room = 3
    assert columns.extend([(np.zeros(40, "u1"), None, None)], 3, 5) == 11 and columns.room == 1


@pytest.mark.parametrize("module", [_ext, reference_columns], ids=["installed", "reference"])
@pytest.mark.parametrize("kept", [(), (0,), (1,), (2,), (0, 1, 2)])
def test_what_was_taken_stays_as_it_was(module, kept):
    columns = module.Columns([("a", INT, (), True, True)])
    columns.append({"a": np.arange(3, dtype=INT)})
    columns.append({})
    taken = columns.take()[0]
    held, wanted = [taken[part] for part in kept], [taken[part].copy() for part in kept]
    del taken
    for n in range(600):  # beyond what there was room for
        columns.append({"a": np.full(5, n, INT)})
        assert all(np.array_equal(a, b) for a, b in zip(held, wanted, strict=True))
    data, offsets, valid = columns.take()[0]
    assert data.view(INT).tolist() == np.repeat(np.arange(600), 5).tolist() and valid is None
    assert offsets.tolist() == list(range(0, 3001, 5))


# Order


@UNHURRIED
@given(st.integers(0, 300) | st.sampled_from([2**31, 2**53 + 1, 2**62]), st.integers(0, 2**64 - 1), st.data())
def test_permutations_are_the_same(size, key, data):
    count = min(size, 300)
    start = data.draw(st.integers(0, size - count))
    got, wanted = np.empty(count, np.int64), np.empty(count, np.int64)
    _ext.permute(start, size, key, got)
    reference_order.permute(start, size, key, wanted)
    assert got.tolist() == wanted.tolist()
    assert len(set(got.tolist())) == count
    if count:
        assert got.min() >= 0 and got.max() < size
    if size <= 300:
        assert sorted(got.tolist()) == list(range(size))
        part = np.empty(size // 2, np.int64)
        _ext.permute(size - size // 2, size, key, part)
        assert part.tolist() == got[size - size // 2 :].tolist()


@pytest.mark.parametrize("module", [_ext, reference_order], ids=["installed", "reference"])
@pytest.mark.parametrize(("start", "size"), [(-1, 5), (3, 5), (0, -1), (0, 2**62 + 1), (2**63 - 1, 9), (0, 2)])
def test_positions_out_of_range(module, start, size):
    with pytest.raises(ValueError):
        module.permute(start, size, 1, np.empty(3, np.int64))


@UNHURRIED
@given(st.lists(st.integers(-1, 20) | st.sampled_from([2**20, 2**20 + 1, 2**62]), max_size=40))
def test_orders_are_the_same(lengths):
    lengths = np.array(lengths, np.int64)
    got, wanted = np.full(len(lengths), -1), np.full(len(lengths), -1)
    assert _ext.order_by_length(lengths, got) == reference_order.order_by_length(lengths, wanted)
    assert got.tolist() == wanted.tolist()


@UNHURRIED
@given(st.integers(0, 2**64 - 1))
def test_scramble_is_the_same(number):
    assert _ext.scramble(number) == reference_order.scramble(number)


@UNHURRIED
@given(st.lists(st.integers(0, 12), max_size=60), st.integers(0, 12), st.integers(1, 9))
def test_packing_is_the_same(lengths, size, bins):
    lengths = np.array(lengths, np.int64)
    got, wanted = np.full(len(lengths), -1), np.full(len(lengths), -1)
    opened = _ext.pack(lengths, size, bins, got)
    assert opened == reference_order.pack(lengths, size, bins, wanted)
    assert got.tolist() == wanted.tolist()
    if opened >= 0:
        assert np.bincount(got, lengths, minlength=1).max() <= size
        assert sorted(set(got.tolist())) == list(range(opened))


@pytest.mark.parametrize("module", [_ext, reference_order], ids=["installed", "reference"])
def test_hostile_packing(module):
    lengths, out = np.array([3, 2, 4], np.int64), np.zeros(3, np.int64)
    # Rows that could never be needed cost no memory, however many are asked for.
    assert module.pack(lengths, 5, 2**61, out) == 2 and out.tolist() == [0, 0, 1]
    assert module.pack(np.array([1, -1, 2]), 5, 2, out) == -2
    assert module.pack(np.array([1, 1, 6]), 5, 2, out) == -3
    assert module.pack(lengths, -1, 2, out) == -1
    assert module.pack(np.zeros(0, np.int64), 5, 2, np.zeros(0, np.int64)) == 0
    for bins, target in ((0, out), (-1, out), (2, np.zeros(2, np.int64))):
        with pytest.raises(ValueError):
            module.pack(lengths, 5, bins, target)
