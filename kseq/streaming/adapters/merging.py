"""Adapters of Keras's layers that merge several inputs."""

import keras

from ...registry import adapts
from .keras_masks import WithMask
from .operation import Operation
from .stepwise import check_axis


@adapts(
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.Subtract,
)
def merge(layer, specs):
    """Inputs that are combined value by value."""
    _check_ranks(specs)
    return Operation.of(layer, specs)


@adapts(
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
)
def merge_of_valid(layer, specs):
    """Inputs that are combined value by value, as far as they are valid."""
    _check_ranks(specs)
    return _OfValid.of(layer, specs)


class _OfValid(Operation):
    """A merge whose values depend on the masks that Keras has put on its inputs."""

    def __init__(self, *args):
        super().__init__(*args)
        self._with_mask = WithMask()

    def arguments_of(self, values, masks):
        given = zip(values, masks, strict=True)
        return [value if mask is None else self._with_mask(value, mask=mask) for value, mask in given]


def _check_ranks(specs):
    ranks = {2 + len(spec.shape) for spec in specs}
    if len(ranks) > 1:
        raise ValueError(f"it combines tensors of rank {min(ranks)} and {max(ranks)}, which do not meet in time")


@adapts(keras.layers.Concatenate)
def concatenate(layer, specs):
    """Inputs whose channels are put one after the other."""
    check_axis(layer, specs)
    return Operation.of(layer, specs)
