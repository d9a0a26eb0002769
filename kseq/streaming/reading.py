"""The calls of a Keras model as nodes of a network: what each reads, and which layer steps in its place."""

import dataclasses
import itertools
from typing import Any

import keras

from ..layers.base import SequenceLayer
from ..layers.network import LayerNode, Read
from ..layers.structures import as_sequence
from ..model_graph import Call, Tensor, is_graph, map_structure, matched, read_model, tensors
from ..obstacles import NotStreamable, Obstacle
from ..sequence import Sequence, SequenceSpec
from .adapters import InputSlot, Unadapted, adapt
from .context import ContextGraph


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """A sequence that a model reads: the name of the `keras.Input` of its values, and of its mask's, if it has one."""

    name: str
    mask: str | None
    spec: SequenceSpec


@dataclasses.dataclass
class ModelNodes:
    """What a model is made of: its nodes, those without a streaming form included, and its ends.

    The structures are Keras's, with numbers in the place of tensors.
    """

    nodes: list[LayerNode]
    reads: list[Read]
    inputs: tuple[ModelInput, ...]
    context: ContextGraph
    given: dict[str, Tensor]
    graph_inputs: Any
    input_structure: Any
    output_structure: Any

    @property
    def obstacles(self) -> list[Obstacle]:
        """A row for every layer and operation that has no streaming form."""
        return [row for node in self.nodes if isinstance(node.layer, Unadapted) for row in node.layer.obstacles()]


def read_nodes(model, as_layer) -> ModelNodes:
    """The nodes of a model, whose inputs have the keys 0, 1, ...

    Args:
        model: a sequential or functional model.
        as_layer: makes the layer of a model within it.

    Raises:
        TypeError: a subclassed model, which has no graph.
        ValueError: a model that is not built.
    """
    if is_graph(model) and not model.built:
        raise ValueError(f"the model {model.name!r} must be built before it can stream: give it a keras.Input")
    graph = read_model(model)
    called = [_Called.of(call, as_layer) for call in graph.calls]
    streams = _upstream(called, graph.outputs, context=False)
    ahead = _upstream(called, [one.context for one in called])
    masks = _masks_of_inputs(graph, called)
    names = {t: layer.name for t, layer in graph.input_layers.items()}
    found = {t: ModelInput(names[t], names.get(masks.get(t)), _spec(t)) for t in tensors(graph.inputs)}
    found = {t: given for t, given in found.items() if t not in masks.values()}
    of_stream = {t: given for t, given in found.items() if t in streams or t not in ahead}
    reader = _Reader(names, masks, of_stream)
    for one in called:
        if not streams.isdisjoint(one.outputs) or ahead.isdisjoint(one.outputs):
            reader.add(one, _upstream(called, one.context) & streams)
    reads, output_structure = reader.ends(graph.outputs)
    by_name = {name: t for t, name in names.items()}
    context = ContextGraph(
        inputs=tuple(given for t, given in found.items() if t not in of_stream),
        tensors=by_name,
        calls=tuple(one.call for one in called if not ahead.isdisjoint(one.outputs)),
        wanted=reader.wanted,
    )
    return ModelNodes(
        nodes=reader.nodes,
        reads=reads,
        inputs=tuple(of_stream.values()),
        context=context,
        given=by_name,
        graph_inputs=graph.inputs,
        input_structure=_numbered(graph.inputs, {t: i for i, t in enumerate(of_stream)}),
        output_structure=output_structure,
    )


@dataclasses.dataclass
class _Called:
    """A call, the layer that steps in its place (`None` where an adapter has to be found), and what is context of it.

    The context is by name a tensor, or a sequence of two.
    """

    call: Call
    layer: SequenceLayer | None
    context: dict[str, Any]

    @classmethod
    def of(cls, call, as_layer):
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
        rows = [Obstacle(operation.name, type(operation).__name__, reason)]
    return Unadapted(operation, rows, _output_specs(call), len(call.inputs))


def _context_of(call, layer):
    if layer is None or isinstance(layer, Unadapted):
        return {}
    if layer is call.operation:
        return {name: paired(part) for name, part in (call.keywords.get("context") or {}).items()}
    inputs = layer.nodes_read.context.inputs
    return dict(zip((own.name for own in inputs), _in_place_of(layer, inputs, call), strict=True))


def _in_place_of(layer, inputs, call) -> list:
    """What stands in a call in the place of inputs of a model within the model: tensors, or sequences."""
    given, own_tensors = dict(matched(layer.nodes_read.graph_inputs, call.arguments[0])), layer.nodes_read.given
    found = []
    for own in inputs:
        values = given[own_tensors[own.name]]
        found.append(values if own.mask is None else Sequence(values, given[own_tensors[own.mask]]))
    return found


def _upstream(called, ends, context=True) -> set[Tensor]:
    """All tensors that some are made of, those that are read as context included or not."""
    found = set(tensors(ends))
    for one in reversed(called):
        if not found.isdisjoint(one.outputs):
            found |= set(one.call.inputs) - (set() if context else set(tensors(one.context)))
    return found


