"""`Repeat`: layers several times over."""

from typing import Any, Unpack

import numpy as np

from ...annotations import LayerOptions
from ...arguments import as_size
from ...registry import register
from ..base import Example, SequenceLayer
from ..network import Read, chain
from ..windowed import Conv1D
from .base import Combinator, LayerList
from .branches import Residual
from .checkpoint import CheckpointGradient
from .serial import Serial


@register
class Repeat(Combinator):
    """A layer, or layers one after the other, several times over, each time with weights of its own.

    Mask and timing as in `Serial`. Seeds in the layers' configuration (of initialisers, of dropout) are those of the
    first repeat; every other draws from seeds that follow from them and from its number.

    Args:
        layers: a kseq layer or several; the repeats are made from their configuration.
        num_repeats: how often.
        remat: whether each repeat is computed again for its gradients, as by `CheckpointGradient`, so that only what
            the repeats read is kept.

    Raises:
        TypeError: an element that is not a kseq layer.
        ValueError: `num_repeats` below 1.

    Example:
        >>> import kseq
        >>> kseq.Repeat([kseq.Conv1D(4, 3, padding="reverse_causal")], num_repeats=3).timing.output_latency
        6
    """

    sublayers: tuple[Any, ...]

    layers: tuple[SequenceLayer, ...]
    num_repeats: int

    def __init__(
        self, layers: LayerList, num_repeats: int, remat: bool = False, **kwargs: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**kwargs)
        self.num_repeats = as_size("num_repeats", num_repeats)
        self.layers = self._checked(layers)
        self.remat = remat
        copies = [
            [copied(layer, i, f"{layer.name}_repeat_{i}") for layer in self.layers] for i in range(1, self.num_repeats)
        ]
        repeats = [list(self.layers), *copies]
        self.sublayers = tuple(layer for repeat in repeats for layer in repeat)
        shown = [_rematerialized(i, layers) for i, layers in enumerate(repeats)] if remat else self.sublayers
        nodes, last = chain(shown, Read(0))
        self.connect(nodes, [last])

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"layers": [Residual([Conv1D(3, 3, padding="reverse_causal")])], "num_repeats": 2}),
            Example({"layers": [Conv1D(3, 2)], "num_repeats": 2, "remat": True}),
        ]


def copied(layer: SequenceLayer, i: int, name: str) -> SequenceLayer:
    """A copy of a layer, under another name, from its configuration; its seeds follow from the layer's and from `i`."""
    config = _reseeded(layer.get_config(), (i, _repeats(layer)))
    return type(layer).from_config(config | {"name": name})


def _rematerialized(i, layers):
    layer = layers[0] if len(layers) == 1 else Serial(layers, name="layers", autocast=False)
    return CheckpointGradient(layer, name=f"repeat_{i}", autocast=False)


def _repeats(layer) -> int:
    """How many `Repeat`s a layer holds one within the other: their seeds must not be those of one around them."""
    within = max((_repeats(node.layer) for node in getattr(layer, "nodes", ())), default=0)
    return within + isinstance(layer, Repeat)


def _reseeded(config, place):
    """A configuration, each seed in it replaced by one that follows from it and from the numbers of a place."""
    if isinstance(config, dict):
        return {
            key: _seed_at(value, place) if key == "seed" and type(value) is int else _reseeded(value, place)
            for key, value in config.items()
        }
    return type(config)(_reseeded(value, place) for value in config) if type(config) in (list, tuple) else config


def _seed_at(seed, place):
    return int(np.random.SeedSequence([seed % 2**64, *place]).generate_state(1)[0]) % 2**31
