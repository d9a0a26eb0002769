"""Complex numbers: a layer takes them and gives what it says, or refuses them before anything is computed."""

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import numpy as np
import pytest
from sampling import todays

EXAMPLES = [
    pytest.param(cls, example, id=name)
    for name, cls in sorted(kseq.registered_layers().items())
    if "." not in name
    for example in cls.examples()[:1]
    if example.dtype == "float32" and not example.context and cls.num_inputs == 1
]


@pytest.mark.parametrize(("cls", "example"), todays(EXAMPLES, of="complex", jax=0.05, tensorflow=0.1))
def test_complex_values_are_taken_or_refused(cls, example):
    layer = cls(**example.config)
    x = np.full((2, *example.input_shape[1:]), 1 + 2j, "complex64")
    try:
        made = layer(keras.Input(x.shape[1:], dtype="complex64"))
    except (TypeError, ValueError):
        with pytest.raises((TypeError, ValueError), match="complex64"):
            layer(x)
        return
    # A warning, as of an imaginary part that is lost, is an error.
    dtypes = [keras.backend.standardize_dtype(y.dtype) for y in (made, layer(x))]
    assert dtypes[0] == dtypes[1]
