"""The calls of a Keras model as nodes of a network: what each reads, and which layer steps in its place."""

import dataclasses
from typing import Any

import keras

from ..layers.base import SequenceLayer
from ..layers.network import LayerNode, Network, Read
from ..layers.structures import as_sequences, holds_sequences, parts
from ..model_graph import Tensor, in_words, is_graph, map_structure, matched, read_model, tensors
from ..obstacles import Obstacle
from ..sequence import Sequence, SequenceSpec
from . import presence
from .adapters import (
    BY_DEFAULT,
    PADDING,
    CallSite,
    InputSlot,
    MaskRule,
    StreamOptions,
    Unadapted,
    adapt,
    check_training,
    ends_of,
    mask_rule_of,
    takes_zeros,
)
from .calls import Called, in_place_of, masks_given, masks_of_inputs, output_specs, paired, spec_of, streaming, upstream
from .context import ContextGraph
from .declared import as_graph
from .time_last import turned


@dataclasses.dataclass(frozen=True)
class ModelInput:
    """A sequence that a model reads: the name of the `keras.Input` of its values, and of its mask's, if it has one."""

    name: str
    mask: str | None
    spec: SequenceSpec


@dataclasses.dataclass
class ModelNodes:
    """What a model is made of: its nodes, those without a streaming form included, and its ends.

    The structures are Keras's, with numbers in the place of tensors. Where a mask is lost on the way the nodes read one
    more input, whose mask says which steps are there.
    """

    nodes: list[LayerNode]
    reads: list[Read]
    inputs: tuple[ModelInput, ...]
    context: ContextGraph
    given: dict[str, Tensor]
    graph_inputs: Any
    input_structure: Any
    output_structure: Any
    reads_presence: bool

    @property
    def input_specs(self) -> tuple[SequenceSpec, ...]:
        """Of the inputs of a network of these nodes."""
        return tuple(given.spec for given in self.inputs) + (presence.SPEC,) * self.reads_presence

    @property
    def obstacles(self) -> list[Obstacle]:
        """A row for every layer and operation that has no streaming form."""
        return [row for node in self.nodes if isinstance(node.layer, Unadapted) for row in node.layer.obstacles()]


def read_nodes(model: Any, as_layer: Any, options: StreamOptions = BY_DEFAULT) -> ModelNodes:
    """The nodes of a model, whose inputs have the keys 0, 1, ...

    Args:
        model: a sequential or functional model.
        as_layer: makes the layer of a model within it.
        options: of the stream.

    Raises:
        TypeError: a subclassed model, which has no graph.
        ValueError: a model that is not built.
    """
    model = as_graph(model)
    if is_graph(model) and not model.built:
        raise ValueError(f"{in_words(model)} must be built before it can stream: give it a keras.Input")
    graph = read_model(model)
    called = [Called.of(call, as_layer) for call in graph.calls]
    streams = streaming(called, graph.outputs)
    ahead = upstream(called, [one.context for one in called])
    masks = masks_of_inputs(graph, called)
    names: dict[Any, str] = {t: layer.name for t, layer in graph.input_layers.items()}
    found = {t: ModelInput(names[t], names.get(masks.get(t)), spec_of(t)) for t in tensors(graph.inputs)}
    found = {t: given for t, given in found.items() if t not in masks.values()}
    of_stream = {t: given for t, given in found.items() if t in streams or t not in ahead}
    reader = _Reader(names, masks, of_stream, options)
    flowing = [one for one in called if not streams.isdisjoint(one.outputs) or ahead.isdisjoint(one.outputs)]
    for one in turned(flowing, graph.outputs):
        reader.add(one, upstream(called, one.context) & streams)
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
        reads_presence=reader.presence.is_used,
    )


