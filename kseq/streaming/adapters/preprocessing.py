"""Adapters of Keras's layers that turn numbers into categories, step by step."""

from typing import Any

import keras
from keras import ops

from ...layers.stepwise import mixes_time
from ...registry import adapts
from .operation import Operation
from .refusal import Refusal


class _OneHotOfSteps(Operation):
    """A layer that puts categories on an axis of their own, which it would not add to a chunk of one step."""

    def arguments_of(self, values: Any, masks: Any) -> Any:
        return [ops.expand_dims(part, -1) for part in values]

    def output_spec(self, input_spec: Any) -> Any:
        return super().output_spec(input_spec._replace(shape=(1,)))


@adapts(
    keras.layers.CategoryEncoding,
    keras.layers.Discretization,
    keras.layers.Hashing,
    keras.layers.IntegerLookup,
    in_specs=False,
)
def categories(layer: Any, specs: Any) -> Any:
    """A category for each number."""
    mode = getattr(layer, "output_mode", "int")
    if mode not in ("int", "one_hot"):
        raise Refusal(f"with output_mode={mode!r} it encodes several steps together", 'output_mode="one_hot"')
    if getattr(layer, "sparse", False):
        raise Refusal("it gives sparse tensors", "sparse=False")
    if not layer.supports_jit and keras.backend.backend() != "torch":
        raise Refusal("Keras computes it on the host, which is not compiled", "what it gives as the stream's input")
    if mode == "one_hot" and not specs.shape:
        return _OneHotOfSteps.of(layer, specs)
    if mode == "one_hot":  # where Keras puts the categories depends on the sizes
        why = mixes_time(layer.__call__, [specs.shape], [specs.dtype])
        if why is not None:
            raise Refusal(why)
    return Operation.of(layer, specs)