class _Reader:
    """Turns calls into nodes; `where` says what is read for each tensor."""

    def __init__(self, names, masks, inputs):
        self.nodes, self.wanted, self.names = [], {}, names
        self.where = {t: Read(i) for i, t in enumerate(inputs)}
        self.where |= {masks[t]: Read(i, part="mask") for i, t in enumerate(inputs) if t in masks}

    def add(self, one: _Called, flowing):
        """Add a call, of whose context `flowing` is what streams."""
        call, layer = one.call, one.layer
        if layer is None:
            layer, reads = self.adapted(call)
        elif isinstance(layer, Unadapted):
            reads = [self.read(t) for t in call.inputs]
        elif layer is call.operation:
            reads = self.sequence_reads(layer, call)
        else:
            reads = [self.read(part) for part in _in_place_of(layer, layer.inputs, call)]
        if flowing:
            reason = f"its context is made of {', '.join(self.names.get(t, t.name) for t in flowing)}, which streams"
            row = Obstacle(layer.name, type(layer.origin()).__name__, reason, "a second input for what flows along")
            layer = Unadapted(layer, [row], _output_specs(call), layer.num_inputs)
        keys = []
        for end in _ends_of(layer, call.outputs):
            keys.append(object())
            values, mask = end if isinstance(end, Sequence) else (end, None)
            self.where[values] = Read(keys[-1])
            if mask is not None:
                self.where[mask] = Read(keys[-1], part="mask")
        read_as = {}
        for name, part in one.context.items():
            read_as[name] = f"{len(self.wanted)}: {layer.name}/{name}"
            self.wanted[read_as[name]] = part
        hidden = not isinstance(call.operation, keras.layers.Layer) and all(t.is_mask for t in call.inputs)
        self.nodes.append(LayerNode(layer, tuple(reads), tuple(keys), layer.name, read_as, hidden))

    def sequence_reads(self, layer, call):
        """Of a kseq layer: tensors or sequences, with a mask that is given beside a tensor."""
        given = call.arguments[0] if call.arguments else call.keywords["x"]
        given = (given,) if layer.num_inputs == 1 else given
        return [self.read(paired(x), call.keywords.get("mask")) for x in given]

    def adapted(self, call):
        """Of a stock layer or an operation: a slot for each tensor."""
        reads, specs, keywords = [], [], dict(call.keywords)
        mask = keywords.pop("mask", None) if isinstance(call.operation, keras.layers.Layer) else None

        def slot(leaf):
            if not isinstance(leaf, Tensor):
                return leaf
            reads.append(self.read(leaf, mask))
            specs.append(_spec(leaf))
            return InputSlot(len(reads) - 1)

        arguments, keywords = (map_structure(slot, part) for part in (call.arguments, keywords))
        call = dataclasses.replace(call, arguments=arguments, keywords=keywords)
        return adapt(call, specs, _output_specs(call)), reads

    def read(self, x, mask=None):
        """What is read for a tensor, or for a sequence of two."""
        values, mask = x if isinstance(x, Sequence) else (x, mask)
        read = self.where[values]
        if not isinstance(mask, Tensor):
            return read
        from_mask = self.where[mask]
        own = from_mask == Read(read.value, part="mask")
        return read if own else read._replace(mask=from_mask)

    def ends(self, outputs):
        """What is read for the model's outputs, and their numbers in its structure."""
        reads = []

        def number(part):
            part = paired(part)
            if isinstance(part, (Tensor, Sequence)):
                reads.append(self.read(part))
                return len(reads) - 1
            if isinstance(part, dict):
                return {key: number(value) for key, value in part.items()}
            return [number(value) for value in part]

        structure = number(outputs)
        return reads, structure


def _ends_of(layer, outputs) -> list:
    """The outputs of a call, tensors or sequences, in the order of the layer's."""
    structure = getattr(layer, "output_structure", None)
    if structure is not None:
        by_number = dict(matched(structure, outputs))
        return [paired(by_number[n]) for n in range(len(by_number))]
    if layer.num_outputs == 1:
        return [paired(outputs)]
    return [paired(part) for part in (outputs.values() if isinstance(outputs, dict) else outputs)]


def paired(x):
    """A `Sequence` where it is one, or the plain pair that it becomes in a model loaded from a file."""
    if isinstance(x, (list, tuple)) and len(x) == 2 and isinstance(x[1], Tensor) and x[1].is_mask:
        return as_sequence(x)
    return x


def _masks_of_inputs(graph, called) -> dict[Tensor, Tensor]:
    """By an input of values its mask's input: that with which a layer reads it, or else that which follows it."""
    given, found = list(tensors(graph.inputs)), {}
    for one in called:
        for x in (*one.call.arguments[:1], *one.context.values()):
            x = paired(x)
            if isinstance(x, Sequence) and x.values in given and x.mask in given and x.mask not in found.values():
                found.setdefault(x.values, x.mask)
    for values, mask in itertools.pairwise(given):
        if mask.is_mask and not values.is_mask and mask not in found.values():
            found.setdefault(values, mask)
    return found


def _numbered(structure, numbers):
    """The structure of a model's inputs, masks and context left out: a number for each sequence."""
    if isinstance(structure, Tensor):
        return numbers.get(structure)
    if isinstance(structure, dict):
        return {key: n for key, value in structure.items() if (n := _numbered(value, numbers)) is not None}
    found = [n for value in structure if (n := _numbered(value, numbers)) is not None]
    return found[0] if len(found) == 1 else found or None


def _output_specs(call) -> tuple[SequenceSpec, ...]:
    return tuple(map(_spec, tensors(call.outputs)))


def _spec(t: Tensor) -> SequenceSpec:
    return SequenceSpec(tuple(t.shape[2:]), keras.backend.standardize_dtype(t.dtype))
