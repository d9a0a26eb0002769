"""The part of a Keras model that runs once, when a stream begins: what makes the context of its layers."""

import dataclasses
from typing import Any

from keras import ops

from ..layers.structures import as_sequence
from ..model_graph import Call, Tensor, map_structure, matched
from ..sequence import Sequence
from .adapters import MaskOf


@dataclasses.dataclass(frozen=True)
class ContextGraph:
    """Calls of Keras layers on whole sequences, from the model's context inputs to what its layers read.

    Attributes:
        inputs: a `ModelInput` for each input of the model that is context.
        tensors: the `Tensor` of every input of the model by its name.
        calls: in order.
        wanted: what is read, by a name of its own: a `Tensor`, or a `Sequence` of two.
    """

    inputs: tuple[Any, ...]
    tensors: dict[str, Tensor]
    calls: tuple[Call, ...]
    wanted: dict[str, Any]

    def values(self, context: Any) -> dict[str, Sequence]:
        """What the layers read, by the names in `wanted`.

        Args:
            context: by the name of an input a sequence or an array.

        Raises:
            ValueError: a mask for an input that the model reads without one.
        """
        known = {}
        for given in self.inputs:
            x = as_sequence(context[given.name])
            if x.mask is not None and given.mask is None:
                raise ValueError(f"the model reads its context {given.name!r} without a mask; received one")
            known[self.tensors[given.name]] = ops.convert_to_tensor(x.values)
            if given.mask is not None:
                known[self.tensors[given.mask]] = ops.convert_to_tensor(x.with_mask().mask)

        def put(leaf):
            return known[leaf] if isinstance(leaf, Tensor) else leaf

        for call in self.calls:
            made = call.operation(*map_structure(put, call.arguments), **map_structure(put, call.keywords))
            known.update(matched(call.outputs, made))
        return {name: self._sequence(map_structure(put, part)) for name, part in self.wanted.items()}

    def _sequence(self, x) -> Sequence:
        return x if isinstance(x, Sequence) else Sequence(x, MaskOf()(x))
