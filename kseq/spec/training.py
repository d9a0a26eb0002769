"""How a spec says to train: the options of Keras's `compile`."""

from .errors import Near, listed, shorten
from .forms import check_keys, mapping
from .kinds import BOOLEAN, INTEGER, NUMBER, Choice, Either, ListOf, MappingOf, Object

_METRIC = Either(Object("metric"), ListOf(Object("metric")))


def compile_kinds(names=()) -> dict:
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


def plan_compile(node, values, outputs) -> dict | None:
    """The checked options, or `None` where there is no node.

    Args:
        node: that of `compile`.
        values: the reader of values.
        outputs: the model's, by name where it is a mapping.
    """
    if node is None:
        return None
    kinds = compile_kinds(list(outputs) if isinstance(outputs, dict) else ())
    check_keys(node, kinds, "compile", values.problems)
    parts = mapping(node, "compile", values.problems)
    return {key: values.value(kinds[key], item, f"compile.{key}") for key, item in parts.items() if key in kinds}


def _by_name(names, kind, *otherwise):
    kinds = otherwise if names == () else (ByOutput(names, kind), *otherwise)
    return kinds[0] if len(kinds) == 1 else Either(*kinds)


class ByOutput(MappingOf):
    """Values of one kind by names of outputs."""

    wanted = "a mapping by names of outputs"

    def __init__(self, names, kind):
        super().__init__(kind)
        self.names = names

    def accepts(self, node):
        return super().accepts(node) and not self._is_object(node.value)

    def _is_object(self, items):
        """Whether a mapping is like `Huber: {delta: 2.0}`, and no output is called `Huber`."""
        if len(items) != 1 or (self.names and not items.keys().isdisjoint(self.names)):
            return False
        return all(item.value is None or isinstance(item.value, dict) for item in items.values())

    def faults(self, node):
        yield from super().faults(node)
        for key in node.value:
            if self.names is not None and key not in self.names:
                message = f"unknown output `{shorten(key)}`; the outputs are {listed(self.names)}"
                yield message, node.keys[key], Near(key, self.names)
