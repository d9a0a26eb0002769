"""A Keras model as a network of layers that step."""

import dataclasses
import itertools
from typing import Any

import keras

from ..layers.base import SequenceLayer
from ..layers.network import LayerNode, Network, Read
from ..layers.structures import as_sequence
from ..masks import mask_rule
from ..model_graph import Call, Tensor, is_graph, map_structure, read_model, tensors
from ..obstacles import NotStreamable
from ..sequence import Sequence, SequenceSpec
from .adapters import Held, InputSlot, Unadapted, adapt


def as_layer(model) -> SequenceLayer:
    """A kseq layer that computes what a Keras model, or layer, of streamable layers computes, with the same weights.

    Args:
        model: a kseq layer, a `keras.Sequential`, or a functional model. Of several inputs and outputs the layer takes
            and gives tuples, in the order of `ModelNetwork.inputs` and `ModelNetwork.outputs`.

    Raises:
        TypeError: something else.
        NotStreamable: layers and operations that have no streaming form, a row each.
        ValueError: a model that is not built.
    """
    if isinstance(model, SequenceLayer):
        return model
    if not isinstance(model, keras.Model):
        raise TypeError(f"expected a kseq layer or a Keras model; received {model!r} of type {type(model).__name__}")
    return ModelNetwork(model)


@mask_rule.register
def _(model: keras.Model):
    return as_layer(model).output_mask


@dataclasses.dataclass(frozen=True)
class Input:
    """A sequence that a model reads: the name of the `keras.Input` of its values, and of its mask's, if it has one."""

    name: str
    mask: str | None
    spec: SequenceSpec


class ModelNetwork(Network):
    """The graph of a functional or sequential model as one layer.

    Attributes:
        model: the model, whose variables are this layer's.
        inputs: an `Input` for each sequence that the model reads.
        input_structure: the numbers of the inputs in the structure in which Keras takes them.
        output_structure: the numbers of the outputs in the structure in which Keras gives them.
    """

    def __init__(self, model):
        super().__init__(name=model.name, autocast=False)
        found = read_nodes(model)
        missing = [row for node in found.nodes if isinstance(node.layer, Unadapted) for row in node.layer.obstacles()]
        if missing:
            reasons = "; ".join(map(str, missing))
            raise NotStreamable(f"the model {model.name!r} cannot stream: {reasons}", missing)
        self.model, self.inputs = model, found.inputs
        self._read = Held(found)
        self.connect(found.nodes, found.reads, len(found.inputs))
        self.built = True

    def origin(self):
        return self.model

    @property
    def nodes_read(self) -> "Nodes":
        """What was read of the model."""
        return self._read.value

    @property
    def input_structure(self):
        return self.nodes_read.input_structure

    @property
    def output_structure(self):
        return self.nodes_read.output_structure

    @property
    def channel_shape(self):
        shapes = tuple(given.spec.shape for given in self.inputs)
        return shapes if self.num_inputs > 1 else shapes[0]


@dataclasses.dataclass
class Nodes:
    """What a model is made of: its nodes, those without a streaming form included, and its ends."""

    nodes: list[LayerNode]
    reads: list[Read]
    inputs: tuple[Input, ...]
    graph_inputs: Any
    input_structure: Any
    output_structure: Any


def read_nodes(model) -> Nodes:
    """The nodes of a model, whose inputs have the keys 0, 1, ...

    Raises:
        TypeError: a subclassed model, which has no graph.
        ValueError: a model that is not built.
    """
    if is_graph(model) and not model.built:
        raise ValueError(f"the model {model.name!r} must be built before it can stream: give it a keras.Input")
    graph = read_model(model)
    reader = _Reader(graph)
    for call in graph.calls:
        reader.add(call)
    reads, output_structure = reader.ends(graph.outputs)
    return Nodes(reader.nodes, reads, reader.inputs, graph.inputs, reader.input_structure, output_structure)


