"""Random functional models stream as Keras computes them, values and masks, whatever becomes of these on the way."""

import keras
import numpy as np
import pytest
from random_models import RandomModel

SEEDS = range({"torch": 25, "tensorflow": 3, "jax": 2}[keras.backend.backend()])


# Keras warns that a model in a model "does not support masking", though what its layers put on its outputs is there.
@pytest.mark.filterwarnings("ignore:Layer .* does not support masking")
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_model_streams(seed):
    given = RandomModel(seed)
    for found, wanted in zip(given.streamed(), given.expected(), strict=True):
        np.testing.assert_array_equal(found.mask, wanted.mask)
        np.testing.assert_allclose(found.mask_invalid().values, wanted.mask_invalid().values, rtol=1e-5, atol=1e-4)
