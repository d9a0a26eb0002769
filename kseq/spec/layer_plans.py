"""Layers of a spec to plans: types, blocks, repeats, and how many layers there may be."""

import contextlib

import keras

from . import catalog
from .errors import did_you_mean, shorten, shown
from .kinds import NAME
from .names import snake_case
from .node import RAISE, UNKNOWN
from .plan import LayerPlan
from .values import Values, listed


class Layers(Values):
    """Plans of layers, within the variables and blocks of a spec."""

    def __init__(self, problems, limits):
        super().__init__(problems, limits)
        self.vars, self.blocks = {}, {}
        self.types, self.failed = {}, {}  # that were looked up, and why plugins failed
        self.using, self.used = [], set()  # blocks: those around this place, and all that are used
        self.expands = True  # whether uses of blocks are followed
        self.layers = self.nesting = 0
        self.repeats = 1

    def layer_list(self, node, path):
        if node.value is UNKNOWN:
            self.wrong += 1
            return []
        if not isinstance(node.value, list):
            self.problem(f"must be a list of layers; received {shown(node.value)}", node, path)
            return []
        return [self.layer(item, f"{path}[{i}]") for i, item in enumerate(node.value)]

    def layer(self, node, path):
        """The plan of `Type: {arguments}`, or `None` where anything in it is wrong."""
        before = self.wrong
        plan = self.layer_plan(node, path)
        return plan if self.wrong == before else None

    def layer_plan(self, node, path):
        name, place, given = self.pair(node, path, "layer")
        if name is None:
            return None
        before = self.wrong
        self.count_layer(place, path)
        outer, path = path, f"{path}.{shorten(name)}"
        if name in self.blocks:
            return self.block(name, place, given, path)
        type_ = self.find(name, place, outer)
        if type_ is None:
            if self.wrong == before:  # no plugin's fault
                self.unknown_type(name, place, outer)
            return None
        self.nesting += 1
        with self.repeated(type_, given, path):
            plan = self.arguments(type_, place, given, path, LayerPlan)
        self.nesting -= 1
        if "name" in type_.arguments:
            plan.label = snake_case(type_.name.rpartition(".")[2])
        return plan

    def find(self, name, node, path):
        """The type of a name, or `None`; a plugin that fails is a problem."""
        if name not in self.types:
            try:
                self.types[name] = catalog.find(name)
            except catalog.PluginError as error:
                self.types[name] = None
                self.failed[name] = shorten(str(error))
        if name in self.failed:
            self.problem(self.failed[name], node, path)
        return self.types[name]

    def unknown_type(self, name, node, path):
        known = [*self.blocks, *catalog.type_names()]
        message = f"unknown layer type `{shorten(name)}`"
        if name in vars(keras.layers):
            message = f"Keras's `{name}` has no streaming form"
        self.problem(message, node, path, did_you_mean(name, known) or "`kseq layers` lists all")

    def block(self, name, place, given, path):
        self.used.add(name)
        if name in self.using:
            chain = " -> ".join([*self.using[self.using.index(name) :], name])
            self.problems.stop(f"the block contains itself: {chain}", place, path)
        own = {k: v for k, v in given.value.items() if k != "name"}
        for key in own:
            if key not in self.vars:
                known = [*self.vars, "name"]
                hint = did_you_mean(key, known) or f"a block's arguments replace `vars`, which are {listed(self.vars)}"
                self.problem(f"unknown argument `{shorten(key)}`", given.keys.get(key), path, hint)
        children = []
        if self.expands:
            self.using.append(name)
            self.nesting += 1
            inner = f"{path}.layers"
            children = self.layer_list(self.substitute(self.blocks[name], self.vars | own, inner), inner)
            self.nesting -= 1
            self.using.pop()
        arguments = {"layers": children}
        if "name" in given.value:
            arguments["name"] = self.value(NAME, given.value["name"], f"{path}.name")
        places = {"name": given.value.get("name")}
        return LayerPlan(catalog.find("Serial").make, arguments, place, path, places, snake_case(name))

    @contextlib.contextmanager
    def repeated(self, type_, given, path):
        """Counts the layers within as often as they are repeated."""
        node, before = given.value.get("num_repeats"), self.repeats
        if "num_repeats" in type_.arguments and node is not None and type(node.value) is int:
            if node.value > self.limits.repeats:
                message = f"more than {self.limits.repeats} repeats; received {node.value}"
                self.problems.stop(message, node, f"{path}.num_repeats", f"{RAISE} `repeats`")
            self.repeats *= max(node.value, 1)
        yield
        self.repeats = before

    def count_layer(self, node, path):
        self.layers += self.repeats
        if self.layers > self.limits.layers:
            self.problems.stop(
                f"more than {self.limits.layers} layers, repeats counted", node, path, f"{RAISE} `layers`"
            )
        if self.nesting * 4 > self.limits.depth:
            message = f"layers nested more than {self.limits.depth // 4} deep"
            self.problems.stop(message, node, path, f"{RAISE} `depth`")
