"""Keras models whose layers follow one another, for peers whose models are written so."""

import keras
from harness import Unavailable

# Layers that treat every step by itself, which any system calls as they are.
STEPWISE = (
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.Dense,
    keras.layers.Discretization,
    keras.layers.Dropout,
    keras.layers.Embedding,
    keras.layers.GaussianNoise,
    keras.layers.LayerNormalization,
    keras.layers.LeakyReLU,
    keras.layers.Normalization,
    keras.layers.ReLU,
    keras.layers.Rescaling,
)


def layers_of(model):
    """The layers of a chain, those left out that do nothing to what is given whole.

    Raises:
        Unavailable: a model with branches, or with calls that are no layers.
    """
    layers = []
    before = model.input
    for layer in model.layers[1:]:
        try:
            follows = layer.input is before
        except (AttributeError, ValueError):  # several inputs, or called twice
            follows = False
        if not follows:
            raise Unavailable(f"not tried: {layer.name} makes it a graph of branches, which its combinators would nest")
        before = layer.output
        if isinstance(layer, keras.layers.TimeDistributed) and isinstance(layer.layer, STEPWISE):
            layer = layer.layer
        if not isinstance(layer, keras.layers.Masking):
            layers.append(layer)
    if before is not model.output:
        raise Unavailable("not tried: its output is made by an operation")
    return layers


def has_none(layer):
    """The error of a layer that a system has not."""
    kind, padding = type(layer).__name__, getattr(layer, "padding", None)
    return Unavailable(f"it has no {kind}" + ("" if padding is None else f" of padding {padding!r} that steps"))