class _Reader:
    """Turns calls into nodes, with Keras's masks: an operation, and a layer that supports none, loses the mask.

    Attributes:
        where: by a tensor the value, or the mask of a value, that it is.
        bare: tensors that have no mask of Keras's, whatever the mask of the value that they are.
    """

    def __init__(self, names: Any, masks: Any, inputs: Any, options: StreamOptions) -> None:
        self.nodes, self.wanted, self.names, self.options = [], {}, names, options
        self.zeros = {}  # by a tensor that zero padding has made what it was made of, and the zeros
        self.where = {t: Read(i) for i, t in enumerate(inputs)}
        self.where |= {masks[t]: Read(i, part="mask") for i, t in enumerate(inputs) if t in masks}
        self.bare = {t for t in inputs if t in masks}
        self.replaced = {}  # by a tensor the mask that Keras has put on it since
        self.presence = presence.Presence(len(inputs), self.nodes.append)

    def add(self, one: Called, flowing: Any) -> None:
        """Add a call, of whose context `flowing` is what streams."""
        call, layer = one.call, one.layer
        if layer is None:
            layer, reads = self.adapted(call, set(tensors(one.context)))
        elif isinstance(layer, Unadapted):
            reads = [self.read(t) for t in call.inputs]
        elif layer is call.operation:
            reads = self.sequence_reads(layer, call)
        else:
            reads = self.model_reads(layer, call)
        if flowing:
            reason = f"its context is made of {', '.join(self.names.get(t, t.name) for t in flowing)}, which streams"
            row = Obstacle(layer.name, type(layer.origin()).__name__, reason, "a second input for what flows along")
            layer = Unadapted(layer, [row], output_specs(call), layer.num_inputs)
        is_layer = isinstance(call.operation, keras.layers.Layer)
        keys = []
        for end in _ends_of(layer, call.outputs):
            keys.append(object())
            values, mask = end if isinstance(end, Sequence) else (end, None)
            self.where[values] = Read(keys[-1])
            if mask is not None:
                self.where[mask] = Read(keys[-1], part="mask")
            if loses_mask(call.operation):
                self.bare.add(values)
        read_as = {}
        for name, part in (one.context if layer.context_names else {}).items():
            read_as[name] = f"{len(self.wanted)}: {layer.name}/{name}"
            self.wanted[read_as[name]] = part
        training = call.keywords.get("training") if one.layer is not None else None
        if training and (rows := _cannot_train(layer)):
            layer = Unadapted(layer.origin(), rows, output_specs(call), len(reads))
        hidden = not is_layer and all(t.is_mask for t in call.inputs)
        node = LayerNode(layer, tuple(reads), tuple(keys), layer.name, read_as, training, hidden)
        self.presence.follow(node)
        self.nodes.append(node)

    def sequence_reads(self, layer: Any, call: Any) -> Any:
        """Of a kseq layer: tensors or sequences, with a mask that is given beside a tensor."""
        given = call.arguments[0] if call.arguments else call.keywords["x"]
        if holds_sequences(given, layer.num_inputs):
            return [self.read_sequence(x) for x in parts(as_sequences(given, layer.num_inputs))]
        given = (given,) if layer.num_inputs == 1 else given
        return [self.read(x, mask) for x, mask in zip(given, masks_given(call, len(given)), strict=True)]

    def model_reads(self, layer: Any, call: Any) -> Any:
        """Of a model within the model, with masks that are given beside its tensors."""
        given = list(tensors(call.arguments[0]))
        masks = dict(zip(given, masks_given(call, len(given)), strict=True))
        reads = []
        for part in in_place_of(layer, layer.inputs, call):
            is_pair = isinstance(part, Sequence)
            reads.append(self.read_sequence(part) if is_pair else self.read(part, masks[part]))
        # Keras puts the mask that a model is given on the very tensor, for all that read it later.
        self.replaced |= {t: mask for t, mask in masks.items() if mask is not None}
        return reads + [self.presence.of(reads[0].value)] * layer.reads_presence

    def adapted(self, call: Any, context: Any) -> Any:
        """Of a stock layer or an operation: a slot for each tensor, and what is there where its mask depends on it.

        What is in `context` has no slot.
        """
        reads, specs, keywords = [], [], dict(call.keywords)
        masks = {}
        if isinstance(call.operation, keras.layers.Layer):
            first = list(tensors(call.arguments[:1]))
            masks = dict(zip(first, masks_given(call, len(first)), strict=True))
            if not all(mask is None or mask.is_mask for mask in masks.values()):
                masks = {}  # a mask of channels, say: a tensor like others
            else:
                keywords.pop("mask", None)

        given = next(tensors((call.arguments, call.keywords)))
        batch, time = (*given.shape, None, None)[:2]
        site = CallSite(batch, time, options=self.options)

        def slot(leaf):
            nonlocal site
            if not isinstance(leaf, Tensor) or leaf in context:
                return leaf
            if leaf in self.zeros and takes_zeros(call.operation, self.zeros[leaf][1]):
                leaf, zeros = self.zeros[leaf]
                site = dataclasses.replace(site, zeros=zeros)
            site = dataclasses.replace(site, tensors=(*site.tensors, leaf))
            reads.append(self.read(leaf, masks.get(leaf)))
            specs.append(spec_of(leaf))
            return InputSlot(len(reads) - 1)

        arguments, keywords = (map_structure(slot, part) for part in (call.arguments, keywords))
        call = dataclasses.replace(call, arguments=arguments, keywords=keywords)
        layer = adapt(call, specs, output_specs(call), site)
        reads = [reads[i] for i in getattr(layer, "read_slots", range(len(reads)))]
        if layer.reads_every_step:
            reads = [self.read_every_step(read) for read in reads]
        if isinstance(call.operation, PADDING) and not isinstance(layer, Unadapted):
            [made] = tensors(call.outputs)
            self.zeros[made] = given, ends_of(call.operation)
        if layer.reads_presence:
            reads.append(self.presence.of(reads[0].value))
        return layer, reads

    def read(self, t: Any, mask: Any = None) -> Read:
        """What is read for a tensor with Keras's mask, or with another that is given beside it."""
        read, mask = self.where[t], self.replaced.get(t) if mask is None else mask
        if mask is not None:
            return self.read_sequence(Sequence(t, mask))
        bare = t in self.bare or read.part == "mask"
        return read._replace(mask=self.presence.mask_of(read.value)) if bare else read

    def read_every_step(self, read: Read) -> Read:
        """What is read by a layer that looks at no mask of Keras's."""
        return read._replace(mask=self.presence.mask_of(read.value))

    def read_sequence(self, x: Sequence) -> Read:
        """What is read for a sequence: its mask is what it says; where it has none every step counts."""
        read, own = self.where[x.values], self.where.get(x.mask)
        if own is None or read.part == "mask":
            return read._replace(mask=self.presence.mask_of(read.value) if own is None else self.read_mask(x.mask))
        return read if own == Read(read.value, part="mask") else read._replace(mask=self.read_mask(x.mask))

    def read_mask(self, mask: Any) -> Read:
        """What is read for a mask."""
        read = self.where[mask]
        return read if read.part == "mask" else self.read(mask)

    def ends(self, outputs: Any) -> Any:
        """What is read for the model's outputs, and their numbers in its structure."""
        reads = []

        def number(part):
            part = paired(part)
            if isinstance(part, (Tensor, Sequence)):
                reads.append(self.read_sequence(part) if isinstance(part, Sequence) else self.read(part))
                return len(reads) - 1
            if isinstance(part, dict):
                return {key: number(value) for key, value in part.items()}
            return [number(value) for value in part]

        structure = number(outputs)
        return reads, structure


