"""The part of a Keras model that runs once, when a stream begins: what makes the context of its layers."""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from ..layers.structures import as_sequence
from ..model_graph import Call, Tensor, map_structure, matched, tensors
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

        Of some inputs alone there is what is made of these; what is made of others too cannot be.

        Args:
            context: by the name of an input a sequence or an array.

        Raises:
            ValueError: a mask for an input that the model reads without one, or inputs that are read together with
                others that are not given.
        """
        known = {}
        for given in self.inputs:
            if given.name not in context:
                continue
            x = as_sequence(context[given.name])
            if x.mask is not None and given.mask is None:
                raise ValueError(f"the model reads its context {given.name!r} without a mask; received one")
            known[self.tensors[given.name]] = ops.convert_to_tensor(x.values)
            if given.mask is not None:
                known[self.tensors[given.mask]] = ops.convert_to_tensor(x.with_mask().mask)

        def put(leaf):
            return known[leaf] if isinstance(leaf, Tensor) else leaf

        wanted, calls = self._made_of(context)
        for call in calls:
            made = call.operation(*map_structure(put, call.arguments), **map_structure(put, call.keywords))
            known.update(matched(call.outputs, made))
        return {name: self._sequence(map_structure(put, self.wanted[name])) for name in wanted}

    def _made_of(self, context):
        """What can be read where only some inputs are given, by its name, and the calls that make it."""
        if all(given.name in context for given in self.inputs):
            return self.wanted, self.calls
        of: dict[Tensor, set[str]] = {}  # by tensor the inputs that it is made of
        for given in self.inputs:
            own = (self.tensors[name] for name in (given.name, given.mask) if name is not None)
            of.update({tensor: {given.name} for tensor in own})
        for call in self.calls:
            inputs = set().union(*(of.get(x, ()) for x in call.inputs))
            of.update(dict.fromkeys(tensors(call.outputs), inputs))
        calls = [call for call in self.calls if all(of.get(x, set()) <= context.keys() for x in call.inputs)]
        wanted = []
        for name, part in self.wanted.items():
            inputs = set().union(*(of[x] for x in tensors(part)))
            if missing := inputs - context.keys():
                if inputs & context.keys():
                    raise ValueError(
                        f"the model makes what its layers read of {', '.join(sorted(inputs))} together; received a "
                        f"context without {', '.join(sorted(missing))}"
                    )
                continue
            wanted.append(name)
        return wanted, calls

    def _sequence(self, x) -> Sequence:
        return x if isinstance(x, Sequence) else Sequence(x, MaskOf()(x))


def as_long_as(first: Sequence | None, name: str, x: Any) -> Any:
    """A context in the place of another: a shorter sequence is padded with invalid steps, all else is as it is.

    Args:
        first: the other one, or `None` where there is none of the name.
        name: its name.
        x: a sequence or an array.

    Raises:
        ValueError: a sequence that is longer than the first, or an array that is not of its shape.
    """
    if first is None:
        return x  # which is refused by its name
    is_sequence, given = isinstance(x, (tuple, list)), as_sequence(x)
    wanted: tuple[Any, ...] = tuple(first.values.shape)
    found: tuple[Any, ...] = tuple(getattr(given.values, "shape", ()))
    if is_sequence and len(found) > 1 and (found[0], *wanted[1:2], *found[2:]) == wanted and found[1] < wanted[1]:
        return given.pad_time(0, wanted[1] - found[1])
    if found != wanted:
        longest = f", or a `Sequence` of at most {wanted[1]} steps" if len(wanted) > 2 else ""
        raise ValueError(
            f"the context {name!r} must have the shape of the one that the stream began with, {wanted}{longest}; "
            f"received {found or type(given.values).__name__}"
        )
    return given if is_sequence else x


def in_numpy(context: dict[str, Any]) -> dict[str, Sequence]:
    """A context, sequences or arrays by name, as sequences of NumPy arrays."""
    return {
        name: Sequence(*(None if part is None else np.asarray(ops.convert_to_numpy(part)) for part in as_sequence(x)))
        for name, x in context.items()
    }
