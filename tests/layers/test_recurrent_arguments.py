"""What the layers of recurrence refuse, by the name of the argument and with the value."""

import keras
import pytest

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
