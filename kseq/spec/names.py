"""Automatic names of layers: the same in every process, so that a spec gives one model and a model one spec.

Keras counts names per process. Here they are counted per model, in the order in which Python would make the layers:
those within a layer before the layer itself.
"""

import re
from collections.abc import Iterable
from typing import Any


def snake_case(name: str) -> str:
    """The name that Keras makes of a class's: `LSTM` -> `lstm`, `LocalSelfAttention` -> `local_self_attention`."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class Names:
    """Gives `dense`, `dense_1`, ... and leaves out names that are taken."""

    def __init__(self, taken: Iterable[str | None] = ()) -> None:
        self._taken, self._count = set(taken), {}

    def peek(self, label: str) -> str:
        """The next automatic name of a label."""
        number = self._count.get(label, 0)
        while (name := f"{label}_{number}" if number else label) in self._taken:
            number += 1
        self._count[label] = number
        return name

    def take(self, label: str) -> str:
        """The next automatic name of a label, counted."""
        name = self.peek(label)
        self._count[label] += 1
        return name


def drop_automatic(inputs: list[dict[str, Any]], layers: list[dict[str, Any]]) -> None:
    """Take the names that a loader gives by itself out of the plain data of inputs and layers."""
    entries = []  # (arguments, label) in the order in which the loader names them

    def walk(layer):
        ((type_, arguments),) = layer.items()
        for value in arguments.values():
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, dict) and len(child) == 1 and isinstance(next(iter(child.values())), dict):
                    walk(child)
        if "name" in arguments:
            entries.append((arguments, snake_case(type_.rpartition(".")[2])))

    if len(inputs) == 1:
        entries.append((inputs[0], "input_layer"))
    for layer in layers:
        walk(layer)
    names = {id(arguments): arguments["name"] for arguments, _ in entries}
    explicit = set() if len(inputs) == 1 else {one["name"] for one in inputs}
    while True:  # a name that must stay may take an automatic one from another layer
        automatic, found = Names(explicit), set(explicit)
        for arguments, label in entries:
            name = names[id(arguments)]
            if name not in explicit and automatic.peek(label) == name:
                automatic.take(label)
            else:
                found.add(name)
        if found == explicit:
            break
        explicit = found
    for arguments, _ in entries:
        if arguments["name"] not in explicit:
            del arguments["name"]