def _cannot_train(layer) -> list[Obstacle]:
    """A row for each layer in a model that cannot be told to train in a stream."""
    if isinstance(layer, Network):
        return [row for node in layer.nodes for row in _cannot_train(node.layer)]
    adapted = layer.origin()
    if layer.training_obstacle is not None:
        return [Obstacle(layer.name, type(layer).__name__, layer.training_obstacle)]
    try:
        if adapted is not layer and isinstance(adapted, keras.layers.Layer):
            check_training(adapted, True)
    except ValueError as error:
        return [Obstacle(adapted.name, type(adapted).__name__, str(error))]
    return []


def loses_mask(operation: Any) -> bool:
    """Whether what is called gives no mask of Keras's: not a kseq layer or a model, whose outputs have their own."""
    own = isinstance(operation, (SequenceLayer, keras.Model))
    return not own and mask_rule_of(operation) is MaskRule.LOSES


def _ends_of(layer, outputs) -> list[Any]:
    """The outputs of a call, tensors or sequences, in the order of the layer's."""
    structure = getattr(layer, "output_structure", None)
    if structure is not None:
        by_number = dict(matched(structure, outputs))
        return [paired(by_number[n]) for n in range(len(by_number))]
    if isinstance(layer.origin(), keras.Operation) and not isinstance(layer.origin(), keras.layers.Layer):
        return list(tensors(outputs))  # even a list of one
    if layer.num_outputs == 1:
        return [paired(outputs)]
    return [paired(part) for part in (outputs.values() if isinstance(outputs, dict) else outputs)]


def _numbered(structure, numbers):
    """The structure of a model's inputs, masks and context left out: a number for each sequence."""
    if isinstance(structure, Tensor):
        return numbers.get(structure)
    if isinstance(structure, dict):
        return {key: n for key, value in structure.items() if (n := _numbered(value, numbers)) is not None}
    found = [n for value in structure if (n := _numbered(value, numbers)) is not None]
    return found[0] if len(found) == 1 else found or None
