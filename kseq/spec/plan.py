"""What a checked spec comes to: calls that are known to be allowed, not yet made."""

import dataclasses
from typing import Any

from .node import Node


@dataclasses.dataclass
class Plan:
    """One object to make: a layer, an initialiser, an optimizer, ...

    Attributes:
        make: called with the arguments.
        arguments: values, plans and lists of them by name.
        node: the place of its name.
        path: the place in words.
        places: of each argument.
        label: what its automatic name is made of, or `None` where it needs none or cannot be given one.
    """

    make: Any
    arguments: dict[str, Any]
    node: Node
    path: str
    places: dict[str, Node] = dataclasses.field(default_factory=dict)
    label: str | None = None


@dataclasses.dataclass
class LayerPlan(Plan):
    """A layer to make."""


@dataclasses.dataclass
class CallPlan:
    """A layer's place in the graph of the model: the layer, or the id of one that is used again, and what it reads."""

    layer: LayerPlan | None
    share: str | None
    id: str
    inputs: list[str]
    node: Node
    path: str


@dataclasses.dataclass
class InputPlan:
    """An input of the model; `mask` is whether it has a mask, or the name of the mask's input."""

    id: str
    name: str | None
    shape: tuple[int | None, ...]
    dtype: str
    mask: bool | str
    node: Node
    path: str

    @property
    def mask_name(self) -> str | None:
        """The name of the mask's input, where there is one and its name is known."""
        if isinstance(self.mask, str):
            return self.mask
        return f"{self.name}_mask" if self.mask and self.name else None


@dataclasses.dataclass
class SpecPlan:
    """A whole checked spec; outputs are ids, by name where the model gives a dict of them."""

    name: str
    inputs: list[InputPlan]
    inputs_by_name: bool
    calls: list[CallPlan]
    outputs: list[str] | dict[str, str]
    compile: dict[str, Any] | None
    node: Node
    compile_node: Node | None
