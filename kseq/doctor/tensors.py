"""Tensors with Keras's masks, and the structures that they stand in."""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from ..sequence import Sequence
from ..streaming.adapters.keras_masks import MaskOf, WithMask


def to_numpy(x: Any) -> Any:
    return np.asarray(ops.convert_to_numpy(x))


def mask_of(x: Any) -> Any:
    """Keras's mask of a tensor as a NumPy array; `None` where it has none, or is no tensor."""
    mask = _reading()(x) if ops.is_tensor(x) else None
    return None if mask is None else to_numpy(mask)


def with_mask(values: Any, mask: Any, dtype: str | None = None) -> Any:
    """A tensor of values, with Keras's mask on it if there is one."""
    x = ops.convert_to_tensor(values, dtype)
    return x if mask is None else _writing()(x, mask=ops.convert_to_tensor(mask, "bool"))


@functools.cache
def _reading():
    return MaskOf()


@functools.cache
def _writing():
    return WithMask()


def leaves_of(structure: Any) -> list[Any]:
    """All that stands in nested dicts, lists and tuples, in order."""
    if isinstance(structure, (dict, list, tuple)):
        return [leaf for part in _parts(structure) for leaf in leaves_of(part)]
    return [structure]


def refilled(structure: Any, leaves: Any) -> Any:
    """The structure with others in the place of its leaves, from an iterator."""
    if isinstance(structure, Sequence):
        return Sequence(*(refilled(part, leaves) for part in structure))
    if isinstance(structure, dict):
        filled = {key: refilled(structure[key], leaves) for key in sorted(structure, key=str)}
        return {key: filled[key] for key in structure}
    if isinstance(structure, (list, tuple)):
        return type(structure)(refilled(value, leaves) for value in structure)
    return next(leaves)


def values_of(outputs: Any) -> list[Any]:
    """The tensors of outputs; of sequences their values."""
    if isinstance(outputs, Sequence):
        return [outputs.values]
    if isinstance(outputs, (dict, list, tuple)):
        return [y for part in _parts(outputs) for y in values_of(part)]
    return [outputs] if keras.ops.is_tensor(outputs) else []


def masks_of(outputs: Any) -> list[Any]:
    """The masks of those tensors as NumPy arrays or `None`s: of sequences their own, of others Keras's."""
    if isinstance(outputs, Sequence):
        return [None if outputs.mask is None else to_numpy(outputs.mask)]
    if isinstance(outputs, (dict, list, tuple)):
        return [mask for part in _parts(outputs) for mask in masks_of(part)]
    return [mask_of(outputs)] if keras.ops.is_tensor(outputs) else []


def _parts(structure):
    """In Keras's order, which of dicts is that of the keys."""
    return [structure[key] for key in sorted(structure, key=str)] if isinstance(structure, dict) else structure
