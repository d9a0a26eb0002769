"""Layers of float64 compute in float64, also where Keras's operations do not."""

import numpy as np
import pytest
from keras import ops

import kseq
from kseq.testing import transforms

# The share that runs on a day where tests compile; all of them on torch, of which this is.
TODAYS = {"jax": 0.1, "tensorflow": 0.1}

LAYERS = {
    "Dense": lambda: kseq.Dense(3, dtype="float64"),
    "LayerNormalization": lambda: kseq.LayerNormalization(dtype="float64"),
    "RMSNormalization": lambda: kseq.RMSNormalization(dtype="float64"),
    "LSTM": lambda: kseq.LSTM(3, use_layer_norm=True, dtype="float64"),
    "GRU": lambda: kseq.GRU(3, use_layer_norm=True, dtype="float64"),
    "MLSTM": lambda: kseq.MLSTM(1, 3, dtype="float64"),
    "Retention": lambda: kseq.Retention(1, 2, dtype="float64"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_no_digits_are_lost(name):
    x = np.random.default_rng(0).normal(size=(1, 5, 3))
    with transforms.float64():
        layer = LAYERS[name]()
        layer.build(x.shape)

        def call(values):
            return ops.convert_to_numpy(layer(ops.convert_to_tensor(values, "float64")))

        by_small, by_large = ((call(x + shift) - call(x)) / shift for shift in (1e-10, 1e-6))
    np.testing.assert_allclose(by_small, by_large, atol=1e-4)
