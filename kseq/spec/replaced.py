"""Arguments of layers that are given from outside: `logits.units` is that of the layer of this name or id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import listed, shorten
from .forms import CALL_KEYS
from .node import Node

if TYPE_CHECKING:
    from .errors import Collector
    from .variables import Variables


class Replaced:
    """Puts arguments in the place of those of the spec.

    Args:
        given: a tree of values by `LAYER.ARGUMENT`, or `None`.
        variables: those of the spec, which the values may use.
    """

    def __init__(self, given: Node | None, variables: Variables) -> None:
        self.problems: Collector = variables.problems
        self._given: dict[str, dict[str, Node]] = {}  # by the layer, by the argument
        self._met: dict[str, None] = {}  # layers that have a name or an id
        self._used = set()
        for key, node in (given.value if given else {}).items():
            layer, _, argument = key.rpartition(".")
            if not layer or not argument:
                self.problems.add(f"must be LAYER.ARGUMENT; received `{shorten(key)}`", None, "set")
            elif argument in (*CALL_KEYS, "name"):
                self.problems.add(f"`{argument}` is no argument that can be set", None, f"set.{shorten(key)}")
            else:
                value = variables.put_in(node, f"set.{shorten(key)}")
                self._given.setdefault(layer, {})[argument] = value

    def put_in(self, given: Node, called: object = None) -> Node:
        """The arguments of a layer, of these those replaced that are given for it.

        Args:
            given: a node of arguments.
            called: the id of the layer, if it has one.
        """
        name = given.value.get("name")
        names = [x for x in (called, name and name.value) if isinstance(x, str) and not x.startswith("#")]
        self._met |= dict.fromkeys(names)
        items, keys = dict(given.value), dict(given.keys)
        for name in names:
            self._used.add(name)
            for argument, value in self._given.get(name, {}).items():
                items[argument] = value
                keys.setdefault(argument, Node(argument))
        return Node(items, given.line, given.column, keys)

    def check_used(self) -> None:
        """Refuse arguments of layers that there are not."""
        for name in self._given.keys() - self._used:
            message = f"no layer has the name or id `{shorten(name)}`; there are {listed(self._met)}"
            self.problems.add(message, None, "set", self.problems.near(name, self._met))
