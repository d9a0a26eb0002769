"""What normalisations share: channel axes, learned scale and bias, and float32 at least."""

from typing import Any

from keras import ops

from ..axes import channel_axes
from ..base import SequenceLayer
from ..complex_values import real_dtype


class ChannelNormalization(SequenceLayer):
    """A layer with an `axis`, over which its weights `gamma` and `beta` go."""

    takes_complex = False

    axis: Any
    gamma: Any
    beta: Any

    def build(self, input_shape: Any) -> None:
        self.channel_axes(len(input_shape))

    def channel_axes(self, rank: int) -> tuple[int, ...]:
        """The axes of values of a rank that `axis` names, from 2 on, in order.

        Raises:
            ValueError: values without channels, or an axis that is none of them.
        """
        if rank < 3:
            raise ValueError(f"{type(self).__name__} takes values [B, T, channels, ...]; received rank {rank}")
        found = tuple(sorted(channel_axes(self.axis, rank)))
        if not found:
            raise ValueError(f"`axis` must name a channel axis at least; received {self.axis}")
        return found

    def parameter_shape(self, input_shape: Any) -> tuple[int, ...]:
        return tuple(input_shape[a] for a in self.channel_axes(len(input_shape)))

    def add_scale_and_bias(self, input_shape: Any) -> None:
        """Add `gamma` and `beta`, as far as `scale` and `center` ask for them."""
        shape = self.parameter_shape(input_shape)
        self.gamma = self.add_parameter("gamma", shape, autocast=False) if self.scale else None
        self.beta = self.add_parameter("beta", shape, autocast=False) if self.center else None

    def scaled(self, y: Any) -> Any:
        """Normalised values times `gamma` plus `beta`, in the compute dtype."""
        rank = len(y.shape)
        if self.gamma is not None:
            y = y * self.along_axes(self.gamma, rank)
        if self.beta is not None:
            y = y + self.along_axes(self.beta, rank)
        return ops.cast(y, self.compute_dtype)

    def along_axes(self, variable: Any, rank: int) -> Any:
        """A weight over the axes, to be broadcast to values of a rank."""
        axes = self.channel_axes(rank)
        shape = tuple(variable.shape[axes.index(a)] if a in axes else 1 for a in range(2, rank))
        return ops.reshape(ops.cast(variable, self.statistics_dtype), shape)

    @property
    def statistics_dtype(self) -> str:
        return real_dtype(self.compute_dtype)

    def at_least_float32(self, values: Any) -> Any:
        return ops.cast(values, self.statistics_dtype)
