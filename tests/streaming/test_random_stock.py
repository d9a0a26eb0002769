"""Random models of Keras's own layers stream what they give of the whole, or are refused for the layer that cannot."""

import keras
import numpy as np
import pytest
from keras import ops
from random_stock import LENGTHS, RandomStock

import kseq

SEEDS = range({"torch": 25, "tensorflow": 2, "jax": 2}[keras.backend.backend()])


@pytest.mark.filterwarnings("ignore:Layer '.*' .*was passed an input with a mask")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_model_streams(seed):
    model = RandomStock(seed).model
    rng = np.random.default_rng(seed)
    shape = 2, int(rng.choice(LENGTHS)), 3
    given = [rng.normal(size=shape).astype("float32") for _ in model.inputs]
    stream, found, at = kseq.Stream(model, 2), [], 0
    while at < shape[1]:
        size = int(rng.integers(0, 7))
        found.append(stream.push(_one_or_several([x[:, at : at + size] for x in given])))
        at += size
    found = np.concatenate([*found, stream.flush()], axis=1)
    wanted = ops.convert_to_numpy(model(_one_or_several(given)))
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-4 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_model_is_refused_for_the_layer_that_cannot_stream(seed):
    given = RandomStock(seed, refuses=True)
    with pytest.raises(kseq.NotStreamable) as error:
        kseq.Stream(given.model)
    assert [row.layer for row in error.value.obstacles] == [given.refused]
    assert error.value.obstacles[0].reason


def _one_or_several(given):
    return given if len(given) > 1 else given[0]
