"""`Serial`: layers one after the other."""

from typing import Unpack

from ...annotations import LayerOptions
from ...registry import register
from ..base import Example, SequenceLayer
from ..recurrent import GRU
from ..windowed import Conv1D
from .base import Combinator, LayerList


@register
class Serial(Combinator):
    """Layers one after the other.  The output of each is the input of the next.

    Mask and timing follow from the layers'. Where a layer with blocks follows one with latency, the stream is delayed
    so that the blocks start where layer mode starts them. A combinator can be used like a layer anywhere.

    Args:
        layers: kseq layers; none at all is the identity.

    Raises:
        TypeError: an element that is not a kseq layer.

    Example:
        >>> import kseq
        >>> layer = kseq.Serial([kseq.Lookahead(1), kseq.Conv1D(4, 3, strides=2)])
        >>> layer.timing.input_latency, layer.timing.output_latency
        (1, 1)
    """

    layers: tuple[SequenceLayer, ...]

    def __init__(self, layers: LayerList = (), **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.layers = self._checked(layers)
        self._connect_chain(self.layers)

    @classmethod
    def examples(cls) -> list[Example]:
        ahead = {"filters": 2, "kernel_size": 4, "padding": "reverse_causal"}
        return [
            Example({"layers": [Conv1D(**ahead), GRU(2), Conv1D(2, 3, strides=2)]}, (4, 11, 2)),
            Example(
                {
                    "layers": [
                        Conv1D(2, 3, strides=2, padding="reverse_causal_valid"),
                        Conv1D(2, 2, padding="causal_valid"),
                    ]
                }
            ),
        ]
