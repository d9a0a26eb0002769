"""How a spec says to train: the options of Keras's `compile`, which must fit the model's outputs.

Keras finds at the first step of training whether they do, and takes some for what nobody means: of too many losses the
first ones, and lists for outputs that are a dict in the order of the alphabet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import Near, listed, shorten
from .forms import check_keys, mapping
from .kinds import BOOLEAN, INTEGER, NULL, NUMBER, Choice, Either, Kind, ListOf, MappingOf, Object
from .node import Node

if TYPE_CHECKING:
    from .kinds import Fault
    from .values import Values

_METRIC = Either(Object("metric"), ListOf(Object("metric")))
_BY_OUTPUT = ("loss", "loss_weights", "metrics", "weighted_metrics")


def compile_kinds(names: Sequence[str] | None = ()) -> dict[str, Kind]:
    """The kinds of the options.

    Args:
        names: of outputs, under which losses and metrics may stand. `None` is any names.
    """
    loss, weight, metric = Object("loss"), NUMBER, _METRIC
    return {
        "optimizer": Object("optimizer"),
        "loss": Either(ByOutput(names, loss), loss, ListOf(Either(loss, NULL))),
        "loss_weights": Either(ByOutput(names, weight), ListOf(weight)),
        "metrics": Either(ByOutput(names, metric), ListOf(Either(metric, NULL))),
        "weighted_metrics": Either(ByOutput(names, metric), ListOf(Either(metric, NULL))),
        "steps_per_execution": INTEGER,
        "jit_compile": Either(BOOLEAN, Choice(["auto"])),
    }


def plan_compile(
    node: Node | None, values: Values, outputs: list[str] | dict[str, str], names: Mapping[str, int | str]
) -> dict[str, Any] | None:
    """The checked options, or `None` where there is no node.

    Args:
        node: that of `compile`.
        values: the reader of values.
        outputs: ids in order, or by name where the model gives a dict; none where they are not known.
        names: by each name of an output its number, or the name itself where the model gives a dict.
    """
    if node is None:
        return None
    problems, kinds = values.problems, compile_kinds(list(names))
    check_keys(node, kinds, "compile", problems)
    parts = {key: item for key, item in mapping(node, "compile", problems).items() if key in kinds}
    # Keras's default, made here so that it has a name that is the same in every process.
    parts.setdefault("optimizer", Node("rmsprop", node.line, node.column))
    fitting, found, before = _Fitting(outputs, names, problems), {}, problems.wrong
    for key, item in parts.items():
        wrong = problems.wrong
        found[key] = values.value(kinds[key], item, f"compile.{key}")
        if problems.wrong == wrong and outputs and key in _BY_OUTPUT:
            found[key] = fitting.option(key, found[key], item)
    if problems.wrong == before and outputs and {"loss", "loss_weights"} <= found.keys():
        found |= fitting.weighted(found["loss"], found["loss_weights"], parts["loss_weights"])
    return found


class _Fitting:
    """Options as Keras takes them for a model's outputs: a list where the model gives a list, a dict for a dict."""

    def __init__(self, outputs, names, problems):
        self.outputs, self.names, self.problems = outputs, names, problems
        self.is_dict = isinstance(outputs, dict)

    def option(self, key, value, node):
        path = f"compile.{key}"
        if isinstance(value, dict):
            return value if self.is_dict else self._in_order(key, value, node)
        if not isinstance(value, list) or (key.endswith("metrics") and len(self.outputs) == 1):
            return value  # one for all, or all for the only one
        if self.is_dict and len(self.outputs) > 1:
            message = f"must be a mapping by names of outputs, {listed(self.outputs)}; received a list"
            self.problems.add(message, node, path, "the outputs have names, and no order")
        elif len(value) != len(self.outputs):
            message = f"must have one entry for each output, of which there {self._many}; received {len(value)}"
            hint = self._each(node) if key.endswith("metrics") else None
            self.problems.add(message, node, path, hint)
        return dict(zip(self.outputs, value, strict=False)) if self.is_dict else value

    def weighted(self, loss, weights, node) -> dict:
        """A loss and a weight for each output, of options that fit the outputs."""
        if isinstance(weights, dict):
            loss = loss if isinstance(loss, dict) else dict.fromkeys(self.outputs, loss)
            for name in weights.keys() - loss.keys():
                self.problems.add(f"the output `{shorten(name)}` has no loss", node.keys[name], "compile.loss_weights")
            return {"loss": loss, "loss_weights": {name: weights.get(name, 1.0) for name in loss}}
        if not isinstance(loss, (dict, list)) and len(weights) > 1:
            loss = [loss] * len(weights)
        return {"loss": loss, "loss_weights": weights}

    @property
    def _many(self):
        return "is 1" if len(self.outputs) == 1 else f"are {len(self.outputs)}"

    def _each(self, node):
        """What to write for metrics that all outputs should have."""
        names = [item.value for item in node.value]
        if not all(isinstance(name, str) for name in names):
            return None
        each = f"[{', '.join(names)}]"
        return f"for all of them at each: [{', '.join([each] * len(self.outputs))}]"

    def _in_order(self, key, value, node):
        """What stands under names of outputs as a list, as Keras has it for a model that gives one."""
        parts = [None] * len(self.outputs)
        first = {}
        for name, part in value.items():
            other = first.setdefault(self.names[name], name)
            if other != name:
                message = f"`{shorten(other)}` and `{shorten(name)}` are one output"
                self.problems.add(message, node.keys[name], f"compile.{key}")
            parts[self.names[name]] = part
        if key == "loss_weights":
            return [1.0 if part is None else part for part in parts]  # Keras takes no number by itself
        if key != "loss":
            parts = [part if isinstance(part, list) else [] if part is None else [part] for part in parts]
        return parts if len(parts) > 1 else parts[0]


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
                known = f"the outputs are {listed(self.names)}" if self.names else "no output has a name"
                hint = Near(key, self.names) if self.names else "give the output's layer an `id` or a `name`"
                yield f"unknown output `{shorten(key)}`; {known}", node.keys[key], hint
