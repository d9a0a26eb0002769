"""Adapters of Keras's layers that treat every step by itself."""

import keras

from ...registry import adapts
from .operation import Operation


@adapts(
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.Embedding,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.LayerNormalization,
    keras.layers.LeakyReLU,
    keras.layers.Masking,
    keras.layers.Normalization,
    keras.layers.RMSNormalization,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    keras.layers.Softmax,
    keras.layers.UnitNormalization,
)
def stepwise(layer, specs, **options):
    """A layer of one input that works on channels."""
    check_axis(layer, specs)
    return Operation.of(layer, specs, **options)


def check_axis(layer, specs):
    """Refuse a layer that works along batch or time.

    Raises:
        ValueError: an axis that is, counted from either end, batch or time.
    """
    rank = 2 + len((specs[0] if isinstance(specs, list) else specs).shape)
    axis = getattr(layer, "axis", -1)
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    if any(a + rank < 2 if a < 0 else a < 2 for a in axes if a is not None):
        raise ValueError("its axis is batch or time; use a channel axis")
