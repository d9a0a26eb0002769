"""Keras's layers that give time last: with what turns it to its place they are one call."""

import dataclasses
from typing import Any

import keras

from ..model_graph import tensors
from .calls import Called

_TIME_LAST = (keras.layers.MelSpectrogram,)
_TURNING = {"Moveaxis", "Permute", "Swapaxes", "Transpose"}


def turned(called: list[Called], outputs: Any) -> list[Called]:
    """The calls of a model, of which those of a layer that gives time last and of what turns it are one.

    It has the keyword `time_first`.

    Args:
        called: the calls.
        outputs: of the model.
    """
    makers = {t: one for one in called if isinstance(one.call.operation, _TIME_LAST) for t in one.outputs}
    found, read_otherwise = [], set(tensors(outputs))
    for one in called:
        maker = makers.get(one.call.inputs[0]) if one.call.inputs and _turns(one.call) else None
        if maker is None:
            found.append(one)
            read_otherwise.update(one.call.inputs)
        else:
            keywords = maker.call.keywords | {"time_first": True}
            call = dataclasses.replace(maker.call, keywords=keywords, outputs=one.call.outputs)
            found.append(Called(call, None, {}))
    needless = {id(one) for t, one in makers.items() if t not in read_otherwise}
    return [one for one in found if id(one) not in needless]


def _turns(call):
    """Whether a call turns [B, C, T] to [B, T, C]."""
    if type(call.operation).__name__ not in _TURNING or len(call.inputs[0].shape) != 3:
        return False
    return tuple(call.operation.compute_output_spec(keras.KerasTensor((2, 3, 5))).shape) == (2, 5, 3)
