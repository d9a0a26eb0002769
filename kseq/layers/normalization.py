"""Normalisation of each step over its channels."""

from typing import Any, ClassVar, Unpack

from keras import ops

from ..annotations import ConstraintLike, InitializerLike, LayerOptions, NormalizationOptions, RegularizerLike, Shape
from ..registry import register
from .base import Example
from .parameters import Only
from .stepwise import StepwiseLayer


class _Normalization(StepwiseLayer):
    def _channel_axes(self, rank) -> tuple[int, ...]:
        if rank < 3:
            raise ValueError(f"{type(self).__name__} takes values [B, T, channels, ...]; received rank {rank}")
        axes = self.axis if isinstance(self.axis, (tuple, list)) else (self.axis,)
        positive = sorted(a + rank if a < 0 else a for a in axes)
        if not positive or positive[0] < 2 or positive[-1] >= rank:
            raise ValueError(f"`axis` must name channel axes (2 to {rank - 1}, or negative); received {self.axis}")
        return tuple(positive)

    def _parameter_shape(self, input_shape):
        return tuple(input_shape[a] for a in self._channel_axes(len(input_shape)))

    def _broadcast(self, variable, rank):
        axes = self._channel_axes(rank)
        return ops.reshape(
            ops.cast(variable, "float32" if self.compute_dtype != "float64" else "float64"),
            tuple(variable.shape[axes.index(a)] if a in axes else 1 for a in range(2, rank)),
        )

    def _at_least_float32(self, values):
        return values if self.compute_dtype == "float64" else ops.cast(values, "float32")


@register
class LayerNormalization(_Normalization):
    """Zero mean and unit variance over the channels of each step.  [B, T, ...] -> [B, T, ...].

    Statistics are computed in float32 at least. Mask: unchanged. Timing: none. The weights are those of
    `keras.layers.LayerNormalization`.  Source: Ba, Kiros and Hinton, 2016, "Layer Normalization".

    Args:
        axis: channel axis or axes to normalise over.
        epsilon: added to the variance.
        center: whether to add a learned bias.
        scale: whether to multiply by a learned scale.
        beta_initializer, gamma_initializer, beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint:
            as in Keras.

    Raises:
        ValueError: an axis that is no channel axis.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.LayerNormalization()(np.array([[[1.0, 3.0]]], "float32"))).round(2).tolist()
        [[[-1.0, 1.0]]]
    """

    axis: int | tuple[int, ...]
    gamma: Any
    beta: Any

    fixed_arguments: ClassVar[dict[str, Only]] = {"rms_scaling": Only((False,), "use `RMSNormalization`")}

    def __init__(
        self,
        axis: int | tuple[int, ...] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: InitializerLike = "zeros",
        gamma_initializer: InitializerLike = "ones",
        beta_regularizer: RegularizerLike = None,
        gamma_regularizer: RegularizerLike = None,
        beta_constraint: ConstraintLike = None,
        gamma_constraint: ConstraintLike = None,
        **kwargs: Unpack[NormalizationOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.axis = tuple(axis) if isinstance(axis, (tuple, list)) else axis

    def build(self, input_shape: Shape) -> None:
        shape = self._parameter_shape(input_shape)
        self.gamma = self.add_parameter("gamma", shape) if self.scale else None
        self.beta = self.add_parameter("beta", shape) if self.center else None

    def call_values(self, values: Any, training: bool = False) -> Any:
        rank = len(values.shape)
        axes = self._channel_axes(rank)
        x = self._at_least_float32(values)
        x = x - ops.mean(x, axis=axes, keepdims=True)
        y = x * ops.rsqrt(ops.mean(ops.square(x), axis=axes, keepdims=True) + self.epsilon)
        if self.gamma is not None:
            y = y * self._broadcast(self.gamma, rank)
        if self.beta is not None:
            y = y + self._broadcast(self.beta, rank)
        return ops.cast(y, self.compute_dtype)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({}), Example({"axis": (2, 3), "center": False}, (4, 12, 2, 3))]


@register
class RMSNormalization(_Normalization):
    """Unit root mean square over the channels of each step.  [B, T, ...] -> [B, T, ...].

    The mean is computed in float32 at least. Mask: unchanged. Timing: none. The weights are those of
    `keras.layers.RMSNormalization`.  Source: Zhang and Sennrich, 2019, "Root Mean Square Layer Normalization".

    Args:
        axis: channel axis or axes to normalise over.
        epsilon: added to the mean square.
        scale: whether to multiply by a learned scale.
        scale_initializer, scale_regularizer, scale_constraint: as Keras names them elsewhere.

    Raises:
        ValueError: an axis that is no channel axis.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.RMSNormalization()(np.array([[[3.0, -3.0]]], "float32"))).round(2).tolist()
        [[[1.0, -1.0]]]
    """

    axis: int | tuple[int, ...]
    scale_weight: Any

    def __init__(
        self,
        axis: int | tuple[int, ...] = -1,
        epsilon: float = 1e-6,
        scale: bool = True,
        scale_initializer: InitializerLike = "ones",
        scale_regularizer: RegularizerLike = None,
        scale_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.axis = tuple(axis) if isinstance(axis, (tuple, list)) else axis

    def build(self, input_shape: Shape) -> None:
        shape = self._parameter_shape(input_shape)
        self.scale_weight = self.add_parameter("scale", shape) if self.scale else None

    def call_values(self, values: Any, training: bool = False) -> Any:
        rank = len(values.shape)
        x = self._at_least_float32(values)
        y = x * ops.rsqrt(ops.mean(ops.square(x), axis=self._channel_axes(rank), keepdims=True) + self.epsilon)
        if self.scale_weight is not None:
            y = y * self._broadcast(self.scale_weight, rank)
        return ops.cast(y, self.compute_dtype)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"epsilon": 1e-3})]
