"""Adapters of Keras's layers that merge several inputs."""

import keras

from ...registry import adapts
from .operation import Operation
from .stepwise import check_axis


@adapts(
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.Subtract,
)
def merge(layer, specs):
    """Inputs that are combined value by value."""
    return Operation.of(layer, specs)


@adapts(keras.layers.Concatenate)
def concatenate(layer, specs):
    """Inputs whose channels are put one after the other."""
    check_axis(layer, specs)
    return Operation.of(layer, specs)
