"""A layer or operation of Keras's that keeps time as it is, as a layer that steps."""

import dataclasses
import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from ...layers.structures import parts
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from .adapted import Adapted
from .keras_masks import MaskRule, mask_rule_of


@dataclasses.dataclass(frozen=True)
class InputSlot:
    """The place of an input, by its number, in a call's arguments."""

    index: int


class Operation(Adapted):
    """A Keras layer or operation, called on the values of its inputs, that keeps time as it is.

    Its mask follows Keras's rule for it (`MaskRule`). Where that rule is the layer's own there is one input more than
    there are slots: a sequence whose mask says which steps are there.

    Args:
        adapted: what is called.
        arguments, keywords: what it is called with, an `InputSlot` in the place of each input.
        num_slots: how many slots there are.
        num_ends: how many tensors it gives, at each step of its inputs.
    """

    reads_presence: bool
    num_inputs: int

    invalid_value: float | None = None

    def __init__(self, adapted: Any, arguments: Any, keywords: Any, num_slots: Any, num_ends: int = 1) -> None:
        super().__init__(name=adapted.name, autocast=False)
        self.adapted = adapted
        self.reads_presence = mask_rule_of(adapted) is MaskRule.OWN
        self.num_inputs, self._num_slots = num_slots + self.reads_presence, num_slots
        self._num_ends = num_ends
        self._call = Held((tuple(arguments), keywords))
        self.built = True

    @classmethod
    def of(cls, layer: Any, specs: Any, **keywords: Any) -> Any:
        """A layer called on its input, or on a list of inputs."""
        several = isinstance(specs, list)
        slots = [InputSlot(i) for i in range(len(specs))] if several else InputSlot(0)
        return cls(layer, (slots,), keywords, len(specs) if several else 1)

    @property
    def timings(self) -> tuple[Timing, ...]:
        return (self.timing,) * self._num_ends

    def output_spec(self, input_spec: Any) -> Any:
        given = [keras.KerasTensor((None, None, *spec.shape), spec.dtype) for spec in self._slots(input_spec)]
        arguments, keywords = filled(self._call.value, given)
        made = keras.tree.flatten(self.adapted.compute_output_spec(*arguments, **keywords))
        return self._ends([SequenceSpec(tuple(y.shape[2:]), as_made(y.dtype)) for y in made])

    def output_mask(self, mask: Any) -> Any:
        masks = self._slots(mask)
        if self.reads_presence and self._num_slots > 1:  # a merge, whose rule looks at no values
            given = [ops.cast(m, "float32")[..., None] for m in masks]
            return self._own_mask(given, masks, parts(mask)[-1])
        return self._ends([functools.reduce(ops.logical_and, masks)] * self._num_ends)

    def call_layer(self, x: Any, *, training: bool = False) -> Any:
        values, masks = zip(*self._slots(x), strict=True)
        arguments, keywords = filled(self._call.value, self.arguments_of(values, masks))
        if training and isinstance(self.adapted, keras.layers.Layer):
            keywords.setdefault("training", True)
        y = self.adapted(*arguments, **keywords)
        if self.reads_presence:
            return Sequence(y, self._own_mask(values, masks, parts(x)[-1].mask))
        return self._ends([Sequence(_as_long_as(part, values[0]), masks[0]) for part in keras.tree.flatten(y)])

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Any, Any]:
        return self.call_layer(x, training=training), state

    def arguments_of(self, values: Any, masks: Any) -> Any:
        """What is called of values and their masks; by default the layer sees no masks."""
        return values

    def _ends(self, found):
        """One for each output, or the only one."""
        return found[0] if self._num_ends == 1 else tuple(found)

    def _slots(self, x) -> tuple[Any, ...]:
        """Of the input that of the slots."""
        return parts(x)[: self._num_slots]

    def _own_mask(self, values, masks, there):
        """The mask that the layer computes, where there is a step."""
        (structure, *_), _ = self._call.value
        mask = self.adapted.compute_mask(filled(structure, values), filled(structure, masks))
        if mask is None or there is None:
            return there if mask is None else mask
        return ops.logical_and(mask, there)


def _as_long_as(y, x):
    """An output of which tensorflow may have lost how many steps there are, of an input of which it is known."""
    if y.shape[1] is not None or x.shape[1] is None:
        return y
    return ops.reshape(y, (*ops.shape(x)[:2], *y.shape[2:]))


def as_made(dtype: str) -> str:
    """The dtype that a tensor has which Keras says to be of another: jax has no 64 bits unless it is told to."""
    dtype = keras.backend.standardize_dtype(dtype)
    if dtype not in ("int64", "uint64", "float64"):
        return dtype
    return keras.backend.standardize_dtype(ops.convert_to_tensor(np.zeros(0, dtype)).dtype)


class Held:
    """A value that Keras, which tracks the attributes of layers, does not look into."""

    def __init__(self, value: Any) -> None:
        self.value = value


def filled(structure: Any, values: Any) -> Any:
    """A structure with values in the place of its slots."""
    if isinstance(structure, InputSlot):
        return values[structure.index]
    if isinstance(structure, dict):
        return {key: filled(value, values) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(filled(value, values) for value in structure)
    return structure
