"""Masks and lengths: both sets of kernels against the rules written out tap by tap."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kseq import _ext, masks
from kseq._ext import reference
from kseq.timing import Timing
from kseq.window import Window

KERNELS = ["lengths_to_mask", "mask_to_lengths", "window", "transposed_window"]
MODES = [
    "valid",
    "same",
    "causal",
    "causal_valid",
    "reverse_causal",
    "reverse_causal_valid",
    "semicausal",
    "semicausal_full",
]


@pytest.fixture(params=["installed", "reference"], autouse=True)
def kernels(request, monkeypatch):
    """Every test runs on the kernels as installed (compiled where possible) and on their NumPy definition."""
    if request.param == "reference":
        for name in KERNELS:
            monkeypatch.setattr(_ext, name, getattr(reference, name))


def brute_window(mask, kernel_size, strides, dilation_rate, padding):
    """The rule of section 3 of google/sequence-layers' behaviour, tap by tap."""
    steps, window = mask.shape[1], Window(kernel_size, strides, dilation_rate, padding)
    if not isinstance(padding, str) or padding in ("same", "causal", "reverse_causal", "semicausal"):
        return mask[:, ::strides]
    left, _ = window.pads
    out = np.zeros((len(mask), window.output_length(steps)), bool)
    for row, u in np.ndindex(*out.shape):
        taps = []
        for tap in range(kernel_size):
            step = u * strides - left + tap * dilation_rate
            inside = 0 <= step < steps
            taps.append(mask[row, step] if inside else (padding == "causal_valid" and step < 0))
        out[row, u] = any(taps) if padding == "semicausal_full" else all(taps)
    return out


