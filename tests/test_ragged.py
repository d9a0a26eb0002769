"""Ragged rows: both sets of kernels against padding written out row by row."""

import threading

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kseq import _ext, masks, ragged
from kseq._ext import reference
from kseq.ragged import Ragged, flatten, pad, unpad

KERNELS = ["compact", "copy_spans", "lengths_to_mask", "mask_to_lengths", "pad_rows", "pad_spans", "row_lengths"]
DTYPES = [
    *(np.dtype(c) for c in "?bBhHiIlLqQefdgFDG"),
    np.dtype(">i4"),
    np.dtype(">f8"),
    np.dtype(ml_dtypes.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn),
    np.dtype(ml_dtypes.int4),
]
LAYOUTS = ["plain", "strided", "reversed", "transposed", "read-only", "subclass", "unaligned"]


@pytest.fixture(params=["installed", "reference"], autouse=True)
def kernels(request, monkeypatch):
    """Every test runs on the kernels as installed (compiled where possible) and on their NumPy definition."""
    if request.param == "reference":
        for name in KERNELS:
            monkeypatch.setattr(_ext, name, getattr(reference, name))


def laid_out(row, layout):
    """The same row in memory of another kind."""
    if layout == "strided":
        wide = np.zeros((2 * len(row), *row.shape[1:]), row.dtype)
        wide[::2] = row
        return wide[::2]
    if layout == "reversed":
        return row[::-1].copy()[::-1]
    if layout == "transposed":
        return row.T.copy().T
    if layout == "read-only":
        row.flags.writeable = False
    if layout == "subclass":
        return row.view(type("Vector", (np.ndarray,), {}))
    if layout == "unaligned":
        shifted = np.empty(row.nbytes + 1, np.uint8)[1:].view(row.dtype).reshape(row.shape)
        shifted[...] = row
        return shifted
    return row


def random_rows(rng, lengths, trailing, dtype, layout="plain"):
    rows = []
    for length in lengths:
        row = rng.integers(0, 2 if dtype.kind == "b" else 7, (length, *trailing)).astype(dtype)
        rows.append(laid_out(row, layout))
    return rows


def brute_pad(rows, target, trailing, dtype, value=0, side="right", truncate=None):
    values = np.full((len(rows), target, *trailing), value).astype(dtype)
    mask = np.zeros((len(rows), target), bool)
    for i, row in enumerate(rows):
        row = row[max(len(row) - target, 0) :] if truncate == "left" else row[:target]
        for step in range(len(row)):
            at = target - len(row) + step if side == "left" else step
            values[i, at], mask[i, at] = row[step], True
    return values, mask


def assert_same(got, wanted):
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.array_equal(a, b)


@st.composite
def paddings(draw):
    rows = draw(st.lists(st.integers(0, 12), min_size=1, max_size=8))
    length = draw(st.none() | st.integers(0, 15))
    multiple_of = draw(st.none() | st.integers(1, 6))
    target = max(rows) if length is None else length
    target = -(-target // (multiple_of or 1)) * (multiple_of or 1)
    sides = ["left", "right"] if target < max(rows) else [None, "left", "right"]
    return {
        "lengths": rows,
        "target": target,
        "trailing": draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,), (40,), (2, 0, 3)])),
        "dtype": draw(st.sampled_from(DTYPES)),
        "layout": draw(st.sampled_from(LAYOUTS)),
        "value": draw(st.sampled_from([0, 1, True])),
        "side": draw(st.sampled_from(["left", "right"])),
        "truncate": draw(st.sampled_from(sides)),
        "arguments": {"length": length, "multiple_of": multiple_of},
    }


