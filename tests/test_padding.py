"""The mask rule inside a model against the host's."""

import numpy as np
import pytest
from keras import ops

from kseq import masks, padding
from kseq.testing.transforms import jit
from kseq.window import MODES, TRANSPOSED_MODES, Window

SETTINGS = [(k, s, d) for k in (1, 2, 3, 5) for s in (1, 2, 3) for d in (1, 2)]


def output_masks(mask, windows):
    """The masks after windows, which a compiled function gives all at once."""
    found = jit(lambda mask: [padding.output_mask(ops.convert_to_tensor(mask), w) for w in windows], quick=True)(mask)
    return [ops.convert_to_numpy(after) for after in found]


def same_as_the_hosts(mask, mode, transpose=False):
    windows = [Window(k, s, d, mode, transposed=transpose) for k, s, d in SETTINGS]
    for (k, s, d), found in zip(SETTINGS, output_masks(mask, windows), strict=True):
        expected = masks.window_mask(mask, k, s, d, mode, transpose=transpose)
        np.testing.assert_array_equal(found, expected, err_msg=f"{mode} kernel={k} strides={s} dilation={d}")


@pytest.mark.parametrize("mode", MODES)
def test_mask_inside_a_model_is_the_hosts(mode):
    # No leading invalid steps: inside a model those count as padding in causal_valid.
    mask = np.random.default_rng(0).random((5, 11)) < 0.7
    mask[:3] = np.arange(11) < np.array([11, 6, 0])[:, None]
    mask[3:, 0] = True
    same_as_the_hosts(mask, mode)


@pytest.mark.parametrize("mode", TRANSPOSED_MODES)
def test_transposed_mask_inside_a_model_is_the_hosts(mode):
    mask = np.random.default_rng(0).random((5, 7)) < 0.7
    same_as_the_hosts(mask, mode, transpose=True)


def test_leading_invalid_steps_are_as_if_absent_in_causal_valid():
    mask = np.array([[True, True, False, True, True, True]])
    late = np.concatenate([np.zeros((1, 3), bool), mask], axis=1)
    (first,), (second,) = (output_masks(m, [Window(2, padding="causal_valid")]) for m in (mask, late))
    assert second.tolist() == [[False] * 3 + first[0].tolist()]
