"""Every registered layer keeps the contract, alone and in stacks."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
    jax=0.25,
    tensorflow=0.3,
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


@pytest.mark.parametrize("make", _STACKS.values(), ids=_STACKS)
def test_stack(make):
    check_layer(make(), (4, 11, 2))


_PADDINGS = st.sampled_from(["causal", "causal_valid", "reverse_causal", "reverse_causal_valid", "semicausal"])
_SMALL = st.integers(1, 3)


def _some(cls, **options):
    """Layers as (class, options): they are made in the test, since initialisers draw random numbers."""
    return st.tuples(st.just(cls), st.fixed_dictionaries(options))


_LAYERS = st.one_of(
    _some(
        kseq.Conv1D,
        filters=st.just(2),
        kernel_size=st.integers(1, 4),
        strides=st.integers(1, 2),
        dilation_rate=st.integers(1, 2),
        padding=_PADDINGS,
    ),
    _some(kseq.MaxPooling1D, pool_size=st.integers(2, 3), padding=_PADDINGS),
    _some(kseq.AveragePooling1D, pool_size=_SMALL, strides=st.just(1), padding=_PADDINGS, masked_average=st.booleans()),
    _some(kseq.Delay, length=_SMALL, delay_layer_output=st.booleans()),
    _some(kseq.Lookahead, length=_SMALL),
    _some(
        kseq.LocalSelfAttention,
        num_heads=st.just(1),
        key_dim=st.just(2),
        max_past_horizon=_SMALL,
        max_future_horizon=st.integers(0, 2),
        rope_wavelength=st.sampled_from([None, 30.0]),
    ),
    _some(kseq.GRU, units=st.just(2)),
    _some(kseq.LSTM, units=st.just(2)),
)


@pytest.mark.slow
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(_LAYERS, min_size=2, max_size=4), st.integers(1, 13))
def test_random_stack(layers, time):
    # Gradients and receptive fields of each layer are tested on their own.
    check_layer(kseq.Serial([cls(**options) for cls, options in layers]), (2, time, 2), gradients=False)


def test_weights_are_moved():
    layer = kseq.Dense(2)
    check_layer(layer, (1, 3, 2))
    assert np.abs(keras.ops.convert_to_numpy(layer.bias)).min() > 0


def test_arguments():
    with pytest.raises(TypeError, match="kseq layer"):
        check_layer(keras.layers.Dense(2), (1, 3, 2))
    with pytest.raises(ValueError, match="input_shape"):
        check_layer(kseq.Dense(2), (1, 0, 2))
