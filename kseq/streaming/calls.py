"""The calls of a Keras model, before adapters are found: what of them is context, and what streams."""

import dataclasses
import itertools
from typing import Any

import keras

from ..layers.base import SequenceLayer
from ..layers.structures import as_sequence
from ..model_graph import Call, Tensor, matched, tensors
from ..obstacles import NotStreamable, Obstacle
from ..sequence import Sequence, SequenceSpec
from .adapters import Unadapted, source_of, states_of


@dataclasses.dataclass
class Called:
    """A call, the layer that steps in its place (`None` where an adapter has to be found), and what is context of it.

    The context is by name a tensor, or a sequence of two.
    """

    call: Call
    layer: SequenceLayer | None
    context: dict[str, Any]

    @classmethod
    def of(cls, call: Any, as_layer: Any) -> Any:
        layer = _layer_of(call, as_layer)
        return cls(call, layer, _context_of(call, layer))

    @property
    def outputs(self) -> set[Tensor]:
        return set(tensors(self.call.outputs))


def _layer_of(call, as_layer):
    operation = call.operation
    if isinstance(operation, SequenceLayer):
        return operation
    if not isinstance(operation, keras.Model):
        return None
    try:
        return as_layer(operation)
    except NotStreamable as error:
        rows = error.obstacles
    except TypeError:
        reason = "it is a subclassed model, whose layers are unknown"
        rows = [Obstacle(operation.name, type(operation).__name__, reason, "@kseq.traceable, if its call can be read")]
    return Unadapted(operation, rows, output_specs(call), len(call.inputs))


def _context_of(call, layer):
    if layer is None:
        return source_of(call) or states_of(call)
    if isinstance(layer, Unadapted):
        return {}
    if layer is call.operation:
        return {name: paired(part) for name, part in (call.keywords.get("context") or {}).items()}
    inputs = layer.nodes_read.context.inputs
    return dict(zip((own.name for own in inputs), in_place_of(layer, inputs, call), strict=True))


def in_place_of(layer, inputs, call) -> list[Any]:
    """What stands in a call in the place of inputs of a model within the model: tensors, or sequences."""
    given, own_tensors = dict(matched(layer.nodes_read.graph_inputs, call.arguments[0])), layer.nodes_read.given
    found = []
    for own in inputs:
        values = given[own_tensors[own.name]]
        found.append(values if own.mask is None else Sequence(values, given[own_tensors[own.mask]]))
    return found


def streaming(called, outputs) -> set[Tensor]:
    """All tensors that stream; what a stock layer may read as context is not such if it streams."""
    streams = upstream(called, outputs, context=False)
    for one in called:
        if one.layer is None and one.context and not streams.isdisjoint(upstream(called, one.context)):
            one.context = {}
            return streaming(called, outputs)
    return streams


def upstream(called, ends, context=True) -> set[Tensor]:
    """All tensors that some are made of, those that are read as context included or not."""
    found = set(tensors(ends))
    for one in reversed(called):
        if not found.isdisjoint(one.outputs):
            found |= set(one.call.inputs) - (set() if context else set(tensors(one.context)))
    return found


def masks_given(call, count) -> list[Any]:
    """The masks that a call is given beside its tensors, or `None`s."""
    mask = call.keywords.get("mask")
    if mask is None:
        return [None] * count
    mask = mask.values() if isinstance(mask, dict) else mask
    return [mask] if isinstance(mask, Tensor) else list(mask)


def paired(x: Any) -> Any:
    """A `Sequence` where it is one, or the plain pair that it becomes in a model loaded from a file."""
    if isinstance(x, (list, tuple)) and len(x) == 2 and isinstance(x[1], Tensor) and x[1].is_mask:
        return as_sequence(x)
    return x


def masks_of_inputs(graph, called) -> dict[Tensor, Tensor]:
    """By an input of values its mask's input: that with which a layer reads it, or else that which follows it."""
    given, found = list(tensors(graph.inputs)), {}
    for one in called:
        beside = [Sequence(x, m) for x, m in zip(one.call.arguments[:1], masks_given(one.call, 1), strict=False)]
        for x in map(paired, (*one.call.arguments[:1], *one.context.values(), *beside)):
            if not isinstance(x, Sequence) or not isinstance(x.values, Tensor):  # a constant may come first
                continue
            if x.values in given and x.mask in given and x.mask not in found.values():
                found.setdefault(x.values, x.mask)
    for values, mask in itertools.pairwise(given):
        if mask.is_mask and not values.is_mask and mask not in found.values():
            found.setdefault(values, mask)
    return found


def output_specs(call) -> tuple[SequenceSpec, ...]:
    return tuple(map(spec_of, tensors(call.outputs)))


def spec_of(t: Tensor) -> SequenceSpec:
    return SequenceSpec(tuple(t.shape[2:]), keras.backend.standardize_dtype(t.dtype))
