"""`Window`: padding, lengths, latencies and receptive fields follow from the taps, for every mode of the table."""

import itertools
import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kseq.window import MODES, TRANSPOSED_MODES, ModeName, Window

SETTINGS = [(k, s, d) for k in (1, 2, 3, 5) for s in (1, 2, 3) for d in (1, 2)]


def windows(mode):
    for k, s, d in SETTINGS:
        reach = (k - 1) * d
        yield Window(k, s, d, (reach // 3, reach - reach // 3) if mode == "explicit" else mode)


def test_the_names_that_hints_give_are_those_of_the_table():
    assert typing.get_args(ModeName) == tuple(MODES)


@pytest.mark.parametrize("mode", [*MODES, "explicit"])
def test_amounts_and_lengths_fit_together(mode):
    for window in windows(mode):
        left, right = window.pads
        assert left >= 0 and right >= 0
        if window.obstacle is None:
            assert all(window.pads_of(n) == window.pads for n in range(1, 9))
        if mode not in ("valid", "semicausal_full"):
            assert left + right == window.reach
            assert [window.output_length(n) for n in range(1, 9)] == [-(-n // window.stride) for n in range(1, 9)]
        if window.obstacle is None:
            input_latency, output_latency = window.latency
            assert output_latency == input_latency // window.stride and input_latency <= right


def test_same_pads_no_more_than_the_last_window_needs():
    for k, s, d, n in itertools.product(range(1, 6), range(1, 5), range(1, 4), range(1, 9)):
        window = Window(k, s, d, "same")
        outputs = -(-n // s)
        total = max((outputs - 1) * s + window.span - n, 0)
        assert window.pads_of(n) == (total // 2, total - total // 2)
        assert tuple(map(int, window.pads_of(np.int32(n)))) == window.pads_of(n)
        (first, last) = window.timing.receptive_field
        assert first <= -window.pads_of(n)[0] and window.reach - window.pads_of(n)[0] <= last


def inputs_of_outputs(window, steps):
    """For every output of a transposed window the inputs that add to it, tap by tap."""
    left, _ = window.pads
    taps = [k * window.dilation for k in range(window.size)]
    found = []
    for u in range(window.output_length(steps)):
        at = [u - left + tap for tap in taps]  # in the zero-stuffed input
        found.append([n // window.stride for n in at if n % window.stride == 0 and 0 <= n // window.stride < steps])
    return found


@pytest.mark.parametrize("mode", TRANSPOSED_MODES)
def test_the_receptive_field_of_a_transposed_window_is_that_of_its_taps(mode):
    steps = 24
    for k, s, d in itertools.product(range(1, 6), range(1, 5), range(1, 4)):
        window = Window(k, s, d, mode, transposed=True)
        inputs = inputs_of_outputs(window, steps)
        for phase, field in enumerate(window.timing.receptive_field_per_step):
            own = steps // 2
            offsets = [n - own for n in inputs[own * s + phase]]
            assert field == ((min(offsets), max(offsets)) if offsets else None), window


@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 4), st.sampled_from(list(MODES)), st.integers(0, 20))
def test_lengths_are_those_of_the_windows_that_fit(size, stride, dilation, mode, steps):
    window = Window(size, stride, dilation, mode)
    padded = steps + sum(window.pads_of(steps))
    fit = [start for start in range(0, padded, stride) if start + window.span <= padded]
    assert window.output_length(steps) == window.timing.output_length(steps) == len(fit)


@pytest.mark.parametrize("given", ["full", (1, 2), (-1, 3), (1,), 3])
def test_unknown_padding_is_refused(given):
    with pytest.raises(ValueError, match="received"):
        Window(3, padding=given)


def test_transposed_padding():
    assert Window(4, 2, padding="causal", transposed=True).pads == (3, 1)
    assert Window(4, 2, padding="valid", transposed=True).output_length(5) == 12
    with pytest.raises(ValueError, match="one of valid, same, causal; received 'semicausal'"):
        Window(4, 2, padding="semicausal", transposed=True)


def test_a_window_is_a_value():
    assert Window(np.int64(3), padding=[1, 1]) == Window(3, padding=(1, 1))
    assert len({Window(2), Window(2), Window(3)}) == 2
    with pytest.raises(ValueError, match="`stride` must be an integer of at least 1; received 0"):
        Window(3, stride=0)
