"""Leaves of a state that are equal whatever a stream is fed, as clocks of layers are: a file computes them once."""

from typing import Any, NamedTuple

import numpy as np
import xxhash

# What gives what it is given, where that is twice the same: where branches meet their masks do, too.
_IDEMPOTENT = ("Identity", "LogicalAnd", "LogicalOr")


class Leaf(NamedTuple):
    """A leaf in a graph of tensorflow: its name, what it begins with, and the tensors before and after a step."""

    name: str
    initial: np.ndarray
    old: Any
    new: Any


def equal_leaves(graph: Any, leaves: list[Leaf]) -> dict[str, str]:
    """The names of leaves, each with that of the first one that it equals at every step.

    Leaves that begin as equals are taken for equals, and stay so where the same operations make the next ones of the
    same tensors and of what is taken for equal; where they do not, all is looked at again without that pair.
    """
    kinds = [(op, _kind(op)) for op in graph.get_operations()]
    groups = _numbered((x.initial.shape, x.initial.dtype.name, x.initial.tobytes()) for x in leaves)
    count = 0
    while max(groups, default=-1) >= count:
        count = max(groups) + 1
        numbers = _by_value(kinds, dict(zip((x.old.op.name for x in leaves), groups, strict=True)))
        groups = _numbered(
            (group, numbers[x.new.op.name], x.new.value_index) for group, x in zip(groups, leaves, strict=True)
        )
    firsts: dict[int, str] = {}
    return {leaf.name: firsts.setdefault(group, leaf.name) for leaf, group in zip(leaves, groups, strict=True)}


def _by_value(kinds, groups):
    """A number for every operation, the same for those that give the same."""
    known, numbers = {}, {}
    for op, kind in kinds:
        inputs = tuple((numbers[x.op.name], x.value_index) for x in op.inputs)
        key = ("leaf", groups[op.name]) if op.name in groups else (kind, inputs)
        if op.type in _IDEMPOTENT and set(inputs) == {(inputs[0][0], 0)}:
            numbers[op.name] = inputs[0][0]
        else:
            numbers[op.name] = known.setdefault(key, len(known))
    return numbers


def _kind(op):
    """What an operation is, but for its inputs; one that may give other things each time is like no other."""
    if op.type == "Placeholder" or op.op_def.is_stateful or op.control_inputs:
        return op.name
    attributes = sorted(op.node_def.attr.items())
    found = b"".join(name.encode() + value.SerializeToString() for name, value in attributes if name[0] != "_")
    return op.type, xxhash.xxh3_128_digest(found)


def _numbered(keys):
    known: dict[Any, int] = {}
    return [known.setdefault(key, len(known)) for key in keys]
