"""Networks of random layers keep the contract: what the algebra says of their timing is what is measured."""

import os

import keras
import pytest
from random_networks import RandomNetwork
from sampling import SEED

from kseq.testing import check_layer

# Of all that are there these run by default; `KSEQ_RANDOM_NETWORKS=1000` runs as many. The header says their seed.
_COUNT = int(os.environ.get("KSEQ_RANDOM_NETWORKS") or {"torch": 30, "tensorflow": 2}.get(keras.backend.backend(), 1))


# Keras warns of a softmax over one channel, which chance has.
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=[pytest.mark.slow] if n >= _COUNT else []) for n in range(max(_COUNT, 300))]
)
def test_random_network(number):
    network = RandomNetwork((SEED, number))
    time = int(network.rng.integers(1, 14))
    try:
        # Gradients of each layer are tested on their own, precision too.
        shape = (2, time, *network.spec.shape)
        check_layer(network.layer, shape, dtype=network.spec.dtype, gradients=False, receptive_field="bound")
    except Exception as error:
        error.add_note(f"of {network.parts} on {network.spec}, {time} steps; {network.layer.timing}")
        raise
