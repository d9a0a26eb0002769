"""`ChannelRearrangement`: the same numbers in other channels, by an operation that NumPy and Keras have alike."""

from typing import Any

import numpy as np
from keras import ops

from ...annotations import Shape
from ...sequence import SequenceSpec
from ..stepwise import StepwiseLayer


class ChannelRearrangement(StepwiseLayer):
    """A layer that gives the numbers of every step in other channels: `rearrange` is all there is to write."""

    invalid_value: float | None = None

    def rearrange(self, values: Any, np_: Any) -> Any:
        """Values [B, T, ...] in other channels, by the functions of NumPy or of `keras.ops`."""
        raise NotImplementedError

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        spec = self.cast_spec(input_spec)
        channels = self.rearrange(np.broadcast_to(False, (1, 1, *spec.shape)), np).shape[2:]
        return SequenceSpec(tuple(channels), spec.dtype)

    def call_values(self, values: Any, training: bool = False) -> Any:
        return self.rearrange(values, ops)


def with_channels(values: Any, channels: Shape, np_: Any) -> Any:
    """Values [B, T, ...] with their channels in another shape of as many."""
    return np_.reshape(values, (*np_.shape(values)[:2], *channels))
