"""What the picture of a model's graph shows: a box for every layer, and what each reads, from the nodes of networks."""

import dataclasses
from collections.abc import Hashable
from typing import Any, NamedTuple

from ..layers import Network, Repeat, Residual, SequenceLayer, Serial
from ..layers.combinators.combine import Combine
from ..layers.network import Read
from ..layers.structures import parts
from ..model_graph import in_words, is_graph, tensors
from ..obstacles import NotStreamable
from ..sequence import Sequence
from ..streaming.graph import ModelNetwork, as_layer
from ..streaming.presence import Present
from ..streaming.reading import read_nodes
from .svg import clean
from .table import built_for, is_identity, layer_row, model_row, shape_text

_LONGEST = 36  # characters of a name


class Wire(NamedTuple):
    """What a box reads: a value, or `once` context that is known when a stream begins."""

    value: Hashable
    once: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Box:
    """A box of the picture.

    Attributes:
        kind: "input", "output", "layer", "merge" of branches, "delay" that aligns them, "context" for a layer that runs
            once; or "entry" and "exit", the upper and the lower end of the box around.
        lines: what it says, its name first; `obstacle` if it does not stream.
        reads: its wires.
        gives: the values that it makes.
        inside: of a layer of layers the boxes within, the entry first and the exit last; none otherwise.
        hint: its name in full.
    """

    kind: str
    lines: tuple[str, ...]
    reads: tuple[Wire, ...] = ()
    gives: tuple[Hashable, ...] = ()
    inside: tuple["Box", ...] = ()
    hint: str = ""
    obstacle: bool = False


def model_boxes(model: Any) -> tuple[Box, ...]:
    """The boxes of a model or a layer, each after those that it reads.

    Raises:
        ValueError: a model or layer that is not built.
        TypeError: neither a kseq layer nor a sequential or functional Keras model.
    """
    level = _Level()
    if isinstance(model, SequenceLayer):
        given = built_for(model)
        specs = parts(given)
        names = _numbered("input", len(specs))
        wires = [Wire(level.add("input", name, _shape(spec))) for name, spec in zip(names, specs, strict=True)]
        wires += [Wire(level.add("input", name, "context"), once=True) for name in model.context_names]
        ends, names = [object() for _ in model.timings], _numbered("output", len(model.timings))
        level.add_layer(model, given, wires, ends)
    elif not is_graph(model):
        raise TypeError(
            "expected a kseq layer, or a sequential or functional Keras model; "
            f"received {model!r} of type {type(model).__name__}"
        )
    elif not model.built:
        raise ValueError(f"{in_words(model)} must be built before it is shown: give it a keras.Input")
    else:
        network = _network_of(model)
        contents = _contents_of_model(model, network)
        level.add_inputs(contents, None)
        ends, names = level.add_nodes(contents), contents.outputs
    for name, end in zip(names, ends, strict=True):
        level.add("output", name, reads=[end])
    return tuple(level.boxes)


@dataclasses.dataclass
class _Contents:
    """What is within a network or a model; ends are what each output reads and its delays, by the key of a value.

    Inputs are names with what else is to say. Context is by name what is given, and by the name that nodes read it by
    what they are `wanted` to read, which `calls` may have made of it.
    """

    nodes: Any
    specs: tuple[Any, ...]
    ends: Any
    inputs: list[tuple[str, ...]]
    outputs: list[str]
    given: dict[str, Any]
    wanted: dict[str, Any]
    calls: tuple[Any, ...] = ()
    times: int = 1  # that it is repeated
    inline: bool = False  # whether its `Serial`s were not written by its author


