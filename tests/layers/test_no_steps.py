"""Sequences of no steps: every layer gives as many outputs as it says, none of them valid."""

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import numpy as np
import pytest
from sampling import todays

EXAMPLES = [
    pytest.param(cls, example, id=f"{name}-{i}")
    for name, cls in sorted(kseq.registered_layers().items())
    if "." not in name and cls.num_inputs == 1
    for i, example in enumerate(cls.examples())
    if not example.context
]


@pytest.mark.parametrize(("cls", "example"), todays(EXAMPLES, of="no steps", jax=0.1, tensorflow=0.2))
def test_of_no_steps_nothing_is_valid(cls, example):
    layer = cls(**example.config)
    x = np.zeros((2, 0, *example.input_shape[2:]), example.dtype)
    y = layer(kseq.Sequence(x, np.zeros((2, 0), bool)))
    lengths = layer.output_length(0)
    pairs = zip(y, lengths, strict=True) if layer.num_outputs > 1 else [(y, lengths)]
    for part, length in pairs:
        assert tuple(part.values.shape)[:2] == (2, length)
        assert part.mask is not None and tuple(part.mask.shape) == (2, length)
        assert not np.asarray(part.mask).any()
