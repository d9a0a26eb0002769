"""What the layers of recurrence refuse, by the name of the argument and with the value; and float64 that stays so."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

RATES = [-0.1, 1, 1.5, "a", None, float("nan")]
NUMBERS = [-1.0, float("nan"), "a", None]
HEADS = {"num_heads": 1, "key_dim": 2}


@pytest.mark.parametrize(
    ("layer", "given", "name", "wrong"),
    [
        *((layer, {"units": 2}, "zoneout", RATES) for layer in ("LSTM", "GRU", "SimpleRNN")),
        ("LSTM", {"units": 2}, "recurrent_dropout", RATES),
        ("ConvLSTM1D", {"filters": 2, "kernel_size": 2}, "dropout", RATES),
        ("RGLRU", {"units": 2}, "min_rad", RATES),
        ("S4D", {}, "dt_min", NUMBERS),
        ("S5", {}, "dt_max", NUMBERS),
        ("GatedLinearAttention", HEADS, "gate_temperature", [0, *NUMBERS]),
        ("Mamba2", {}, "epsilon", [0, *NUMBERS]),
        *((layer, HEADS, "epsilon", [0, *NUMBERS]) for layer in ("Retention", "GatedDeltaNet", "MLSTM")),
        ("Conditioning", {}, "projection_channel_shape", [3, "3"]),
    ],
)
def test_a_wrong_number_is_named(layer, given, name, wrong):
    for value in wrong:
        with pytest.raises(ValueError, match=f"`{name}` must be .*; received {value!r}"):
            getattr(kseq, layer)(**given, **{name: value})


def test_what_is_no_cell_is_refused():
    for cell in (keras.layers.LSTM(2), kseq.LSTM(2), keras.layers.Dense(2), None):
        with pytest.raises(TypeError, match="a cell is a layer with a `state_size`"):
            kseq.RNN(cell)
        with pytest.raises(TypeError, match="a cell is a layer with a `state_size`"):
            kseq.ZoneoutCell(cell, 0.1)
    with pytest.raises(ValueError, match=r"`cell` must be .*received \[\]"):
        kseq.RNN([])


FLOAT64 = {
    "LSTM": lambda: kseq.LSTM(3, use_layer_norm=True, dtype="float64"),
    "GRU": lambda: kseq.GRU(3, use_layer_norm=True, dtype="float64"),
    "MLSTM": lambda: kseq.MLSTM(1, 3, dtype="float64"),
    "Retention": lambda: kseq.Retention(1, 2, dtype="float64"),
}


@pytest.mark.parametrize("name", FLOAT64)
def test_means_of_float64_are_of_float64(name):
    layer, x = FLOAT64[name](), np.random.default_rng(0).normal(size=(1, 5, 3))
    layer.build(x.shape)

    def call(values):
        return ops.convert_to_numpy(layer(ops.convert_to_tensor(values, "float64")))

    by_small, by_large = ((call(x + shift) - call(x)) / shift for shift in (1e-10, 1e-6))
    np.testing.assert_allclose(by_small, by_large, atol=1e-4)
