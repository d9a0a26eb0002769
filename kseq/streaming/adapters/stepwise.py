"""Adapters of Keras's layers that treat every step by itself."""

import keras

from ...registry import adapts
from .operation import Operation
from .operations import check_axes


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
    axis = getattr(layer, "axis", ())
    check_axes(axis, 2 + len((specs[0] if isinstance(specs, list) else specs).shape))