class _Reader:
    """Turns calls into nodes; `where` says what is read for each tensor, in `reads`."""

    def __init__(self, graph):
        self.nodes = []
        masks = _masks_of_inputs(graph)
        values = [t for t in tensors(graph.inputs) if t not in masks.values()]
        self.inputs = tuple(Input(t.name, masks[t].name if t in masks else None, _spec(t)) for t in values)
        self.where = {t: Read(i) for i, t in enumerate(values)}
        self.where |= {masks[t]: Read(i, part="mask") for i, t in enumerate(values) if t in masks}
        self.input_structure = _numbered(graph.inputs, {t: i for i, t in enumerate(values)})

    def add(self, call: Call):
        operation = call.operation
        if isinstance(operation, SequenceLayer):
            layer, reads, context = operation, self.sequence_reads(operation, call), {}
        elif isinstance(operation, keras.Model):
            layer = ModelNetwork(operation)
            reads, context = self.nested_reads(layer, call), {}
        else:
            layer, reads, context = *self.adapted(call), {}
        keys = []
        for end in _ends_of(layer, call.outputs):
            keys.append(object())
            values, mask = end if isinstance(end, Sequence) else (end, None)
            self.where[values] = Read(keys[-1])
            if mask is not None:
                self.where[mask] = Read(keys[-1], part="mask")
        hidden = not isinstance(operation, keras.layers.Layer) and all(t.is_mask for t in call.inputs)
        self.nodes.append(LayerNode(layer, tuple(reads), tuple(keys), layer.name, context, hidden))

    def sequence_reads(self, layer, call):
        """Of a kseq layer: tensors or sequences, with a mask that is given beside a tensor."""
        given = call.arguments[0] if call.arguments else call.keywords["x"]
        given = (given,) if layer.num_inputs == 1 else given
        return [self.read(_paired(x), call.keywords.get("mask")) for x in given]

    def nested_reads(self, layer, call):
        """Of a model within the model: what stands where its own inputs stand."""
        given = dict(_matched(layer.nodes_read.graph_inputs, call.arguments[0]))
        by_name = {t.name: x for t, x in given.items()}
        return [
            self.read(by_name[i.name] if i.mask is None else Sequence(by_name[i.name], by_name[i.mask]))
            for i in layer.inputs
        ]

    def adapted(self, call):
        """Of a stock layer or an operation: a slot for each tensor."""
        reads, keywords = [], dict(call.keywords)
        mask = keywords.pop("mask", None) if isinstance(call.operation, keras.layers.Layer) else None

        def slot(leaf):
            if not isinstance(leaf, Tensor):
                return leaf
            reads.append(self.read(leaf, mask))
            return InputSlot(len(reads) - 1)

        arguments, keywords = (map_structure(slot, part) for part in (call.arguments, keywords))
        specs = [_spec(t) for t in tensors((call.arguments, {**call.keywords, "mask": None}))]
        outputs = tuple(_spec(t) for t in tensors(call.outputs))
        call = dataclasses.replace(call, arguments=arguments, keywords=keywords)
        return adapt(call, specs, outputs), reads

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
            part = _paired(part)
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
    if isinstance(layer, ModelNetwork):
        by_number = dict(_matched(layer.output_structure, outputs))
        return [_paired(by_number[n]) for n in range(len(by_number))]
    if layer.num_outputs == 1:
        return [_paired(outputs)]
    return [_paired(part) for part in (outputs.values() if isinstance(outputs, dict) else outputs)]


def _matched(structure, other):
    """The leaves of a structure, each with what stands in its place in another."""
    if isinstance(structure, dict):
        for key, part in structure.items():
            yield from _matched(part, other[key])
    elif isinstance(structure, (list, tuple)):
        other = other if isinstance(other, (list, tuple)) else [other]
        for part, other_part in zip(structure, other, strict=True):
            yield from _matched(part, other_part)
    else:
        yield structure, other


def _paired(x):
    """A `Sequence` where it is one, or the plain pair that it becomes in a model loaded from a file."""
    if isinstance(x, (list, tuple)) and len(x) == 2 and isinstance(x[1], Tensor) and x[1].is_mask:
        return as_sequence(x)
    return x


def _masks_of_inputs(graph) -> dict[Tensor, Tensor]:
    """By an input of values its mask's input: that with which a layer reads it, or else that which follows it."""
    given, found = list(tensors(graph.inputs)), {}
    for call in graph.calls:
        for x in call.arguments[:1]:
            x = _paired(x)
            if isinstance(x, Sequence) and x.values in given and x.mask in given and x.mask not in found.values():
                found.setdefault(x.values, x.mask)
    for values, mask in itertools.pairwise(given):
        if mask.is_mask and not values.is_mask and mask not in found.values():
            found.setdefault(values, mask)
    return found


def _numbered(structure, numbers):
    """The structure of a model's inputs, masks left out: a number for each sequence."""
    if isinstance(structure, Tensor):
        return numbers.get(structure)
    if isinstance(structure, dict):
        return {key: n for key, value in structure.items() if (n := _numbered(value, numbers)) is not None}
    found = [n for value in structure if (n := _numbered(value, numbers)) is not None]
    return found[0] if len(found) == 1 else found


def _spec(t: Tensor) -> SequenceSpec:
    return SequenceSpec(tuple(t.shape[2:]), keras.backend.standardize_dtype(t.dtype))
