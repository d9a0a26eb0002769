"""Padding amounts, and the mask rule inside a model against the host's."""

import numpy as np
import pytest
from keras import ops

from kseq import masks, padding

SETTINGS = [(k, s, d) for k in (1, 2, 3, 5) for s in (1, 2, 3) for d in (1, 2)]


@pytest.mark.parametrize("mode", [*padding.MODES, "explicit"])
def test_amounts_and_lengths_fit_together(mode):
    for k, s, d in SETTINGS:
        reach = padding.effective_size(k, d) - 1
        mode_ = (reach // 3, reach - reach // 3) if mode == "explicit" else mode
        left, right = padding.pad_amounts(mode_, k, s, d)
        assert left >= 0 and right >= 0
        if mode not in ("valid", "semicausal_full"):
            assert left + right == reach
            assert [padding.output_length(n, mode_, k, s, d) for n in range(1, 9)] == [-(-n // s) for n in range(1, 9)]
        if padding.streams(mode_):
            input_latency, output_latency = padding.latency(mode_, k, s, d)
            assert output_latency == input_latency // s and input_latency <= right


@pytest.mark.parametrize("mode", padding.MODES)
def test_mask_inside_a_model_is_the_hosts(mode):
    # No leading invalid steps: inside a model those count as padding in causal_valid.
    mask = np.random.default_rng(0).random((5, 11)) < 0.7
    mask[:3] = np.arange(11) < np.array([11, 6, 0])[:, None]
    mask[3:, 0] = True
    for k, s, d in SETTINGS:
        expected = masks.window_mask(mask, k, s, d, mode)
        found = ops.convert_to_numpy(padding.output_mask(ops.convert_to_tensor(mask), mode, k, s, d))
        np.testing.assert_array_equal(found, expected, err_msg=f"{mode} kernel={k} strides={s} dilation={d}")


def test_leading_invalid_steps_are_as_if_absent_in_causal_valid():
    mask = np.array([[True, True, False, True, True, True]])
    late = np.concatenate([np.zeros((1, 3), bool), mask], axis=1)
    first = ops.convert_to_numpy(padding.output_mask(ops.convert_to_tensor(mask), "causal_valid", 2, 1, 1))
    second = ops.convert_to_numpy(padding.output_mask(ops.convert_to_tensor(late), "causal_valid", 2, 1, 1))
    assert second.tolist() == [[False] * 3 + first[0].tolist()]


@pytest.mark.parametrize("given", ["full", (1, 2), (-1, 3), (1,), 3])
def test_unknown_padding_is_refused(given):
    with pytest.raises(ValueError, match="received"):
        padding.standardize(given, kernel_size=3, dilation_rate=1)


def test_transposed_padding():
    assert padding.transpose_pad_amounts("causal", 4, 2, 1) == (3, 1)
    assert padding.transpose_output_length(5, "valid", 4, 2, 1) == 12
    with pytest.raises(ValueError, match="one of valid, same, causal; received 'semicausal'"):
        padding.transpose_output_length(5, "semicausal", 4, 2, 1)
