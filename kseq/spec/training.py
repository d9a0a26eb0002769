"""How a spec says to train: the options of Keras's `compile`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import Near, listed, shorten
from .forms import check_keys, mapping
from .kinds import BOOLEAN, INTEGER, NUMBER, Choice, Either, Kind, ListOf, MappingOf, Object

if TYPE_CHECKING:
    from .kinds import Fault
    from .node import Node
    from .values import Values

_METRIC = Either(Object("metric"), ListOf(Object("metric")))


def compile_kinds(names: Sequence[str] | None = ()) -> dict[str, Kind]:
    """The kinds of the options.

    Args:
        names: of outputs that have names; losses and metrics may stand under them. `None` is any names.
    """
    loss, weight, metric = Object("loss"), NUMBER, _METRIC
    return {
        "optimizer": Object("optimizer"),
        "loss": _by_name(names, loss, loss, ListOf(loss)),
        "loss_weights": _by_name(names, weight, ListOf(weight)),
        "metrics": _by_name(names, metric, ListOf(metric)),
        "weighted_metrics": _by_name(names, metric, ListOf(metric)),
        "steps_per_execution": INTEGER,
        "jit_compile": Either(BOOLEAN, Choice(["auto"])),
    }


def plan_compile(node: Node | None, values: Values, outputs: Mapping[str, int | str]) -> dict[str, Any] | None:
    """The checked options, or `None` where there is no node.

    Args:
        node: that of `compile`.
        values: the reader of values.
        outputs: by name of an output its number, or the name itself where the model gives a dict.
    """
    if node is None:
        return None
    kinds = compile_kinds(list(outputs) or ())
    check_keys(node, kinds, "compile", values.problems)
    parts = mapping(node, "compile", values.problems)
    found = {}
    for key, item in parts.items():
        if key in kinds:
            before = values.problems.wrong
            value = values.value(kinds[key], item, f"compile.{key}")
            if values.problems.wrong == before and isinstance(kinds[key], Either) and isinstance(value, dict):
                value = _in_order(key, value, item, outputs, values.problems)
            found[key] = value
    return found


def _in_order(key, value, node, outputs, problems):
    """What stands under names of outputs as a list, as Keras has it for a model that gives one."""
    if any(isinstance(place, str) for place in outputs.values()):
        return value
    parts = [None] * (max(outputs.values()) + 1)
    first = {}
    for name, part in value.items():
        other = first.setdefault(outputs[name], name)
        if other != name:
            message = f"`{shorten(other)}` and `{shorten(name)}` are one output"
            problems.add(message, node.keys[name], f"compile.{key}")
        parts[outputs[name]] = part
    if key == "loss_weights":
        return [1.0 if part is None else part for part in parts]
    if key != "loss":
        parts = [part if isinstance(part, list) else [] if part is None else [part] for part in parts]
    return parts if len(parts) > 1 else parts[0]


def _by_name(names, kind, *otherwise):
    kinds = otherwise if names == () else (ByOutput(names, kind), *otherwise)
    return kinds[0] if len(kinds) == 1 else Either(*kinds)


class ByOutput(MappingOf):
    """Values of one kind by names of outputs."""

    wanted = "a mapping by names of outputs"

    def __init__(self, names: Sequence[str] | None, kind: Kind) -> None:
        super().__init__(kind)
        self.names: Sequence[str] | None = names

    def accepts(self, node: Node) -> bool:
        return super().accepts(node) and not self._is_object(node.value)

    def _is_object(self, items):
        """Whether a mapping is like `Huber: {delta: 2.0}`, and no output is called `Huber`."""
        if len(items) != 1 or (self.names and not items.keys().isdisjoint(self.names)):
            return False
        return all(item.value is None or isinstance(item.value, dict) for item in items.values())

    def faults(self, node: Node) -> Iterable[Fault]:
        yield from super().faults(node)
        for key in node.value:
            if self.names is not None and key not in self.names:
                message = f"unknown output `{shorten(key)}`; the outputs are {listed(self.names)}"
                yield message, node.keys[key], Near(key, self.names)
