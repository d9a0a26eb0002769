"""`CheckpointGradient`: what gradients need of a layer is computed again rather than kept."""

from typing import Any, Unpack

import keras

from ...annotations import LayerOptions
from ...registry import register
from ...sequence import Sequence
from ..base import Example, SequenceLayer
from ..leaves import leaves, pack
from ..rematerialize import rematerialized
from ..windowed import Conv1D
from .base import Combinator


@register
class CheckpointGradient(Combinator):
    """Computes a layer again for its gradients, so that meanwhile only its input is kept; the numbers are the layer's.

    Training takes less memory and more time. What the layer draws at random it draws alike both times. Mask and timing
    are the layer's. In step mode it does so where `training` is true.  Source: Griewank and Walther, 2000, "Algorithm
    799: revolve"; Chen et al., 2016, "Training Deep Nets with Sublinear Memory Cost".

    Args:
        layer: a kseq layer.

    Raises:
        TypeError: not a kseq layer.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.CheckpointGradient(kseq.Serial([kseq.Dense(5), kseq.Dense(3)]))
        >>> layer(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 3)
    """

    layer: SequenceLayer

    rematerialized = True

    def __init__(self, layer: SequenceLayer, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.layer = self._checked_one(layer)
        self._connect_chain((self.layer,))

    def hold_step(self, x: Sequence, state: Any, active: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        step = super().hold_step
        if not training:
            return step(x, state, active)

        def run(x, found):
            y, new = step(x, pack(state, found), active, training=True)
            return y, leaves(new)

        (y, new), losses = rematerialized(run, (x, leaves(state)), self.variables, keras.remat)
        self.add_loss(losses)
        return y, pack(state, new)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"layer": Conv1D(2, 3, padding="reverse_causal", activation="tanh")}),
            Example({"layer": Conv1D(2, 3, strides=2)}),
        ]
