"""Adapters of Keras's layers that turn numbers into categories, step by step."""

from typing import Any

import keras
import numpy as np
from keras import ops

from ...hints import is_exporting
from ...layers.stepwise import mixes_time
from ...registry import adapts
from .hashing import MOST_BUCKETS, buckets
from .operation import Operation, as_made
from .refusal import Refusal


class _OneHotOfSteps(Operation):
    """A layer that puts categories on an axis of their own, which it would not add to a chunk of one step."""

    def arguments_of(self, values: Any, masks: Any) -> Any:
        return [ops.expand_dims(part, -1) for part in values]

    def output_spec(self, input_spec: Any) -> Any:
        return super().output_spec(input_spec._replace(shape=(1,)))


@adapts(keras.layers.CategoryEncoding, keras.layers.Discretization, in_specs=False)
def categories(layer: Any, specs: Any) -> Any:
    """A category for each number."""
    mode = _checked_mode(layer)
    if mode == "one_hot" and not specs.shape:
        return _OneHotOfSteps.of(layer, specs)
    if mode == "one_hot":  # where Keras puts the categories depends on the sizes
        why = mixes_time(layer.__call__, [specs.shape], [specs.dtype])
        if why is not None:
            raise Refusal(why)
    return Operation.of(layer, specs)


def _checked_mode(layer):
    mode = getattr(layer, "output_mode", "int")
    if mode not in ("int", "one_hot"):
        raise Refusal(f"with output_mode={mode!r} it encodes several steps together", 'output_mode="one_hot"')
    if getattr(layer, "sparse", False):
        raise Refusal("it gives sparse tensors", "sparse=False")
    return mode


class _OfIntegers(Operation):
    """A layer that Keras computes by TensorFlow, outside of what is compiled: the same of integers, in `keras.ops`."""

    def categories(self, values: Any) -> Any:
        """The number of each integer's category; where it is below zero, one-hot, there is none."""
        raise NotImplementedError

    def call_layer(self, x: Any, *, training: bool = False) -> Any:
        found = self.categories(ops.cast(x.values, as_made("int64")))
        shape, dtype = self.output_spec(x.spec)
        if self.adapted.output_mode == "one_hot":
            found = ops.one_hot(found[..., 0] if x.spec.shape[-1:] == (1,) else found, shape[-1])
        return x._replace(values=ops.cast(found, dtype))


class _Lookup(_OfIntegers):
    """The place of each integer in a vocabulary, or the integer in each place."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        config = self.adapted.get_config()
        self._mask, self._unknown = config["mask_token"], config["num_oov_indices"]
        self._has_mask = self._mask is not None and config["output_mode"] == "int"
        if config["invert"]:
            self._places, self._unknown = np.array(self.adapted.get_vocabulary(), "int64"), 0
            self._keys = np.arange(len(self._places))
        else:
            tokens = np.array(self.adapted.get_vocabulary(include_special_tokens=False), "int64")
            order = np.argsort(tokens, kind="stable")
            self._keys, self._places = tokens[order], order + self._has_mask + self._unknown
        self._default = config["oov_token"] if config["invert"] else 0

    def output_spec(self, input_spec: Any) -> Any:
        return super().output_spec(input_spec)._replace(dtype=as_made("int64"))  # one-hot, too, whatever Keras says

    def categories(self, values: Any) -> Any:
        dtype = keras.backend.standardize_dtype(values.dtype)
        limits = np.iinfo(dtype)
        known = (self._keys >= limits.min) & (self._keys <= limits.max)
        found = self._of_unknown(values, dtype)
        if known.any():
            keys, places = (ops.convert_to_tensor(x[known].astype(dtype)) for x in (self._keys, self._places))
            flat = ops.reshape(values, (-1,))
            at = ops.minimum(_places_of(flat, keys), int(known.sum()) - 1)
            found = ops.where(ops.take(keys, at) == flat, ops.take(places, at), ops.reshape(found, (-1,)))
            found = ops.reshape(found, ops.shape(values))
        if self._mask is not None and not self.adapted.invert:
            found = ops.where(values == self._mask, 0 if self._has_mask else -1, found)
        return found

    def _of_unknown(self, values, dtype):
        """What stands for an integer that is not in the vocabulary."""
        if self._unknown < 2:
            return ops.full_like(values, self._default + self._has_mask * self._unknown)
        if self.adapted.oov_method == "farmhash":
            found = buckets(values, self._unknown, self.adapted.salt)
        else:
            found = ops.mod(values, self._unknown)
        return ops.cast(found, dtype) + int(self._has_mask)


class _Hashed(_OfIntegers):
    """The bucket of each integer."""

    def categories(self, values: Any) -> Any:
        layer = self.adapted
        mask = layer.mask_value if layer.num_bins > 1 else None
        found = buckets(values, layer.num_bins - (mask is not None), layer.salt)
        return found if mask is None else ops.where(values == mask, 0, found + 1)


@adapts(keras.layers.IntegerLookup, in_specs=False)
def lookup(layer: Any, specs: Any) -> Any:
    """The place of each integer in a vocabulary."""
    _check_integers(layer, specs)
    if layer.num_oov_indices == 0 and not layer.invert:
        raise Refusal(
            "with num_oov_indices=0 it raises at an integer that it does not know, which nothing compiled can",
            "num_oov_indices=1",
        )
    return _Lookup.of(layer, specs)


@adapts(keras.layers.Hashing, in_specs=False)
def hashing(layer: Any, specs: Any) -> Any:
    """The bucket of the hash of each integer."""
    _check_integers(layer, specs)
    if layer.output_mode == "one_hot" and specs.shape[-1:] != (1,):
        raise Refusal("Keras takes its one-hot output for another shape than it has", "an input [B, T, 1]")
    if layer.num_bins > MOST_BUCKETS:
        raise Refusal(f"it has more than {MOST_BUCKETS} bins")
    return _Hashed.of(layer, specs)


def _check_integers(layer, specs):
    """Refuse what is not a category for each integer.

    Raises:
        Refusal: another output, or another input.
    """
    _checked_mode(layer)
    if "int" not in specs.dtype and not keras.backend.is_float_dtype(specs.dtype):
        raise Refusal(f"its input must be integers; received {specs.dtype}", "an input of integers")


def _places_of(values, keys):
    """How many sorted keys are below each value; other runtimes have no search."""
    if is_exporting():
        return ops.sum(ops.cast(keys < values[:, None], "int32"), axis=-1)
    return ops.searchsorted(keys, values)
