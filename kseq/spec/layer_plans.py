"""Layers of a spec to plans: types, blocks, repeats, and how many layers there may be."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import keras

from ..registry import registered_layers
from . import catalog
from .errors import listed, shorten, shown
from .forms import mapping, pair
from .kinds import NAME
from .names import snake_case
from .node import UNKNOWN, raised
from .plan import LayerPlan
from .values import Values

if TYPE_CHECKING:
    from .catalog import Type
    from .errors import Collector
    from .node import Limits, Node
    from .replaced import Replaced
    from .variables import Variables


class LayerPlanner:
    """Plans of layers, within the variables and blocks of a spec.

    Attributes:
        values: reads arguments, with layers among them.
        blocks: their nodes by name.
    """

    problems: Collector
    limits: Limits
    variables: Variables
    replaced: Replaced
    types: dict[str, Type | None]
    failed: dict[str, str]
    using: list[str]
    used: set[str]
    layers: int
    nesting: int
    repeats: int

    def __init__(self, problems: Collector, limits: Limits, variables: Variables, replaced: Replaced) -> None:
        self.problems, self.limits, self.variables, self.replaced = problems, limits, variables, replaced
        self.values: Values = Values(problems, self.layer)
        self.blocks: dict[str, Node] = {}
        self.types, self.failed = {}, {}  # that were looked up, and why plugins failed
        self.using, self.used = [], set()  # blocks: those around this place, and all that are used
        self.expands: bool = True  # whether uses of blocks are followed
        self.layers = self.nesting = 0
        self.repeats = 1

    def define_blocks(self, given: Node | None) -> None:
        """Take the nodes of a mapping of blocks."""
        if given is None:
            return
        for key, node in mapping(given, "blocks", self.problems).items():
            place = given.keys[key]
            if not key.isidentifier():
                self.problems.add(f"a block's name is a word; received {shown(key)}", place, "blocks")
            elif self.find(key, place, "blocks") is not None:
                self.problems.add(f"`{key}` is a layer type; give the block another name", place, "blocks")
            else:
                self.blocks[key] = node

    def check_unused_blocks(self) -> None:
        """Check each block that no layer uses by itself; blocks within it are not followed."""
        self.expands, self.layers = False, 0
        for key in self.blocks.keys() - self.used:
            path = f"blocks.{key}"
            self.layer_list(self.variables.put_in(self.blocks[key], path), path)

    def layer_list(self, node: Node, path: str) -> list[LayerPlan | None]:
        if node.value is UNKNOWN:
            self.problems.again()
            return []
        if not isinstance(node.value, list):
            self.problems.add(f"must be a list of layers; received {shown(node.value)}", node, path)
            return []
        return [self.layer(item, f"{path}[{i}]") for i, item in enumerate(node.value)]

    def layer(self, node: Node, path: str, called: Any = None) -> LayerPlan | None:
        """The plan of `Type: {arguments}`, of the id `called`, or `None` where anything in it is wrong."""
        before = self.problems.wrong
        plan = self._layer_plan(node, path, called)
        return plan if self.problems.wrong == before else None

    def _layer_plan(self, node, path, called):
        name, place, given = pair(node, path, "layer", self.problems)
        if name is None:
            return None
        given = self.replaced.put_in(given, called)
        before = self.problems.wrong
        self._count_layer(place, path)
        outer, path = path, f"{path}.{shorten(name)}"
        if name in self.blocks:
            return self._block(name, place, given, path)
        type_ = self.find(name, place, outer)
        if type_ is None:
            if self.problems.wrong == before:  # no plugin's fault
                self._unknown_type(name, place, outer)
            return None
        self.nesting += 1
        with self._repeated(type_, given, path):
            plan = self.values.arguments(type_, place, given, path, LayerPlan)
        self.nesting -= 1
        if "name" in type_.arguments:
            plan.label = snake_case(type_.name.rpartition(".")[2])
        return plan

    def find(self, name: str, node: Node, path: str) -> Type | None:
        """The type of a name, or `None`; a plugin that fails is a problem."""
        if name not in self.types:
            try:
                self.types[name] = catalog.find(name)
            except catalog.PluginError as error:
                self.types[name] = None
                self.failed[name] = shorten(str(error))
        if name in self.failed:
            self.problems.add(self.failed[name], node, path)
        return self.types[name]

    def _unknown_type(self, name, node, path):
        known = [*self.blocks, *catalog.type_names()]
        message, near = f"unknown layer type `{shorten(name)}`", self.problems.near(name, known)
        if name in vars(keras.layers):
            message = f"Keras's `{name}` has no streaming form"
        if name in registered_layers():  # it is not misspelt
            message, near = f"a spec cannot say what `{name}` is given; register a layer of your own", None
        self.problems.add(message, node, path, near or "`kseq layers` lists all")

    def _block(self, name, place, given, path):
        self.used.add(name)
        if name in self.using:
            chain = " -> ".join([*self.using[self.using.index(name) :], name])
            self.problems.stop(f"the block contains itself: {chain}", place, path)
        own = {k: v for k, v in given.value.items() if k != "name"}
        variables = self.variables.known
        for key in own:
            if key not in variables:
                hint = self.problems.near(key, [*variables, "name"])
                hint = hint or f"a block's arguments replace `vars`, which are {listed(variables)}"
                self.problems.add(f"unknown argument `{shorten(key)}`", given.keys.get(key), path, hint)
        children = []
        if self.expands:
            self.using.append(name)
            self.nesting += 1
            inner = f"{path}.layers"
            children = self.layer_list(self.variables.put_in(self.blocks[name], inner, own), inner)
            self.nesting -= 1
            self.using.pop()
        arguments: dict[str, Any] = {"layers": children}
        if "name" in given.value:
            arguments["name"] = self.values.value(NAME, given.value["name"], f"{path}.name")
        places = {"name": given.value.get("name")}
        serial = catalog.find("Serial")
        assert serial is not None
        return LayerPlan(serial.make, arguments, place, path, places, snake_case(name))

    @contextlib.contextmanager
    def _repeated(self, type_, given, path):
        """Counts the layers within as often as they are repeated."""
        node, before = given.value.get("num_repeats"), self.repeats
        if "num_repeats" in type_.arguments and node is not None and type(node.value) is int:
            if node.value > self.limits.repeats:
                message = f"more than {self.limits.repeats} repeats; received {node.value}"
                self.problems.stop(message, node, f"{path}.num_repeats", raised("repeats"))
            self.repeats *= max(node.value, 1)
        yield
        self.repeats = before

    def _count_layer(self, node, path):
        self.layers += self.repeats
        if self.layers > self.limits.layers:
            self.problems.stop(f"more than {self.limits.layers} layers, repeats counted", node, path, raised("layers"))
        if self.nesting * 4 > self.limits.depth:
            message = f"layers nested more than {self.limits.depth // 4} deep"
            self.problems.stop(message, node, path, raised("depth"))