class _Level:
    """The boxes of one level.

    Attributes:
        boxes: so far.
        drawn: by the key of a network's value the one that is drawn in its place, or `None`.
        context: by the name that the network's nodes read it by, a value that is drawn.
    """

    def __init__(self, boxes: Any = None, drawn: Any = (), context: Any = ()) -> None:
        self.boxes: list[Box] = [] if boxes is None else boxes
        self.drawn, self.context = dict(drawn), dict(context)

    def add(self, kind: str, name: str, *lines: str, reads: Any = (), once: bool = False) -> Any:
        """Add a box that gives one value, which is returned."""
        made, said = object(), tuple(clean(line, _LONGEST) for line in (name, *lines))
        self.boxes.append(Box(kind, said, _wires(reads, once), (made,), hint=clean(name)))
        return made

    def add_inputs(self, contents: _Contents, entry: Any) -> None:
        """Add the inputs and the context of a network, which read the entry of a box around it, if there is one."""
        for i, (name, *more) in enumerate(contents.inputs):
            self.drawn[i] = self.add("input", name, _shape(contents.specs[i]), *more, reads=[entry])
        made = {}
        for name, given in contents.given.items():
            made[given] = self.add("input", name, "context", reads=[entry], once=True)
        for call in contents.calls:
            found, operation = tuple(tensors(call.outputs)), call.operation
            kind = f"{type(operation).__name__} · {' and '.join(shape_text(t.shape) for t in found)}"
            lines = clean(operation.name, _LONGEST), clean(kind, 2 * _LONGEST)
            wires = _wires((made.get(t) for t in call.inputs), once=True)
            self.boxes.append(Box("context", lines, wires, found, hint=clean(operation.name)))
            made |= zip(found, found, strict=True)
        values = {name: x.values if isinstance(x, Sequence) else x for name, x in contents.wanted.items()}
        self.context = {name: made.get(x) for name, x in values.items()}

    def add_nodes(self, contents: _Contents) -> list[Any]:
        """Add the boxes of nodes, and return the values that are drawn for the ends."""
        specs = dict(enumerate(contents.specs))
        for node in contents.nodes:
            spec = node.given_specs(specs)
            node.give(specs, node.layer.output_spec(spec))
            self._add_node(node, spec, contents.inline)
        return [self._source(read, delays, {}) for read, delays in contents.ends]

    def _add_node(self, node, spec, inline):
        layer = node.layer
        if node.hidden and not isinstance(layer, Combine):  # it is there for masks
            follows = None if isinstance(layer, Present) else self.drawn.get(node.reads[0].value)
            self.drawn |= dict.fromkeys(node.outputs, follows)
            return
        known: dict[Any, Any] = {}
        sources = [self._source(read, node.delays, known) for read in node.reads]
        context = {name: self.context.get(key) for name, key in node.context.items()}
        contents = _contents(layer, spec) if is_identity(layer) or (inline and isinstance(layer, Serial)) else None
        if contents is not None:
            within = _Level(self.boxes, enumerate(sources), context)
            self.drawn |= zip(node.outputs, within.add_nodes(contents), strict=True)
            return
        self.drawn |= zip(node.outputs, node.outputs, strict=True)
        self.add_layer(layer, spec, (*_wires(sources), *_wires(context.values(), once=True)), node.outputs)

    def _source(self, read, delays, known):
        """The value that is drawn for what is read, after its delay; `known` are those that the reader has."""
        value, delay = self.drawn.get(read.value), delays.get(read.value)
        if value is None or delay is None:
            return value
        if read.value not in known:
            known[read.value] = self.add("delay", f"delay {delay.length:,}", reads=[value])
        return known[read.value]

    def add_layer(self, layer: Any, spec: Any, wires: Any, gives: Any) -> None:
        """Add a layer's box, and those within it."""
        origin, shapes = layer.origin(), " and ".join(map(_shape, parts(layer.output_spec(spec))))
        if isinstance(layer, Combine):
            self.boxes.append(Box("merge", (layer.combination, shapes), tuple(wires), tuple(gives)))
            return
        row = model_row(origin) if is_graph(origin) else layer_row(layer, spec)
        contents = _contents(layer, spec)
        times = "" if contents is None or contents.times == 1 else f" \N{MULTIPLICATION SIGN} {contents.times:,}"
        name, kind = clean(row["layer"], _LONGEST), clean(f"{row['type']} · {shapes}", 2 * _LONGEST)
        lines = (name + times, kind, *_timing_lines(row))
        hint = clean(row["layer"]) + (f": {clean(row['obstacle'])}" if row["obstacle"] else "")
        inside = () if contents is None else _inside(contents, lines)
        self.boxes.append(Box("layer", lines, tuple(wires), tuple(gives), inside, hint, bool(row["obstacle"])))


