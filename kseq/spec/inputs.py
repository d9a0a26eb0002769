"""The inputs of a spec to plans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import shown
from .forms import check_keys, mapping
from .kinds import BOOLEAN, INPUT_DTYPES, NAME, NULL, Choice, Either, ListOf, Size
from .plan import InputPlan

if TYPE_CHECKING:
    from .node import Node
    from .values import Values
    from .variables import Variables

INPUT_KEYS = ("shape", "dtype", "name", "mask")
SHAPE = ListOf(Either(Size(1), NULL))
_LONGEST_RANK = 8


def plan_inputs(tree: Node, meant: set[str], variables: Variables, values: Values) -> list[InputPlan]:
    """The plans of `input` or of all of `inputs`.

    Args:
        tree: the whole spec.
        meant: sections that unknown ones may have meant, which are not missed again.
        variables: those of the spec.
        values: the reader of values.
    """
    parts, problems = tree.value, values.problems
    if ("input" in parts) == ("inputs" in parts):
        received = "both" if "input" in parts else "neither"
        if not meant & {"input", "inputs"}:
            problems.add(f"a spec has either `input` or `inputs`; received {received}", tree)
        return []
    if "input" in parts:
        return [_plan("input", None, variables.put_in(parts["input"], "input"), "input", values)]
    node = variables.put_in(parts["inputs"], "inputs")
    if isinstance(node.value, list):
        return _listed(node, values)
    named = mapping(node, "inputs", problems)
    if named == {} and isinstance(node.value, dict):
        problems.add("must name at least one input", node, "inputs")
    for key in named:
        if key.startswith("#") or not key:
            message = f"an id is not empty and does not begin with `#`; received {shown(key)}"
            problems.add(message, node.keys[key], "inputs")
    return [_plan(key, key, item, f"inputs.{key}", values) for key, item in named.items()]


def _listed(node, values):
    """The plans of a list of inputs, each of which has a name: layers read it by that."""
    plans, named = [], {}
    if not node.value:
        values.problems.add("must name at least one input", node, "inputs")
    for i, item in enumerate(node.value):
        path = f"inputs[{i}]"
        plan = _plan(None, None, item, path, values)
        if plan.name is None and isinstance(item.value, dict) and "name" not in item.value:
            values.problems.add("an input in a list must have a name", item, path, "write `name: x`, and read `x`")
        elif isinstance(plan.name, str) and plan.name.startswith("#"):
            values.problems.add("an id does not begin with `#`", item.value["name"], f"{path}.name")
        plan.id = path if plan.name is None or plan.name in named else plan.name
        named[plan.name] = path
        plans.append(plan)
    return plans


def _plan(id_, name, node, path, values):
    problems = values.problems
    parts = mapping(node, path, problems)
    meant = check_keys(node, INPUT_KEYS, path, problems)
    shape = [None]
    if "shape" in parts:
        shape = _shape(parts["shape"], f"{path}.shape", values)
    elif isinstance(node.value, dict) and "shape" not in meant:
        problems.add("the key `shape` is missing", node, path, "write `shape: [null, channels]`")
    dtype = values.part(parts, "dtype", Choice(INPUT_DTYPES), "float32", path)
    name = values.part(parts, "name", NAME, name, path)
    mask = values.part(parts, "mask", Either(BOOLEAN, NAME), False, path)
    return InputPlan(id_, name, tuple(shape), dtype, mask, node, path)


def _shape(node, path, values):
    problems = values.problems
    before = problems.wrong
    shape = values.value(SHAPE, node, path) or []
    if problems.wrong > before:
        return [None]
    if not 1 <= len(shape) <= _LONGEST_RANK or any(isinstance(n, int) and n < 1 for n in shape):
        message = "must be [time, channels, ...] with sizes of at least 1, or null for any number of steps"
        problems.add(f"{message}; received {node.plain()!s:.60}", node, path)
    elif None in shape[1:]:
        problems.add("only time may be null", node, path)
    return shape
