"""`Combinator`: what layers made of layers share."""

from collections.abc import Iterable
from typing import Any

from ..base import SequenceLayer
from ..network import LayerNode, Network, Read, chain, node_of
from .combine import Combine

LayerList = SequenceLayer | Iterable[SequenceLayer]


class Combinator(Network):
    """A network of one input that `sublayers`, given to the constructor, are connected to.

    Attributes:
        sublayers: the layers in the order in which they run.
    """

    sublayers: tuple[SequenceLayer, ...]

    def _checked(self, layers, name="layers") -> tuple[SequenceLayer, ...]:
        layers = (layers,) if isinstance(layers, SequenceLayer) else tuple(layers)
        for i, layer in enumerate(layers):
            self._checked_one(layer, f"{name}[{i}]")
        return layers

    def _checked_one(self, layer, name="layer") -> SequenceLayer:
        if not isinstance(layer, SequenceLayer):
            raise TypeError(
                f"{type(self).__name__}: `{name}` must be a kseq layer; received {layer!r} of type "
                f"{type(layer).__name__}"
            )
        return layer

    def _connect_chain(self, layers):
        self.sublayers = layers
        nodes, last = chain(layers, Read(0))
        self.connect(nodes, [last])

    def _connect_branches(self, layers, combination):
        """Connect layers side by side; `combination` is one by name, or a layer that takes all their outputs."""
        self.sublayers = layers
        nodes = [node_of(layer, [Read(0)]) for layer in layers]
        last = Read(0)
        if nodes:
            nodes.append(combining([node.name for node in nodes], [Read(n.outputs[0]) for n in nodes], combination))
            last = Read(nodes[-1].outputs[0])
        self.connect(nodes, [last])


def combining(names: list[str], reads: list[Read], combination: Any) -> LayerNode:
    """A node that combines what is read of branches of these names."""
    # It takes what the layers give, whatever the dtype.
    if isinstance(combination, str):
        combination = Combine(combination, names, name=combination, autocast=False)
    return node_of(combination, reads, hidden=True)
