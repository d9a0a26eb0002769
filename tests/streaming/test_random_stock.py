"""Random models of Keras's own layers stream what they give of the whole, or are refused for the layer that cannot.

`KSEQ_RANDOM_NETWORKS=200` runs as many of each.
"""

import os

import keras
import numpy as np
import pytest
from keras import ops
from random_stock import RandomStock

import kseq

pytestmark = [
    pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask"),
    pytest.mark.filterwarnings("ignore:Layer .* does not support masking"),
]
SEEDS = range(
    int(os.environ.get("KSEQ_RANDOM_NETWORKS") or {"torch": 25, "tensorflow": 2, "jax": 2}[keras.backend.backend()])
)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_model_streams(seed):
    random = RandomStock(seed)
    batch = 1 + seed % 2  # one row is what compilers make something else of
    model, given = random.model, random.arrays(batch)
    stream, found, at = kseq.Stream(model, batch), [], 0
    while at < random.steps:
        size = int(random.rng.integers(0, 7))
        found.append(keras.tree.flatten(stream.push(_like_inputs(model, [x[:, at : at + size] for x in given]))))
        at += size
    found.append(keras.tree.flatten(stream.flush()))
    outputs = keras.tree.flatten(model(_like_inputs(model, list(map(ops.convert_to_tensor, given)))))
    for y, parts in zip(outputs, zip(*found, strict=True), strict=True):
        streamed, wanted = np.concatenate(parts, axis=1), ops.convert_to_numpy(y)
        assert streamed.shape == wanted.shape
        np.testing.assert_allclose(streamed, wanted, atol=1e-4 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_model_is_refused_for_the_layer_that_cannot_stream(seed):
    random = RandomStock(seed, refuses=True)
    with pytest.raises(kseq.NotStreamable) as error:
        kseq.Stream(random.model)
    assert [row.layer for row in error.value.obstacles] == [random.refused]
    assert error.value.obstacles[0].reason


def _like_inputs(model, given):
    return given if isinstance(model.input, list) else given[0]
