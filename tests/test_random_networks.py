"""Networks of random layers keep the contract: what the algebra says of their timing is what is measured."""

import os

import keras
import pytest
from random_networks import RandomNetwork
from sampling import SEED

from kseq.testing import check_layer

# KSEQ_RANDOM_NETWORKS=1000 runs as many, of the seed that the header says.
_COUNT = int(os.environ.get("KSEQ_RANDOM_NETWORKS") or {"torch": 40}.get(keras.backend.backend(), 3))


@pytest.mark.parametrize("number", range(_COUNT))
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
