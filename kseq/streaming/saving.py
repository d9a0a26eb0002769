"""What a stream's bytes say of its model, and of its random numbers."""

from typing import Any

import keras
import numpy as np
import xxhash
from keras import ops

from ..dtypes import numpy_dtype
from ..runtime.saved import ModelId
from . import state


def model_id(layer: Any, weights: Any) -> ModelId:
    """What a layer with weights from `freeze` is, in every process and on every backend."""
    layers = [list(row) for row in state.outline(layer)]
    return ModelId(state.structure_of(layer), layers, _digest(layer, weights))


def seeds_of(layer: Any, weights: Any, written: dict[int, Any]) -> dict[int, np.ndarray]:
    """By its number the value of every variable that a layer's random numbers go on from, or a count.

    Args:
        layer: whose variables they are.
        weights: their values when the stream was made.
        written: those that its steps have written since.
    """
    kept = {id(v) for v in layer.weights}
    first = {i: weights.values[i] for i, v in enumerate(layer.variables) if id(v) not in kept and not _is_float(v)}
    return {i: np.asarray(ops.convert_to_numpy(value)) for i, value in (first | written).items()}


def _is_float(variable):
    return keras.backend.is_float_dtype(variable.dtype)


def _digest(layer, weights) -> str:
    """A hash of weights as numbers, without seeds: the same on every backend."""
    kept, digest = {id(v) for v in layer.weights}, xxhash.xxh3_128()
    for variable, value in zip(layer.variables, weights.values, strict=True):
        if id(variable) in kept:
            name = keras.backend.standardize_dtype(value.dtype)
            array = np.asarray(ops.convert_to_numpy(value)).astype(numpy_dtype(name))
            digest.update(f"{array.shape}{name}".encode())
            array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