def brute_transposed(mask, kernel_size, strides, dilation_rate, padding):
    """As `brute_window` for a transposed window."""
    steps, window = mask.shape[1], Window(kernel_size, strides, dilation_rate, padding, transposed=True)
    if padding != "valid" or (kernel_size - 1) * dilation_rate + 1 <= strides:
        return np.repeat(mask, strides, axis=1)
    left, _ = window.pads
    out = np.zeros((len(mask), window.output_length(steps)), bool)
    for row, u in np.ndindex(*out.shape):
        at = [u - left + tap * dilation_rate for tap in range(kernel_size)]
        out[row, u] = all(mask[row, n // strides] for n in at if n % strides == 0 and 0 <= n // strides < steps)
    return out


def all_masks(steps):
    """Masks of `steps` steps: every one where there are few, else right-padded, left-padded and random ones."""
    if steps <= 3:
        return np.array(list(itertools.product([False, True], repeat=steps)), bool).reshape(2**steps, steps)
    rng = np.random.default_rng(steps)
    lengths = np.arange(steps + 1)
    prefix = np.arange(steps) < lengths[:, None]
    return np.concatenate([prefix, prefix[:, ::-1], rng.random((6, steps)) < 0.7])


@pytest.mark.parametrize("padding", [*MODES, "explicit"])
def test_window_mask_follows_the_rules(padding):
    for steps, k, s, d in itertools.product([0, 1, 2, 3, 9], range(1, 6), range(1, 4), range(1, 4)):
        mask, reach = all_masks(steps), (k - 1) * d
        for mode in [(0, reach), (reach // 2, reach - reach // 2)] if padding == "explicit" else [padding]:
            got = masks.window_mask(mask, k, s, d, mode)
            wanted = brute_window(mask, k, s, d, mode)
            assert got.dtype == bool
            np.testing.assert_array_equal(got, wanted, err_msg=f"T={steps} k={k} s={s} d={d} {mode}")


@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
def test_transposed_window_mask_follows_the_rules(padding):
    for steps, k, s, d in itertools.product([0, 1, 2, 3, 7], range(1, 6), range(1, 4), range(1, 4)):
        mask = all_masks(steps)
        got = masks.window_mask(mask, k, s, d, padding, transpose=True)
        wanted = brute_transposed(mask, k, s, d, padding)
        np.testing.assert_array_equal(got, wanted, err_msg=f"T={steps} k={k} s={s} d={d} {padding}")


@given(
    st.integers(0, 30), st.integers(1, 12), st.integers(1, 7), st.integers(1, 40), st.sampled_from(MODES), st.randoms()
)
def test_both_kernels_agree_on_any_window(steps, k, s, d, padding, random):
    mask = np.array([[random.random() < 0.7 for _ in range(steps)] for _ in range(2)], bool).reshape(2, steps)
    for transpose in (False, True) if padding in ("valid", "same", "causal") else (False,):
        brute = brute_transposed if transpose else brute_window
        got = masks.window_mask(mask, k, s, d, padding, transpose=transpose)
        np.testing.assert_array_equal(got, brute(mask, k, s, d, padding))


@pytest.mark.parametrize("padding", ["valid", "causal_valid", "reverse_causal_valid"])
def test_a_window_far_longer_than_the_row_costs_no_more(padding):
    mask = np.ones((2, 50), bool)
    got = masks.window_mask(mask, 10**9, 1, 10**6, padding)
    assert got.shape == (2, 0 if padding == "valid" else 50)
    assert got.all() == (padding != "reverse_causal_valid")


def test_masks_of_any_layout_are_read():
    mask = np.ones((4, 12), bool)
    mask[:, 5] = False
    mask.flags.writeable = False
    wanted = masks.window_mask(mask[:, ::2].copy(), 2, padding="causal_valid")
    np.testing.assert_array_equal(masks.window_mask(mask[:, ::2], 2, padding="causal_valid"), wanted)
    np.testing.assert_array_equal(masks.mask_to_lengths(mask.T), mask.sum(0))
    bytes_ = np.array([[0, 2, 255, 1]], np.uint8).view(bool)  # True in other bytes than 1
    np.testing.assert_array_equal(masks.mask_to_lengths(bytes_), [3])
    np.testing.assert_array_equal(masks.window_mask(bytes_, 2, padding="valid"), [[False, True, True]])


@given(st.lists(st.integers(0, 9), max_size=6), st.integers(0, 3))
def test_lengths_and_masks_are_inverse(lengths, more):
    length = max(lengths, default=0) + more
    mask = masks.lengths_to_mask(lengths, length)
    assert mask.shape == (len(lengths), length)
    np.testing.assert_array_equal(mask, np.arange(length) < np.array(lengths, int).reshape(-1, 1))
    np.testing.assert_array_equal(masks.mask_to_lengths(mask), lengths)
    assert masks.lengths_to_mask(lengths).shape == (len(lengths), max(lengths, default=0))


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.uint64])
def test_lengths_of_any_integer_dtype(dtype):
    lengths = np.array([9, 2, 9, 0], dtype)[1::2]
    np.testing.assert_array_equal(masks.lengths_to_mask(lengths), [[True, True], [False, False]])


@pytest.mark.parametrize("ratio", [Fraction(1), Fraction(3), Fraction(1, 3), Fraction(3, 2), Fraction(2, 3)])
def test_lengths_through_a_timing(ratio):
    timing = Timing(block_size=ratio.denominator, ratio=ratio)
    lengths = np.arange(8)
    got = masks.output_lengths(lengths, timing)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, [timing.output_length(int(n)) for n in lengths])
    mask = masks.mask_rule(timing)(masks.lengths_to_mask(lengths, 10))
    assert mask.shape == (8, timing.output_length(10))
    np.testing.assert_array_equal(masks.mask_to_lengths(mask), got)


@given(st.lists(st.tuples(st.sampled_from([Fraction(1), Fraction(1, 2), Fraction(3)]), st.integers(-4, 4)), max_size=4))
def test_lengths_through_a_timing_that_adds_and_drops_steps(stages):
    ratio = math.prod((ratio for ratio, _ in stages), start=Fraction(1))
    timing = Timing(block_size=ratio.denominator, ratio=ratio, length_stages=stages)
    lengths = np.arange(8)
    got = masks.output_lengths(lengths, timing)
    np.testing.assert_array_equal(got, [timing.output_length(int(n)) for n in lengths])
    mask = masks.mask_rule(timing)(masks.lengths_to_mask(lengths, 10))
    assert mask.shape == (8, timing.output_length(10))
    np.testing.assert_array_equal(masks.mask_to_lengths(mask), got)


def test_lengths_through_what_has_a_rule():
    class Pool:
        pass

    @masks.mask_rule.register
    def _(target: Pool):
        return lambda mask: masks.window_mask(mask, 3, 2, padding="reverse_causal_valid")

    np.testing.assert_array_equal(masks.output_lengths([7, 6, 2, 0], Pool()), [3, 2, 0, 0])
    np.testing.assert_array_equal(masks.output_lengths([7, 2], Pool(), length=20), [3, 0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: masks.mask_to_lengths(np.ones((2, 3), int)), TypeError, "mask must be bool; received int64"),
        (lambda: masks.mask_to_lengths([True]), ValueError, r"must have shape \[B, T\]; received shape \(1,\)"),
        (lambda: masks.check_mask(np.ones((2, 3), bool), (2, 4)), ValueError, r"\(2, 4\); received \(2, 3\)"),
        (lambda: masks.lengths_to_mask([1.5]), TypeError, "lengths must be integers; received float64"),
        (lambda: masks.lengths_to_mask([[1]]), ValueError, r"rank 1; received shape \(1, 1\)"),
        (lambda: masks.lengths_to_mask(3), ValueError, r"rank 1; received shape \(\)"),
        (lambda: masks.lengths_to_mask([2, -1]), ValueError, r"negative; received lengths\[1\] = -1"),
        (lambda: masks.lengths_to_mask([2, 5], 4), ValueError, r"at most 4; received lengths\[1\] = 5"),
        (lambda: masks.lengths_to_mask([2], -4), ValueError, "length must be at least 0; received -4"),
        (lambda: masks.lengths_to_mask(np.array([2**63], np.uint64)), ValueError, r"below 2\*\*63; received 9223"),
        (lambda: masks.window_mask([[True]], 0), ValueError, "kernel_size must be at least 1; received 0"),
        (lambda: masks.window_mask([[True]], 1, 0), ValueError, "strides must be at least 1; received 0"),
        (lambda: masks.window_mask([[True]], 1, 1, -1), ValueError, "dilation_rate must be at least 1; received -1"),
        (lambda: masks.window_mask([[True]], 2.0), TypeError, "kernel_size must be an integer; received 2.0"),
        (lambda: masks.window_mask([[True]], 3, padding="full"), ValueError, "received 'full'"),
        (lambda: masks.window_mask([[True]], 3, padding=(1, 2)), ValueError, r"= 2; received \(1, 2\)"),
        (lambda: masks.window_mask([[True]], 2**40, 1, 2**40), ValueError, r"less than 2\*\*60 steps; received"),
        (
            lambda: masks.window_mask([[True]], 3, padding="semicausal", transpose=True),
            ValueError,
            "one of valid, same, causal; received 'semicausal'",
        ),
        (lambda: masks.output_lengths([1], "conv"), TypeError, "a kseq layer or a Keras model; received 'conv'"),
        (lambda: masks.output_lengths([3], Timing(), length=2), ValueError, r"at most 2; received lengths\[0\] = 3"),
    ],
)
def test_errors_say_what_came_and_what_was_wanted(call, error, message):
    with pytest.raises(error, match=message):
        call()
