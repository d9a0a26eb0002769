"""`Blockwise`: whole sequences by steps over blocks, in memory for one block."""

import dataclasses
from typing import Unpack

from ...annotations import LayerOptions
from ...arguments import as_size
from ...registry import register
from ...timing import Timing
from ..base import Example, SequenceLayer
from ..windowed import Conv1D
from .by_blocks import ByBlocks


@register
class Blockwise(ByBlocks):
    """Goes through whole sequences by the layer's step over blocks of `block_size` steps: the numbers are the layer's.

    Layer mode needs the memory of one block besides input and output, however long the sequence is: its loop is the
    backend's (`keras.ops.scan`), and the layer's state is all that goes from one block to the next. Gradients keep what
    every block made; `Blockwise(CheckpointGradient(layer), block_size)` keeps the states between blocks alone. Mask and
    timing are the layer's, but for the block.

    What a layer makes of whole sequences by another algorithm than its step may differ by rounding. A layer within that
    updates statistics while training does so for every block. On TensorFlow the states between blocks are kept also
    where no gradient is asked for.

    Args:
        layer: a kseq layer that steps.
        block_size: steps of a block, a multiple of the layer's own.

    Raises:
        TypeError: not a kseq layer.
        ValueError: a block that is no multiple of the layer's; when it is built a layer that cannot step, and when it
            trains one with an activity regularizer, which would see no whole sequence.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.Blockwise(kseq.Conv1D(2, 3), block_size=4)
        >>> layer(np.zeros((1, 10, 3), "float32")).shape, layer.timing.block_size
        ((1, 10, 2), 4)
    """

    layer: SequenceLayer
    block_size: int

    def __init__(self, layer: SequenceLayer, block_size: int, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.layer, self.block_size = self._checked_one(layer), as_size("block_size", block_size)
        own = layer.timing.block_size
        if self.block_size % own:
            raise ValueError(
                f"`block_size` must be a multiple of {own}, the block of {layer.name} ({type(layer).__name__}); "
                f"received {block_size}"
            )
        self._connect_chain((self.layer,))

    @property
    def timings(self) -> tuple[Timing, ...]:
        return tuple(dataclasses.replace(timing, block_size=self.block_size) for timing in super().timings)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"layer": Conv1D(2, 4, strides=2, padding="reverse_causal"), "block_size": 4}),
            Example({"layer": Conv1D(2, 3), "block_size": 3}),
        ]
