"""Sequences of no steps: every layer gives as many outputs as it says, none of them valid."""

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import numpy as np
import pytest
from keras import ops
from sampling import todays

ALL = [
    pytest.param(cls, example, id=f"{name}-{i}")
    for name, cls in sorted(kseq.registered_layers().items())
    if "." not in name and cls.num_inputs == 1
    for i, example in enumerate(cls.examples())
]
EXAMPLES = [param for param in ALL if not param.values[1].context]
WITH_CONTEXT = [param for param in ALL if param.values[1].context]


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


@pytest.mark.parametrize(("cls", "example"), todays(WITH_CONTEXT, of="no steps of context", jax=0.1, tensorflow=0.2))
@pytest.mark.parametrize("steps", [0, 3])
def test_a_context_of_no_steps_is_one(cls, example, steps):
    layer, context = cls(**example.config), {}
    for name, shape in example.context.items():
        if name in layer.static_context:
            context[name] = kseq.Sequence(np.ones((2, *shape), "float32"))
        else:
            context[name] = kseq.Sequence(np.zeros((2, 0, *shape[1:]), "float32"), np.zeros((2, 0), bool))
    x = np.ones((2, steps, *example.input_shape[2:]), example.dtype)
    y = layer(kseq.Sequence(x, np.ones((2, steps), bool)), context=context)
    assert tuple(y.values.shape)[:2] == (2, layer.output_length(steps))
    assert np.isfinite(ops.convert_to_numpy(y.mask_invalid().values)).all()
