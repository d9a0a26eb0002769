"""What to use in the place of a layer or operation that does not keep padding out."""

from typing import Any

import keras

from ..layers.base import SequenceLayer
from ..registry import registered_layers

# Layers of ours that do what layers of Keras's of other names do, and what else there is.
_OTHERS = {
    "Attention": "kseq.SelfAttention or kseq.CrossAttention",
    "AdditiveAttention": "kseq.AdditiveAttention, over a source that is context",
    "Cropping1D": "kseq.Lookahead for steps cut at the start",
    "Flatten": "keras.layers.GlobalAveragePooling1D, which reads the mask; kseq.Flatten keeps time apart",
    "GlobalMaxPooling1D": "keras.layers.GlobalAveragePooling1D, which reads the mask",
    "GroupedQueryAttention": "kseq.SelfAttention or kseq.CrossAttention",
    "MultiHeadAttention": "kseq.SelfAttention or kseq.CrossAttention",
    "Permute": "kseq.Transpose, which keeps time where it is",
    "STFTSpectrogram": "kseq.STFT",
    "ZeroPadding1D": "a kseq convolution with padding=(left, right)",
}
_NAMESAKES = {"AdditiveAttention", "Flatten"}  # layers of ours of these names do something else
_MERGES = {"Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"}
_POINTWISE = "kseq.Lambda or another layer that keeps the mask"


def is_stock(layer: Any) -> bool:
    """Whether a layer is of one of Keras's own classes, and not of one made of them."""
    return any(cls is type(layer) for cls in vars(keras.layers).values())


def instead_of(operation: Any, inputs: int = 1, nan_alone: bool = False) -> str | None:
    """What to use instead, or `None` where nothing is known.

    Args:
        operation: the layer or operation.
        inputs: how many tensors it is given.
        nan_alone: whether all is well as long as padding is finite.
    """
    name = type(operation).__name__
    if isinstance(operation, SequenceLayer):
        same = getattr(operation, "padding", None) == "same"
        return "another `padding`: where `same` pads depends on the length of the batch" if same else None
    if not isinstance(operation, keras.layers.Layer):
        return f"keras.layers.{name}" if name in _MERGES and inputs > 1 else _POINTWISE
    if getattr(operation, "go_backwards", False):
        return "kseq.Bidirectional, or kseq.ReverseSequence before and after it: they turn rows round by their length"
    if is_stock(operation) and (name in _OTHERS or name in registered_layers()):
        if name in _NAMESAKES or name not in registered_layers():
            return _OTHERS[name]
        return f"kseq.{name}(masked_average=True)" if name.startswith("AveragePooling") else f"kseq.{name}"
    return "kseq.MaskInvalid before it, which makes padding zero" if nan_alone else None
