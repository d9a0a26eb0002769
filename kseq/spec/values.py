"""Nodes to values by the kinds of what they are for: arguments, and objects that take arguments again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from . import catalog
from .errors import listed, shorten, shown
from .forms import CALL_KEYS, pair
from .kinds import Either, Kind, LayerKind, Object, Record, quoted_number
from .names import snake_case
from .node import UNKNOWN, Node
from .plan import Plan

if TYPE_CHECKING:
    from .errors import Collector

_LARGEST_METRIC = 4096
_Plan = TypeVar("_Plan", bound=Plan)


class Values:
    """Reads values of any kind.

    Args:
        problems: what is wrong is added here.
        layer: gives the plan of a layer, of its node and path, where a value is one.
    """

    problems: Collector

    def __init__(self, problems: Collector, layer: Callable[[Node, str], Any]) -> None:
        self.problems, self._layer = problems, layer

    def value(self, kind: Kind, node: Node, path: str) -> Any:
        """The value of a node by its kind; `None` where it is wrong."""
        if node.value is UNKNOWN:
            self.problems.again()  # it was reported where it was looked up
            return None
        if not kind.accepts(node):
            self.problems.add(f"must be {kind.wanted}; received {shown(node.value)}", node, path, kind.hint(node))
            return None
        match kind:
            case Either():
                return self.value(kind.chosen(node), node, path)
            case Object():
                return self._object(kind.role, node, path)
            case Record():
                return self.arguments(catalog.object_type(kind.cls), node, node, path)
            case LayerKind():
                return self._layer(node, path)
        faults = list(kind.faults(node))
        for message, place, hint in faults:
            self.problems.add(message, place, path, hint)
        if faults:
            return None
        if isinstance(node.value, list):
            return [self.value(kind.part(i), item, f"{path}[{i}]") for i, item in enumerate(node.value)]
        if isinstance(node.value, dict):
            return {key: self.value(kind.part(key), item, f"{path}.{key}") for key, item in node.value.items()}
        return node.value

    def part(self, parts: Mapping[str, Node], key: str, kind: Kind, default: Any, path: str = "") -> Any:
        """The value of one of the parts of a mapping, or the default where it is not there."""
        return self.value(kind, parts[key], f"{path}.{key}".lstrip(".")) if key in parts else default

    def arguments(self, type_: catalog.Type, place: Node, given: Node, path: str, plan: type[_Plan] = Plan) -> _Plan:
        """A plan of a type with its arguments checked."""
        values, places, meant = {}, {}, set()
        parts: dict[str, Node] = given.value
        for key, node in parts.items():
            argument = type_.arguments.get(type_.former.get(key, key))
            if argument is None:
                hint = self.problems.near(key, type_.arguments)
                meant |= {name for name in type_.arguments if hint and f"`{name}`" in hint}
                hint = hint or f"it takes {listed(type_.arguments)}"
                if key in CALL_KEYS:
                    hint = "only the layers of the model's own list have `id`, `inputs` and `share`"
                self.problems.add(f"unknown argument `{shorten(key)}`", given.keys.get(key), path, hint)
            elif argument.name in values:
                former = key if key != argument.name else next(k for k in given.value if type_.former.get(k) == key)
                message = f"`{former}` is a former name of `{argument.name}`, which is given too"
                self.problems.add(message, given.keys.get(key), path)
            else:
                values[argument.name] = self.value(argument.kind, node, f"{path}.{key}")
                places[argument.name] = node
        missing = [a.name for a in type_.arguments.values() if a.required and a.name not in {*values, *meant}]
        if missing:
            self.problems.add(f"missing argument{'s' * (len(missing) > 1)} {listed(missing)}", place, path)
        return plan(type_.make, values, place, path, places)

    def _object(self, role, node, path):
        """A name that Keras looks up, or the plan of one of a role's classes."""
        if isinstance(node.value, str):
            cls = role.classes.get(role.spelling.get(node.value, node.value))
            if cls is not None:
                return Plan(cls, {}, node, path, label=_label(role, cls))
            if node.value not in role.names:
                self._unknown(role, node.value, [*role.names, *role.classes], node, path)
            return node.value
        name, place, given = pair(node, path, role.name, self.problems)
        if name is None:
            return None
        if name not in role.classes:
            self._unknown(role, name, role.classes, place, path)
            return None
        plan = self.arguments(catalog.object_type(role.classes[name]), place, given, f"{path}.{name}")
        plan.label = _label(role, plan.make)
        if role.name == "metric":
            self._check_metric(plan)
        return plan

    def _unknown(self, role, name, known, node, path):
        hint = quoted_number(name) or self.problems.near(name, sorted(known))
        self.problems.add(f"unknown name of {role.wanted}: {shown(name)}", node, path, hint)

    def _check_metric(self, plan):
        for key, value in plan.arguments.items():
            if isinstance(value, int) and value > _LARGEST_METRIC:  # they allocate the square of some
                message = f"must be at most {_LARGEST_METRIC} in a metric; received {value}"
                self.problems.add(message, plan.places[key], f"{plan.path}.{key}")


def _label(role, cls):
    """Of the objects whose names Keras would count in this process."""
    return snake_case(cls.__name__) if role.name in ("optimizer", "metric") else None
