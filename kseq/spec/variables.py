"""Variables of a spec: `$x` anywhere is the value of `x`."""

import re

from .errors import Collector, listed, shorten, shown
from .forms import CALL_KEYS, mapping
from .node import UNKNOWN, Limits, Node, raised


class Variables:
    """The values of `vars`, and how they are put in where they are used.

    Attributes:
        known: the values by name.
    """

    problems: Collector
    limits: Limits

    def __init__(self, problems: Collector, limits: Limits) -> None:
        self.problems, self.limits = problems, limits
        self.known: dict[str, Node] = {}
        self.expanded: int = 0

    def define(self, given: Node | None, replaced: Node | None) -> None:
        """Take the values of `vars`, each of which may use those before it.

        Args:
            given: the node of `vars`, or `None`.
            replaced: a tree of values from outside that are taken in their place, or `None`.
        """
        others = {} if replaced is None else dict(replaced.value)
        if given is None:
            given = Node({})
        for key, node in mapping(given, "vars", self.problems).items():
            if not key.isidentifier():
                self.problems.add(f"a variable's name is a word; received {shown(key)}", given.keys[key], "vars")
            elif key in (*CALL_KEYS, "name"):
                message = f"`{key}` has a meaning of its own; give the variable another name"
                self.problems.add(message, given.keys[key], "vars")
            self.known[key] = self.put_in(others.pop(key, node), f"vars.{shorten(key)}")
        for key in others:
            hint = self.problems.near(key, self.known)
            message = f"unknown variable `{shorten(key)}`; the spec has {listed(self.known)}"
            self.problems.add(message, None, "vars", hint)

    def put_in(self, node: Node, path: str, own: dict[str, Node] | None = None) -> Node:
        """The node with `$x` replaced by the variable `x`, at the place of `$x`; `$$` is a dollar sign.

        Args:
            node: anything of the spec.
            path: its place in words.
            own: variables by name that hide those of `vars`, as the arguments of a block do.
        """
        return self._put_in(node, self.known | (own or {}), path)

    def _put_in(self, node, scope, path):
        self._count(node)
        value = node.value
        if isinstance(value, list):
            items = [self._put_in(item, scope, f"{path}[{i}]") for i, item in enumerate(value)]
            return Node(items, node.line, node.column)
        if isinstance(value, dict):
            items = {key: self._put_in(item, scope, f"{path}.{shorten(key)}") for key, item in value.items()}
            return Node(items, node.line, node.column, node.keys)
        if not isinstance(value, str) or not value.startswith("$"):
            return node
        if value.startswith("$$"):
            return Node(value[1:], node.line, node.column)
        found = scope.get(value[1:])
        if found is None and not value[1:].isidentifier():
            name = next((name for name in scope if re.search(rf"\b{re.escape(name)}\b", value)), "name")
            hint = f"write `${name}` alone for its value; `$$` is a dollar sign"
            message = f"`{shorten(value)}` is no variable: there are no braces and no arithmetic"
            self.problems.add(message, node, path, hint)
            return Node(UNKNOWN, node.line, node.column)
        if found is None:
            hint = self.problems.near(value[1:], scope)
            message = f"unknown variable `{shorten(value)}`; known here are {listed(scope)}"
            self.problems.add(message, node, path, hint)
            return Node(UNKNOWN, node.line, node.column)
        return self._moved(found, node)

    def _count(self, node):
        # Few variables of variables can stand for more values than fit into memory.
        self.expanded += 1
        if self.expanded > self.limits.nodes * 10:
            message = f"blocks and variables expand to more than {self.limits.nodes * 10} values"
            self.problems.stop(message, node, hint=raised("nodes"))

    def _moved(self, node, place):
        """A variable's value at the place of its use."""
        value = node.value
        self.expanded += 1
        if isinstance(value, list):
            value = [self._moved(item, place) for item in value]
        elif isinstance(value, dict):
            value = {key: self._moved(item, place) for key, item in value.items()}
        keys = {key: Node(key, place.line, place.column) for key in node.keys}
        return Node(value, place.line, place.column, keys)
