"""What networks are made of: the places of layers in them, and what each reads."""

import dataclasses
from collections.abc import Hashable
from fractions import Fraction
from typing import Any, NamedTuple

from keras import ops

from ..sequence import Sequence, SequenceSpec
from ..timing import Timing
from .base import SequenceLayer
from .delay import Delay
from .structures import parts


class Read(NamedTuple):
    """What is read of a network's values.

    Attributes:
        value: a key: the number of an input, or one of a node's outputs.
        mask: where the mask of what is read comes from instead, or `None` where it is the value's own.
        part: the whole `sequence`, or its `mask` as bool values [B, T], all valid unless `mask` says otherwise.
    """

    value: Hashable
    mask: "Read | None" = None
    part: str = "sequence"

    @property
    def values(self) -> tuple[Any, ...]:
        """Keys of all that is looked at."""
        return (self.value,) if self.mask is None else (self.value, *self.mask.values)

    def of(self, found: Any) -> Sequence:
        """The sequence that is read."""
        y = found[self.value]
        if self.part == "mask":
            y = Sequence(y.with_mask().mask)
        return y if self.mask is None else Sequence(y.values, self.mask.mask_of(found))

    def mask_of(self, found: Any) -> Any:
        """The mask that is read: that of a sequence, or the values of an operation on masks where these are valid."""
        if self.part == "mask":
            return found[self.value].mask
        values, mask = self.of(found)
        return values if mask is None else ops.logical_and(values, mask)


@dataclasses.dataclass(frozen=True, eq=False)
class LayerNode:
    """A layer's place in a network.

    Attributes:
        layer: the layer.
        reads: what it reads, in the order of its inputs.
        outputs: keys of what it gives.
        name: of its state, alone in the network.
        context: by a name of the layer's context the name in the network's.
        training: what the layer is told in the place of the network's `training`, or `None`.
        hidden: whether it is there for the network rather than for its author.
        delays: by the key of what it reads late the delay in step mode; set by the network.
        ratio: steps that it reads for each of the network's input; set by the network.
    """

    layer: SequenceLayer
    reads: tuple[Read, ...]
    outputs: tuple[Hashable, ...]
    name: str
    context: dict[str, str] = dataclasses.field(default_factory=dict)
    training: bool | None = None
    hidden: bool = False
    delays: dict[Hashable, Delay] = dataclasses.field(default_factory=dict)
    ratio: Fraction = Fraction(1)

    @property
    def sources(self) -> tuple[Any, ...]:
        """Keys of the values that it reads, each once."""
        return tuple(dict.fromkeys(key for read in self.reads for key in read.values))

    def given(self, found: Any) -> Any:
        """The layer's input."""
        sequences = tuple(read.of(found) for read in self.reads)
        return sequences[0] if self.layer.num_inputs == 1 else sequences

    def given_specs(self, specs: Any) -> Any:
        """The spec of the layer's input, or a tuple of them."""
        found = tuple(SequenceSpec((), "bool") if read.part == "mask" else specs[read.value] for read in self.reads)
        return found[0] if self.layer.num_inputs == 1 else found

    def read_context(self, context: Any) -> dict[str, Any]:
        """The keyword argument `context` of the layer, if it reads any."""
        return {"context": {name: context[key] for name, key in self.context.items()}} if self.context else {}

    def trains(self, training: bool) -> bool:
        """What the layer is told of the network's `training`."""
        return training if self.training is None else self.training

    def give(self, found: Any, y: Any) -> None:
        """Note what the layer gives."""
        found.update(zip(self.outputs, parts(y), strict=True))


@dataclasses.dataclass(frozen=True, eq=False)
class End:
    """An output of a network: what it reads, its timing, and the delays of what it reads late."""

    read: Read
    timing: Timing
    delays: dict[Hashable, Delay]


def chain(layers: Any, start: Read) -> tuple[list[LayerNode], Read]:
    """Nodes of layers one after the other, and what reads the last of them."""
    nodes = []
    for layer in layers:
        nodes.append(node_of(layer, (start,)))
        start = Read(nodes[-1].outputs[0])
    return nodes, start


def node_of(layer: Any, reads: Any, **options: Any) -> LayerNode:
    """A node of a layer within a combinator, whose context is the combinator's."""
    context = {name: name for name in layer.context_names}
    outputs = tuple(object() for _ in layer.timings)
    return LayerNode(layer, tuple(reads), outputs, layer.name, context, **options)


def named_apart(nodes: Any) -> Any:
    """The nodes, each with a name of its own: of equal ones all but the first have a number."""
    taken = set()
    for node in nodes:
        name, n = node.name, 1
        while name in taken:
            name, n = f"{node.name}_{n}", n + 1
        taken.add(name)
        yield node if name == node.name else dataclasses.replace(node, name=name)
