"""Every registered layer keeps the contract, alone and in stacks."""

import keras
import numpy as np
import pytest
from sampling import todays

import kseq
from kseq.testing import check_layer

_EXAMPLES = todays(
    [
        pytest.param(cls, example, id=f"{name}-{i}")
        for name, cls in kseq.registered_layers().items()
        if "." not in name  # other tests register layers of third parties
        for i, example in enumerate(cls.examples())
    ],
    of="contract",
    jax=0.08,
    tensorflow=0.14,
)


def _conv(padding="causal", **options):
    return kseq.Conv1D(2, **({"kernel_size": 3} | options), padding=padding)


def _attention(**options):
    return kseq.LocalSelfAttention(1, 2, max_past_horizon=2, **options)


_STACKS = {
    "latency, LSTM": lambda: kseq.Serial([_conv("reverse_causal_valid"), kseq.LSTM(2)]),
    "latency, GRU, causal_valid": lambda: kseq.Serial(
        [_conv("reverse_causal_valid"), kseq.GRU(2), _conv("causal_valid", kernel_size=2)]
    ),
    "latency, rotary attention": lambda: kseq.Serial([_conv("reverse_causal_valid"), _attention(rope_wavelength=50.0)]),
    "strides after latency": lambda: kseq.Serial(
        [
            _conv("reverse_causal", kernel_size=4),
            _conv("causal", strides=2),
            kseq.Lookahead(1),
            kseq.MaxPooling1D(2, padding="reverse_causal_valid"),
        ]
    ),
    "residual of lookahead attention": lambda: kseq.Residual(
        [_attention(max_future_horizon=3), kseq.RMSNormalization(epsilon=1e-2)]
    ),
    "nested repeat": lambda: kseq.Repeat(
        [kseq.Repeat([kseq.Residual([kseq.DepthwiseConv1D(2, padding="reverse_causal")])], 2)], 2
    ),
    "parallel of unequal latency with strides": lambda: kseq.Parallel(
        [
            _conv("causal", strides=2),
            kseq.Serial([_conv("reverse_causal", kernel_size=5, strides=2), kseq.GRU(2)]),
            kseq.Serial(
                [kseq.Lookahead(2), kseq.Delay(2), kseq.AveragePooling1D(2, masked_average=True), kseq.Dense(2)]
            ),
        ],
        combination="add",
    ),
}


@pytest.mark.parametrize(("cls", "example"), _EXAMPLES)
def test_registered_layer(cls, example):
    check_layer(cls(**example.config), example.input_shape, dtype=example.dtype, context=example.context)


@pytest.mark.parametrize(
    "make",
    todays([pytest.param(make, id=name) for name, make in _STACKS.items()], of="stacks", jax=0.3, tensorflow=0.3),
)
def test_stack(make):
    check_layer(make(), (4, 11, 2))


def test_weights_are_moved():
    layer = kseq.Dense(2)
    check_layer(layer, (1, 3, 2))
    assert np.abs(keras.ops.convert_to_numpy(layer.bias)).min() > 0


def test_arguments():
    with pytest.raises(TypeError, match="kseq layer"):
        check_layer(keras.layers.Dense(2), (1, 3, 2))
    with pytest.raises(ValueError, match="input_shape"):
        check_layer(kseq.Dense(2), (1, 0, 2))
