"""The mask rule inside a model against the host's."""

import numpy as np
import pytest
from keras import ops

from kseq import masks, padding
from kseq.window import MODES, TRANSPOSED_MODES, Window

SETTINGS = [(k, s, d) for k in (1, 2, 3, 5) for s in (1, 2, 3) for d in (1, 2)]


def output_mask(mask, window):
    return ops.convert_to_numpy(padding.output_mask(ops.convert_to_tensor(mask), window))


@pytest.mark.parametrize("mode", MODES)
def test_mask_inside_a_model_is_the_hosts(mode):
    # No leading invalid steps: inside a model those count as padding in causal_valid.
    mask = np.random.default_rng(0).random((5, 11)) < 0.7
    mask[:3] = np.arange(11) < np.array([11, 6, 0])[:, None]
    mask[3:, 0] = True
    for k, s, d in SETTINGS:
        expected = masks.window_mask(mask, k, s, d, mode)
        found = output_mask(mask, Window(k, s, d, mode))
        np.testing.assert_array_equal(found, expected, err_msg=f"{mode} kernel={k} strides={s} dilation={d}")


@pytest.mark.parametrize("mode", TRANSPOSED_MODES)
def test_transposed_mask_inside_a_model_is_the_hosts(mode):
    mask = np.random.default_rng(0).random((5, 7)) < 0.7
    for k, s, d in SETTINGS:
        expected = masks.window_mask(mask, k, s, d, mode, transpose=True)
        found = output_mask(mask, Window(k, s, d, mode, transposed=True))
        np.testing.assert_array_equal(found, expected, err_msg=f"{mode} kernel={k} strides={s} dilation={d}")


def test_leading_invalid_steps_are_as_if_absent_in_causal_valid():
    mask = np.array([[True, True, False, True, True, True]])
    late = np.concatenate([np.zeros((1, 3), bool), mask], axis=1)
    first, second = (output_mask(m, Window(2, padding="causal_valid")) for m in (mask, late))
    assert second.tolist() == [[False] * 3 + first[0].tolist()]
