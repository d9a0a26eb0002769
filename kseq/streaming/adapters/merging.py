"""Adapters of Keras's layers that merge several inputs."""

from typing import Any

import keras

from ...registry import adapts
from .keras_masks import WithMask
from .operation import Operation
from .operations import check_ranks
from .stepwise import check_axis

# Merges whose values depend on the masks that Keras has put on their inputs.
_OF_VALID = (keras.layers.Maximum, keras.layers.Minimum, keras.layers.Multiply)


@adapts(keras.layers.Add, keras.layers.Average, keras.layers.Subtract, *_OF_VALID)
def merge(layer: Any, specs: Any) -> Any:
    """Inputs that are combined value by value."""
    check_ranks(specs)
    return (_OfValid if isinstance(layer, _OF_VALID) else Operation).of(layer, specs)


class _OfValid(Operation):
    """A merge that is given Keras's masks on its inputs."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._with_mask = WithMask()

    def arguments_of(self, values: Any, masks: Any) -> Any:
        given = zip(values, masks, strict=True)
        return [value if mask is None else self._with_mask(value, mask=mask) for value, mask in given]


@adapts(keras.layers.Concatenate)
def concatenate(layer: Any, specs: Any) -> Any:
    """Inputs whose channels are put one after the other."""
    check_axis(layer, specs)
    return Operation.of(layer, specs)
