"""Automatic names of layers: the same in every process, so that a spec gives one model and a model one spec.

Keras counts names per process. Here they are counted per model, in the order in which Python would make the layers:
those within a layer before the layer itself.
"""

import re


def snake_case(name: str) -> str:
    """The name that Keras makes of a class's: `LSTM` -> `lstm`, `LocalSelfAttention` -> `local_self_attention`."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class Names:
    """Gives `dense`, `dense_1`, ... and leaves out names that are taken."""

    def __init__(self, taken=()):
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