def _inside(contents, lines) -> tuple[Box, ...]:
    level, entry = _Level(), object()
    level.boxes.append(Box("entry", lines, gives=(entry,)))
    if len(contents.inputs) == 1 and not contents.given:
        level.drawn[0] = entry
    else:
        level.add_inputs(contents, entry)
    ends = level.add_nodes(contents)
    if len(ends) > 1:
        ends = [level.add("output", name, reads=[end]) for name, end in zip(contents.outputs, ends, strict=True)]
    level.boxes.append(Box("exit", (), _wires(ends)))
    return tuple(level.boxes)


def _network_of(model) -> ModelNetwork | None:
    """The layer that a model is as it streams, if it does."""
    try:
        found: Any = as_layer(model)
        return found
    except NotStreamable:
        return None


def _contents(layer, spec) -> _Contents | None:
    if is_graph(layer.origin()):
        return _contents_of_model(layer.origin(), layer if isinstance(layer, ModelNetwork) else None)
    if not isinstance(layer, Network):
        return None
    ends, context = [(end.read, end.delays) for end in layer.ends], {name: name for name in layer.context_names}
    inputs, outputs = [(name,) for name in _numbered("input", layer.num_inputs)], _numbered("output", len(ends))
    own = isinstance(layer, Residual)
    contents = _Contents(layer.nodes, parts(spec), ends, inputs, outputs, context, context, inline=own)
    return _folded(layer, contents) if isinstance(layer, Repeat) else contents


def _contents_of_model(model, network) -> _Contents:
    found = read_nodes(model, as_layer) if network is None else network.nodes_read
    nodes = found.nodes if network is None else network.nodes
    ends = [(read, {}) for read in found.reads] if network is None else [(e.read, e.delays) for e in network.ends]
    inputs = [(given.name, *[f"mask {given.mask}"] * (given.mask is not None)) for given in found.inputs]
    outputs = _numbered("output", len(ends))
    if isinstance(found.output_structure, dict):
        outputs = [str(name) for name, _ in sorted(found.output_structure.items(), key=lambda item: item[1])]
        # A structure within has no names of its own.
        outputs = outputs if len(outputs) == len(ends) else _numbered("output", len(ends))
    context = found.context
    given = {given.name: context.tensors[given.name] for given in context.inputs}
    return _Contents(nodes, found.input_specs, ends, inputs, outputs, given, context.wanted, context.calls)


def _folded(layer, contents) -> _Contents:
    """The first of the repeats for all of them, where they are alike."""
    size, specs, made = len(layer.layers), dict(enumerate(contents.specs)), []
    for node in contents.nodes:
        node.give(specs, node.layer.output_spec(node.given_specs(specs)))
        made.append((specs[node.outputs[0]], [delay.length for delay in node.delays.values()]))
    if not size or any(made[i] != made[i % size] for i in range(len(made))):
        return contents
    nodes = contents.nodes[:size]
    ends = [(Read(nodes[-1].outputs[0]), {})]
    return dataclasses.replace(contents, nodes=nodes, ends=ends, times=layer.num_repeats)


def _wires(values, once=False) -> tuple[Wire, ...]:
    """Wires of values, each once, but of those that are not drawn."""
    return tuple(Wire(value, once) for value in dict.fromkeys(values) if value is not None)


def _numbered(name, count) -> list[str]:
    return [name] if count == 1 else [f"{name} {i}" for i in range(1, count + 1)]


def _shape(spec) -> str:
    return shape_text((None, None, *spec.shape))


def _timing_lines(row) -> list[str]:
    """What is not usual in a layer's timing."""
    if row["obstacle"]:
        return ["does not stream"]
    lines = []
    if row["input_latency"] or row["output_latency"]:
        lines.append(f"latency {row['input_latency']:,} in, {row['output_latency']:,} out")
    rates = [f"ratio {row['ratio']}"] * (row["ratio"] != "1") + [f"block {row['block']:,}"] * (row["block"] > 1)
    return lines + [" · ".join(rates)] * bool(rates)
