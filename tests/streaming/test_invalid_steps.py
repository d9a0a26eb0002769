"""What a layer gives at invalid steps is the same in both modes: a Keras model may lose the mask and use it."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

import kseq

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.05, "tensorflow": 0.08}


STEPS, BATCH = 13, 2
CASES = [
    (cls, example)
    for cls in kseq.registered_layers().values()
    if cls.__module__.startswith("kseq.")
    for example in cls.examples()
    if not example.context and not example.dtype.startswith("complex")  # a stream of a bare layer takes floats
]


@pytest.mark.parametrize(("cls", "example"), CASES, ids=lambda part: getattr(part, "__name__", ""))
def test_values_at_invalid_steps(cls, example):
    layer, rng = cls(**example.config), np.random.default_rng(0)
    layer.build((None, None, *example.input_shape[2:]))
    if not layer.supports_step:
        return
    x = (abs(rng.normal(size=(BATCH, STEPS, *example.input_shape[2:]))) * 2).astype(example.dtype)  # an index, too
    mask = rng.random((BATCH, STEPS)) < 0.6
    mask[0, :2] = False
    stream = kseq.Stream(layer, BATCH)
    cuts = (0, 1, 2, 4, 7, STEPS) if keras.backend.backend() == "torch" else (0, STEPS)
    parts = [stream.push(kseq.Sequence(x, mask).slice_time(*cut)) for cut in itertools.pairwise(cuts)]
    found = kseq.Sequence.concatenate([*parts, stream.flush()])
    wanted = layer(kseq.Sequence(ops.convert_to_tensor(x), ops.convert_to_tensor(mask)))
    np.testing.assert_array_equal(found.mask, ops.convert_to_numpy(wanted.with_mask().mask))
    np.testing.assert_allclose(found.values, ops.convert_to_numpy(wanted.values), atol=1e-4)
