"""The layers of a model's own list to calls, which say what they read, and the model's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import OTHER_CHARACTERS, alike, listed, shorten, shown
from .forms import CALL_KEYS, pair
from .kinds import NAME, TEXT, Either, ListOf, MappingOf
from .node import UNKNOWN, Node
from .plan import CallPlan

if TYPE_CHECKING:
    from .errors import Collector
    from .layer_plans import LayerPlanner
    from .plan import InputPlan
    from .values import Values

OUTPUTS = Either(ListOf(TEXT), MappingOf(TEXT))


class CallPlanner:
    """Plans of calls, one after the other.

    Args:
        layers: the planner of layers.
        inputs: plans of the model's inputs.
    """

    layers: LayerPlanner
    values: Values
    problems: Collector
    inputs: Sequence[InputPlan]
    calls: list[CallPlan]

    def __init__(self, layers: LayerPlanner, inputs: Sequence[InputPlan]) -> None:
        self.layers, self.values, self.problems = layers, layers.values, layers.problems
        self.inputs, self.calls = inputs, []
        # What an id stands for: a call, or an input.
        self.known: dict[str, CallPlan | None] = {plan.id: None for plan in inputs}
        self.below: dict[str, Node] = {}  # nodes of the ids of this layer and of those after it
        self.connected: bool = True  # whether all that layers read is known

    def plan(self, node: Node) -> list[CallPlan]:
        """The calls of the list of layers."""
        if not isinstance(node.value, list) or not node.value:
            received = "none" if node.value == [] else shown(node.value)
            self.problems.add(f"must be a list of layers; received {received}", node, "layers")
            return []
        self.below = _ids_of(node.value)
        previous = self.inputs[0].id if len(self.inputs) == 1 else None
        for i, item in enumerate(node.value):
            call = self._call(item, f"layers[{i}]", previous, f"#{i}")
            self.calls.append(call)
            self.below.pop(call.id, None)
            self.known[call.id] = call
            previous = call.id
        return self.calls

    def outputs(self, node: Node | None) -> list[str] | dict[str, str]:
        """The ids of the outputs, by name where `outputs` is a mapping; the last layer's where there is no node."""
        if not self.calls:
            return []
        found = [self.calls[-1].id] if node is None else self._named_outputs(node)
        if self.connected:  # what is wrong with the connections may be all that is missing
            self._check_used({*_ids(found)} | {name for call in self.calls for name in call.inputs})
        return found

    def output_names(self, outputs: list[str] | dict[str, str]) -> dict[str, int | str]:
        """By each name that `compile` may use for an output, its number; or itself, where the model gives a dict."""
        if isinstance(outputs, dict):
            return {name: name for name in outputs}
        layers, found = {call.id: call for call in self.calls}, {}
        for i, id_ in enumerate(outputs):
            layer = layers[id_].layer if id_ in layers else None
            name = layer and layer.arguments.get("name")
            found |= {known: i for known in (name, id_) if isinstance(known, str) and not known.startswith("#")}
        return found

    def _named_outputs(self, node: Node) -> list[str] | dict[str, str]:
        before = self.problems.wrong
        found = self.values.value(OUTPUTS, node, "outputs") or []
        self.connected &= node.value is not UNKNOWN and self.problems.wrong == before
        layers = {call.id: call for call in self.calls}
        for key, name in found.items() if isinstance(found, dict) else enumerate(found):
            path = f"outputs.{shorten(key)}" if isinstance(found, dict) else f"outputs[{key}]"
            if isinstance(name, str) and not _knows(layers, name):
                self._unknown_id(name, node.value[key], path, layers)
            if isinstance(key, str) and not key:
                self.problems.add("a name must not be empty", node.keys[key], "outputs")
        ids = _ids(found)
        if self.problems.wrong == before and (not ids or len(set(ids)) < len(ids)):
            self.problems.add("must name at least one layer, and none twice", node, "outputs")
        return found

    def _check_used(self, used):
        for i, plan in enumerate(self.inputs):
            if plan.id not in used and plan.id != f"inputs[{i}]":  # nobody can use one without a name
                self.problems.add("the input is not used", plan.node, plan.path)
        for call in self.calls:
            if call.id not in used:
                hint = "name it in `outputs`, or in the `inputs` of another layer"
                self.problems.add("the output of this layer is not used", call.node, call.path, hint)

    def _call(self, item, path, previous, fallback):
        own, rest = self._split(item, path)
        at = next(iter(item.keys.values()), item) if isinstance(item.value, dict) else item
        id_ = self.values.part(own, "id", NAME, None, path) or fallback
        if id_.startswith("#") and id_ != fallback:
            self.problems.add("an id does not begin with `#`", own["id"], f"{path}.id")
        elif id_ in self.known and "id" in own:
            message, hint = self._taken(id_, id_)
            self.problems.add(message, own["id"], f"{path}.id", hint)
            id_, self.connected = fallback, False  # whoever reads the id reads the first
        elif "id" in own and (other := next((known for known in self.known if alike(known, id_)), None)):
            message, hint = self._taken(id_, other)
            self.problems.add(f"{message}, {OTHER_CHARACTERS}", own["id"], f"{path}.id", hint)
        read = self._read(own.get("inputs"), at, path, previous)
        share = self.values.part(own, "share", TEXT, None, path)
        layer = self.layers.layer(rest, path, own and id_) if share is None else None
        if share is not None:
            self._check_shared(share, own["share"], rest, path)
        named = f"{path}.{shorten(at.value)}" if isinstance(at.value, str) else path
        return CallPlan(layer, share, id_, read, at, named)

    def _taken(self, id_, by):
        """What is wrong with an id that is there already, and where."""
        owner = self.known[by] or next(plan for plan in self.inputs if plan.id == by)
        line = owner.node.line
        return f"the id `{shorten(id_)}` is taken by {owner.path}", None if line is None else f"first in line {line}"

    def _split(self, item, path):
        """A layer's `id`, `inputs` and `share`, and the layer without them."""
        if not isinstance(item.value, dict) or len(item.value) != 1:
            return {}, item
        ((name, arguments),) = item.value.items()
        if not isinstance(arguments.value, dict):
            return {}, item
        type_ = None if name in self.layers.blocks else self.layers.find(name, item.keys[name], path)
        mine = [k for k in CALL_KEYS if k in arguments.value and (type_ is None or k not in type_.arguments)]
        rest = {k: v for k, v in arguments.value.items() if k not in mine}
        rest = Node(rest, arguments.line, arguments.column, arguments.keys)
        return {k: arguments.value[k] for k in mine}, Node({name: rest}, item.line, item.column, item.keys)

    def _read(self, node, at, path, previous):
        """The ids of what a layer reads: what its `inputs` say, or the layer before."""
        if node is not None:
            found = self.values.value(ListOf(TEXT), node, f"{path}.inputs")
            if found == []:
                self.problems.add("must name at least one input", node, f"{path}.inputs")
            found = found or []
            for i, name in enumerate(found):
                if isinstance(name, str) and not _knows(self.known, name):
                    self._unknown_id(name, node.value[i], f"{path}.inputs[{i}]", self.known)
            self.connected &= bool(found)
            return found
        if previous is not None:
            return [previous]
        if self.known:  # what the inputs are is known
            message = "the first layer of a spec with several inputs must say which it reads"
            self.problems.add(message, at, path, "write `inputs: [id]`")
        self.connected = False
        return []

    def _check_shared(self, share, node, item, path):
        """Checks a second use of a layer."""
        name, place, given = pair(item, path, "layer", self.problems)
        original = self.known.get(share) if _knows(self.known, share) else None
        if original is None or original.layer is None:
            layers = [k for k, call in self.known.items() if call and call.layer]
            self._unknown_id(share, node, f"{path}.share", layers)
        elif name is not None and (
            given.value or getattr(self.layers.find(name, place, path), "make", None) != original.layer.make
        ):
            problem = "a layer that is used again has the type of the first use, and no arguments"
            self.problems.add(problem, place, path)

    def _unknown_id(self, name, node, path, known):
        self.connected = False
        if name in self.below and not path.startswith("outputs"):
            line = self.below[name].line
            hint = "a model has no cycles; put the layer that is read first"
            hint = hint if line is None else f"it is in line {line}; {hint}"
            message = f"the id `{shorten(name)}` is further down, and layers read what stands above them"
            self.problems.add(message, node, path, hint)
            return
        ids = [key for key in known if not key.startswith("#")]
        hint = self.problems.near(name, ids)
        self.problems.add(f"unknown id `{shorten(name)}`; known here are {listed(ids)}", node, path, hint)


def _knows(known, name):
    """Whether a spec may say an id: those of layers without one begin with `#`."""
    return name in known and not name.startswith("#")


def _ids(outputs):
    return list(outputs.values() if isinstance(outputs, dict) else outputs)


def _ids_of(items) -> dict:
    """The nodes of the ids of layers, by id."""
    found = {}
    for item in items:
        arguments = next(iter(item.value.values())).value if isinstance(item.value, dict) and item.value else None
        id_ = arguments.get("id") if isinstance(arguments, dict) else None
        if id_ is not None and isinstance(id_.value, str):
            found.setdefault(id_.value, id_)
    return found