@given(paddings(), st.integers(0, 99))
def test_pad_from_a_list_and_from_flat_storage(case, seed):
    rng = np.random.default_rng(seed)
    rows = random_rows(rng, case["lengths"], case["trailing"], case["dtype"], case["layout"])
    how = {name: case[name] for name in ("value", "side", "truncate")}
    wanted = brute_pad(rows, case["target"], case["trailing"], case["dtype"], **how)
    assert_same(pad(rows, **how, **case["arguments"]), wanted)
    flat = Ragged.from_rows(rows)
    assert_same(flat.pad(**how, **case["arguments"]), wanted)
    assert_same(pad(flat, **how, **case["arguments"]), wanted)
    order = rng.integers(-len(rows), len(rows), 10)
    wanted = brute_pad([rows[i] for i in order], case["target"], case["trailing"], case["dtype"], **how)
    assert_same(flat.pad(order, **how, length=case["target"]), wanted)
    outs = np.empty_like(wanted[0]), np.empty_like(wanted[1])
    got = flat.pad(order, **how, out=outs)
    assert got[0] is outs[0]
    assert got[1] is outs[1]
    assert_same(got, wanted)


@given(st.lists(st.integers(0, 12), max_size=8), st.sampled_from(DTYPES), st.sampled_from([(), (3,), (0, 2)]))
def test_flat_storage_holds_the_rows(lengths, dtype, trailing):
    rows = random_rows(np.random.default_rng(0), lengths, trailing, dtype)
    flat = Ragged.from_rows(rows) if rows else Ragged.from_rows([], dtype)
    assert len(flat) == len(rows)
    np.testing.assert_array_equal(flat.lengths, np.array(lengths, int))
    assert_same(flat.rows, rows)
    assert_same(list(flat), rows)
    for i in range(-len(rows), len(rows)):
        assert_same([flat[i]], [rows[i]])
    for part in (slice(1, 4), slice(None, -1), slice(5, 2), slice(-3, None)):
        assert flat[part].values is flat.values
        assert_same(flat[part].rows, rows[part])
        assert_same(flat[part].take(range(len(rows[part]))).rows, rows[part])
    values, mask = flat.pad()
    assert_same(unpad(values, mask), rows)
    assert_same(unpad(values, lengths), rows)
    assert_same(unpad(*flat.pad(side="left")), rows)


@given(st.integers(0, 5), st.integers(0, 12), st.sampled_from(DTYPES), st.sampled_from([(), (2,), (0,)]))
def test_a_mask_with_holes_is_compacted(batch, steps, dtype, trailing):
    rng = np.random.default_rng(steps)
    values = rng.integers(0, 2, (batch, steps, *trailing)).astype(dtype)
    mask = rng.random((batch, steps)) < 0.6
    mask = mask.astype(np.uint8) * np.uint8(3)
    mask = mask.view(bool)  # True in another byte than 1
    flat = flatten(values, mask)
    assert_same(flat.rows, [row[keep != 0] for row, keep in zip(values, mask.view(np.uint8), strict=True)])
    assert_same(flatten(values, None).rows, list(values))
    assert_same(
        flatten(values[:, ::2], mask[:, ::2]).rows,
        [r[k] for r, k in zip(values[:, ::2], mask[:, ::2] != 0, strict=True)],
    )


