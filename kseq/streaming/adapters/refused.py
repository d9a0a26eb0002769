"""Keras's layers that need the whole sequence, with the reason and what to use instead."""

from typing import Any

import keras

from .refusal import Refusal

_WHOLE = "it makes one value of all steps, of which a stream never has the last"
_POOLING = "pooling with a window, or a recurrent layer"

_REASONS: dict[Any, tuple[str, str]] = {
    keras.layers.Bidirectional: (
        "its half that reads backwards needs the end of the sequence",
        "its `forward_layer` alone, or a layer that looks ahead, such as a convolution",
    ),
    keras.layers.Flatten: ("it puts time among the channels", "keras.layers.TimeDistributed(keras.layers.Flatten())"),
    keras.layers.GroupNormalization: ("its mean and variance are those of all steps", "kseq.GroupNormalization"),
    keras.layers.HashedCrossing: ("it takes one value of each row", "keras.layers.Hashing of a combination"),
    keras.layers.StringLookup: (
        "strings are no tensors on every backend, and none that is compiled",
        "its numbers as the stream's input, or keras.layers.IntegerLookup",
    ),
    keras.layers.RepeatVector: ("its input has no time", "a `context` of a kseq layer"),
} | dict.fromkeys(
    (
        keras.layers.GlobalAveragePooling1D,
        keras.layers.GlobalAveragePooling2D,
        keras.layers.GlobalAveragePooling3D,
        keras.layers.GlobalMaxPooling1D,
        keras.layers.GlobalMaxPooling2D,
        keras.layers.GlobalMaxPooling3D,
        keras.layers.AdaptiveAveragePooling1D,
        keras.layers.AdaptiveAveragePooling2D,
        keras.layers.AdaptiveAveragePooling3D,
        keras.layers.AdaptiveMaxPooling1D,
        keras.layers.AdaptiveMaxPooling2D,
        keras.layers.AdaptiveMaxPooling3D,
    ),
    (_WHOLE, _POOLING),
)


def refusal_of(layer: Any) -> Refusal | None:
    """Why a layer of Keras's cannot stream, or `None` where that depends, or is not known.

    A subclass with a `call` of its own is another layer.
    """
    for cls in type(layer).__mro__:
        if cls in _REASONS:
            return Refusal(*_REASONS[cls])
        if "call" in vars(cls):
            return None
    return None
