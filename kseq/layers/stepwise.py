"""`StepwiseLayer`: a layer that treats every step by itself."""

from ..sequence import Sequence
from .base import SequenceLayer


class StepwiseLayer(SequenceLayer):
    """A layer that treats every step by itself: `call_values` is all there is to write."""

    def call_values(self, values, training=False):
        """Outputs [B, T, ...] of values [B, T, ...]."""
        raise NotImplementedError

    def call_step(self, x: Sequence, state, *, training=False):
        return self.call_layer(x, training=training), state

    def call_layer(self, x: Sequence, *, training=False):
        return Sequence(self.call_values(x.values, training), x.mask)