@pytest.mark.parametrize("value", [-1, 2.5, float("nan"), float("-inf"), 1e-3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("features", [2, 300])
def test_padding_values(value, dtype, features):
    rows = random_rows(np.random.default_rng(0), [2, 0, 5], (features,), np.dtype(dtype))
    for side in ("left", "right"):
        wanted = brute_pad(rows, 6, (features,), dtype, value, side)
        got = pad(rows, value=value, side=side, length=6)
        np.testing.assert_array_equal(got[0].astype(complex), wanted[0].astype(complex))
        np.testing.assert_array_equal(got[1], wanted[1])


def test_conversion_to_another_dtype():
    rows = [np.array([1, 2]), np.array([3.7]), [True]]
    values, mask = pad(rows, dtype="int16", value=-1)
    assert values.dtype == np.int16
    np.testing.assert_array_equal(values, [[1, 2], [3, -1], [1, -1]])
    np.testing.assert_array_equal(mask, [[True, True], [True, False], [True, False]])
    flat = Ragged(np.arange(6), [1, 3, 4])
    values, _ = flat.pad([1, 0], dtype=ml_dtypes.bfloat16, value=-1)
    assert values.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(values.astype(int), [[3, -1], [1, 2]])
    assert pad([np.ones(2, np.float32)], dtype=np.float64, out=np.zeros((1, 2)))[0].tolist() == [[1, 1]]
    assert Ragged.from_rows([[1], [2]], "float32").values.dtype == np.float32


def test_array_likes_and_empty_lists_are_rows():
    values, mask = pad([[], [1, 2], (), range(1)])
    np.testing.assert_array_equal(values, [[0, 0], [1, 2], [0, 0], [0, 0]])
    np.testing.assert_array_equal(mask.sum(1), [0, 2, 0, 1])
    assert pad([[], [[1.5, 2]]])[0].shape == (2, 1, 2)
    assert pad([[], []])[0].shape == (2, 0)
    assert pad([[]], dtype=np.int8, length=2)[0].dtype == np.int8
    assert pad(np.arange(6).reshape(2, 3))[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    mixed = np.empty(2, object)
    mixed[:] = [np.arange(2), np.arange(1)]
    assert pad(mixed)[0].tolist() == [[0, 1], [0, 0]]


def test_no_rows_and_no_steps():
    values, mask = pad([])
    assert (values.shape, values.dtype, mask.shape, mask.dtype) == ((0, 0), np.float64, (0, 0), bool)
    values, mask = pad([], length=5, dtype=np.int32)
    assert (values.shape, values.dtype, mask.shape) == ((0, 5), np.int32, (0, 5))
    out = np.empty((0, 4, 3), np.float32)
    assert pad([], out=out)[0] is out
    assert pad([], length=10**15)[1].shape == (0, 10**15)  # nothing of that size is allocated
    values, mask = Ragged(np.ones((4, 2)), [3]).pad()
    assert (values.shape, mask.shape) == ((0, 0, 2), (0, 0))
    values, mask = Ragged(np.ones((4, 2)), [3, 3, 3]).pad(multiple_of=4)
    assert (values.shape, mask.shape) == ((2, 0, 2), (2, 0))
    assert Ragged.from_rows([]).rows == []
    assert flatten(np.ones((0, 3)), []).rows == []
    assert len(Ragged(np.ones(3), [0, 3]).take([])) == 0


def test_out_is_filled_in_place():
    rows = [np.array([1, 2], np.int32), np.array([3], np.int32)]
    out = np.full((2, 4), 9, np.int32)
    values, mask = pad(rows, out=out, side="left")
    assert values is out
    assert out.tolist() == [[0, 0, 1, 2], [0, 0, 0, 3]]
    again = pad(rows, out=(out, mask), length=4)
    assert again[1] is mask
    assert mask.tolist() == [[True, True, False, False], [True, False, False, False]]


def test_ragged_shares_what_it_is_given():
    values, offsets = np.arange(6.0).reshape(3, 2), np.array([0, 1, 3])
    values.flags.writeable = offsets.flags.writeable = False
    flat = Ragged(values, offsets)
    assert np.shares_memory(flat.values, values)
    assert np.shares_memory(flat.offsets, offsets)
    assert np.shares_memory(flat[1], values)
    assert repr(flat) == "Ragged(rows=2, values=float64[3, 2])"
    assert flat.pad()[0].shape == (2, 2, 2)


def test_rows_that_another_thread_changes_stay_inside():
    rows = [np.arange(20, dtype=np.int32) for _ in range(300)]
    stop = threading.Event()

    def churn():
        i = 0
        while not stop.is_set():
            rows[i % 300] = np.arange(i % 21, dtype=np.int32)
            i += 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(50):
            values, mask = pad(rows, length=20)
            assert (values.max(axis=1) == np.maximum(mask.sum(1) - 1, 0)).all()
    finally:
        stop.set()
        thread.join()


def test_offsets_that_are_changed_afterwards_are_refused():
    offsets = np.array([0, 2, 4])
    flat = Ragged(np.arange(4), offsets)
    for changed in (10**9, -5):
        offsets[1] = changed
        with pytest.raises(ValueError, match="offsets have been changed"):
            flat.pad(length=3, truncate="right")
        with pytest.raises(ValueError, match="offsets have been changed"):
            flat.pad([1], length=3, truncate="right")


INT = np.dtype(int)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pad(5), TypeError, r"list or tuple of arrays \[T, ...\]; received int"),
        (lambda: pad([np.ones(2), 3.0]), ValueError, r"row 1 must have shape \[T, ...\]; received shape \(\)"),
        (lambda: pad([np.float32(3)]), ValueError, r"row 0 .* received shape \(\) and dtype float32"),
        (lambda: pad([np.array(3)]), ValueError, r"row 0 must have shape \[T, ...\]; received shape \(\)"),
        (
            lambda: pad([np.ones((2, 3)), np.ones((2, 4))]),
            ValueError,
            r"row 1 .* trailing shape \(3,\), like row 0; received shape \(2, 4\)",
        ),
        (lambda: pad([np.ones((2, 3)), np.ones(2)]), ValueError, r"row 1 .* \(3,\), .*; received shape \(2,\)"),
        (lambda: pad([np.ones(2), np.ones(2, "f")]), TypeError, "row 1 must have dtype float64, .* received float32"),
        (lambda: pad([np.ones(2), [1]]), TypeError, "row 1 must have dtype float64, .* received int64"),
        (lambda: pad([[], np.array(["a"])]), TypeError, "row 1 must have a numeric dtype; received <U1"),
        (lambda: pad([np.array([None])]), TypeError, "row 0 must have a numeric dtype; received object"),
        (lambda: pad([np.zeros(2, "i4,f4")]), TypeError, "row 0 must have a numeric dtype; received"),
        (lambda: pad([np.zeros(2, "M8[s]")]), TypeError, "row 0 must have a numeric dtype; received datetime64"),
        (lambda: pad([[[1], [1, 2]]]), ValueError, r"row 0 must be an array \[T, ...\]; received list"),
        (lambda: pad([[1], [1, 2, 3]], length=2), ValueError, "at most 2 steps .* received row 1 with 3 steps"),
        (lambda: Ragged.from_rows([[1, 2]]).pad(length=1), ValueError, "at most 1 steps .* received row 0 with 2"),
        (lambda: pad([[1]], length=-1), ValueError, "length must be at least 0; received -1"),
        (lambda: pad([[1]], length=2.0), TypeError, "length must be an integer; received 2.0"),
        (lambda: pad([[1]], multiple_of=0), ValueError, "multiple_of must be at least 1; received 0"),
        (lambda: pad([[1]], side="up"), ValueError, 'side must be "left" or "right"; received \'up\''),
        (lambda: pad([[1]], truncate=True), ValueError, 'truncate must be None, "left" or "right"; received True'),
        (lambda: pad([[1]], value=0.5), ValueError, "value must be one that int64 can hold; received 0.5"),
        (lambda: pad([np.zeros(1, "u1")], value=-1), ValueError, "one that uint8 can hold; received -1"),
        (lambda: pad([np.zeros(1, "e")], value=1e9), ValueError, "one that float16 can hold; received 1000000000.0"),
        (lambda: pad([np.zeros(1, "f")], value=1j), ValueError, "one that float32 can hold; received 1j"),
        (lambda: pad([[1]], value=float("nan")), ValueError, "one that int64 can hold; received nan"),
        (lambda: pad([[1]], value=[1, 2]), ValueError, r"value must be a scalar; received shape \(2,\)"),
        (lambda: pad([[1]], value="x"), TypeError, "value must have a numeric dtype; received <U1"),
        (lambda: pad([[1]], out=[[0]]), TypeError, "out must be a NumPy array; received list"),
        (lambda: pad([[1]], out=np.zeros((1, 1))), TypeError, "out must have dtype int64; received float64"),
        (lambda: pad([[1]], out=np.zeros((2, 1), INT)), ValueError, r"shape \(1, 1\); received \(2, 1\)"),
        (lambda: pad([[1]], out=np.zeros((1, 4), INT)[:, ::2]), ValueError, "writeable; received a non-contiguous"),
        (lambda: pad([[1]], out=np.frombuffer(bytes(8), INT)[None]), ValueError, "writeable; received a read-only"),
        (lambda: pad([[1]], out=(None, np.zeros((1, 1)))), TypeError, "the mask of out must have dtype bool"),
        (lambda: Ragged(3, [0]), ValueError, r"values must have shape \[N, ...\]; received shape \(\)"),
        (lambda: Ragged(np.array(["a"]), [0]), TypeError, "values must have a numeric dtype; received <U1"),
        (lambda: Ragged(np.ones(3), []), ValueError, "one element more than there are rows; received none"),
        (lambda: Ragged(np.ones(3), [0.0, 1.0]), TypeError, "offsets must be integers; received float64"),
        (lambda: Ragged(np.ones(3), [[0, 1]]), ValueError, r"offsets must have rank 1; received shape \(1, 2\)"),
        (lambda: Ragged(np.ones(3), [-1, 2]), ValueError, r"must not be negative; received offsets\[0\] = -1"),
        (lambda: Ragged(np.ones(3), [0, 2, 1]), ValueError, r"not decrease; received 2 and then 1 at offsets\[2\]"),
        (lambda: Ragged(np.ones(3), [0, 4]), ValueError, r"in the 3 steps .*; received offsets\[1\] = 4"),
        (lambda: Ragged(np.ones(3), [0, 3])[1], IndexError, r"in \[-1, 1\); received 1"),
        (lambda: Ragged(np.ones(3), [0, 3])[-2], IndexError, r"in \[-1, 1\); received -2"),
        (lambda: Ragged(np.ones(3), [0])[0], IndexError, r"received 0"),
        (lambda: Ragged(np.ones(3), [0, 3])["a"], TypeError, "a row index must be an integer; received 'a'"),
        (lambda: Ragged(np.ones(3), [0, 3])[::2], ValueError, "must have step 1 .*; received 2"),
        (lambda: Ragged(np.ones(3), [0, 3]).take([0, 1]), IndexError, r"in \[-1, 1\); received 1 at position 1"),
        (lambda: Ragged(np.ones(3), [0, 3]).pad([-2]), IndexError, r"in \[-1, 1\); received -2 at position 0"),
        (lambda: Ragged(np.ones(3), [0, 3]).take([True]), TypeError, "row indices must be integers; received bool"),
        (lambda: unpad(np.ones(3), [1]), ValueError, r"values must have shape \[B, T, ...\]; received shape \(3,\)"),
        (lambda: unpad(np.ones((2, 3)), [1]), ValueError, "batch of the values, 2; received 1"),
        (lambda: unpad(np.ones((2, 3)), [1, 4]), ValueError, r"at most 3; received lengths\[1\] = 4"),
        (lambda: unpad(np.ones((2, 3)), [1, -4]), ValueError, r"negative; received lengths\[1\] = -4"),
        (lambda: unpad(np.ones((2, 3)), np.ones((2, 2), bool)), ValueError, r"\(2, 3\); received \(2, 2\)"),
        (lambda: unpad(np.ones((2, 3)), np.ones((2, 3))), TypeError, "mask must be bool; received float64"),
    ],
)
def test_errors_say_what_came_and_what_was_wanted(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_rows_that_lie_in_out_are_refused():
    out = np.zeros((2, 3), np.int64)
    with pytest.raises(ValueError, match="share memory with out; received row 1"):
        pad([np.arange(3), out[0]], out=out)
    mask = np.zeros((1, 3), bool)
    with pytest.raises(ValueError, match="share memory with out; received row 0"):
        pad([mask[0]], out=(np.zeros((1, 3), bool), mask))
    flat = Ragged(np.arange(6), [0, 3, 6])
    with pytest.raises(ValueError, match="share memory"):
        flat.pad(out=flat.values.reshape(2, 3))
    with pytest.raises(ValueError, match="share memory"):
        pad([np.ones(3, bool)], out=(mask, mask))


def test_kernels_refuse_what_does_not_fit():
    """The kernels check on their own what memory safety rests on; callers never come this far."""
    if _ext.pad_spans is reference.pad_spans:
        pytest.skip("NumPy checks its own bounds")
    i64, u8 = np.int64, np.uint8
    values, out, mask, fill = np.arange(6), np.zeros((2, 3), i64), np.zeros((2, 3), u8), np.zeros(8, u8)
    starts, lengths = np.array([0, 3]), np.array([3, 3])
    assert _ext.pad_spans(values, starts, np.array([3, 4]), out, mask, fill, False, False) == 1
    assert _ext.pad_spans(values, np.array([-1, 0]), lengths, out, mask, fill, False, False) == 0
    assert _ext.pad_spans(values, np.array([0, 2**62]), lengths, out, mask, fill, False, False) == 1
    assert _ext.pad_spans(values, starts, np.array([1, 2**63 - 1]), out, mask, fill, False, False) == 1
    assert _ext.copy_spans(values, starts, np.array([3, 4]), np.zeros(7, i64)) == 1
    assert _ext.pad_rows((np.arange(3), np.arange(3.0)), out, mask, fill, False, False) == 1
    assert _ext.pad_rows((np.arange(3), None), out, mask, fill, False, False) == 1
    assert not out.any()
    bad_calls = [
        lambda: _ext.pad_spans(values, starts, lengths[:1], out, mask, fill, False, False),
        lambda: _ext.pad_spans(values, starts, lengths, out[:1], mask, fill, False, False),
        lambda: _ext.pad_spans(values, starts, lengths, out, mask[:, :2].copy(), fill, False, False),
        lambda: _ext.pad_spans(values, starts, lengths, out[:, ::2], mask, fill, False, False),
        lambda: _ext.pad_spans(values, starts, lengths, out, mask, fill[:4], False, False),
        lambda: _ext.pad_spans(values.astype("i4"), starts, lengths, out, mask, fill, False, False),
        lambda: _ext.pad_spans(values.astype(object), starts, lengths, out, mask, fill, False, False),
        lambda: _ext.copy_spans(values, starts, lengths, np.zeros(7, i64)),
        lambda: _ext.copy_spans(values, starts, lengths, np.zeros(6, "i4")),
        lambda: _ext.compact(out, np.ones((2, 3), u8), np.zeros(7, i64)),
        lambda: _ext.compact(out, np.ones((2, 4), u8), np.zeros(6, i64)),
        lambda: _ext.compact(out, np.ones((2, 3), u8), np.zeros(6, "i4")),
        lambda: _ext.row_lengths((np.arange(3),), np.zeros(2, i64)),
        lambda: _ext.lengths_to_mask(lengths, np.zeros((3, 3), u8)),
        lambda: _ext.mask_to_lengths(mask, np.zeros(3, i64)),
    ]
    for call in bad_calls:
        with pytest.raises(ValueError, match=r"received|do not fit|more steps|bytes"):
            call()
    with pytest.raises(TypeError):
        _ext.pad_spans(None, starts, lengths, out, mask, fill, False, False)


def test_wide_rows_take_the_exact_path():
    rng = np.random.default_rng(0)
    rows = random_rows(rng, [3, 40, 0, 17], (80,), np.dtype(np.float32))
    for side in ("left", "right"):
        wanted = brute_pad(rows, 40, (80,), np.float32, 1.5, side)
        assert_same(pad(rows, value=1.5, side=side), wanted)
        assert_same(Ragged.from_rows(rows).pad(value=1.5, side=side), wanted)


def test_modules_are_the_ones_under_test():
    assert ragged._ext is _ext
    assert masks._ext is _ext
