"""Normalisation of each step by itself, over its channels."""

from typing import Any, ClassVar, Unpack

from keras import ops

from ...annotations import ConstraintLike, InitializerLike, LayerOptions, NormalizationOptions, RegularizerLike, Shape
from ...registry import register
from ..base import Example
from ..float64 import mean
from ..parameters import Only
from ..stepwise import StepwiseLayer
from .base import ChannelNormalization


@register
class LayerNormalization(ChannelNormalization, StepwiseLayer):
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

    axis: Any

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
        self.add_scale_and_bias(input_shape)

    def call_values(self, values: Any, training: bool = False) -> Any:
        axes = self.channel_axes(len(values.shape))
        x = self.at_least_float32(values)
        x = x - mean(x, axes)
        y = x * ops.rsqrt(mean(ops.square(x), axes) + self.epsilon)
        return self.scaled(y)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({}), Example({"axis": (2, 3), "center": False}, (4, 12, 2, 3))]


@register
class RMSNormalization(ChannelNormalization, StepwiseLayer):
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

    axis: Any

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
        shape = self.parameter_shape(input_shape)
        self.scale_weight = self.add_parameter("scale", shape, autocast=False) if self.scale else None

    def call_values(self, values: Any, training: bool = False) -> Any:
        rank = len(values.shape)
        x = self.at_least_float32(values)
        y = x * ops.rsqrt(mean(ops.square(x), self.channel_axes(rank)) + self.epsilon)
        if self.scale_weight is not None:
            y = y * self.along_axes(self.scale_weight, rank)
        return ops.cast(y, self.compute_dtype)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"epsilon": 1e-3}), Example({"epsilon": 1e-3, "scale": False})]


@register
class L2Normalize(ChannelNormalization, StepwiseLayer):
    """Unit Euclidean norm over the channels of each step.  [B, T, ...] -> [B, T, ...].

    The sum of squares is computed in float32 at least. Mask: unchanged. Timing: none.

    Args:
        axis: channel axis or axes to normalise over.
        epsilon: added to the sum of squares.

    Raises:
        ValueError: an axis that is no channel axis.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.L2Normalize()(np.array([[[3.0, 4.0]]], "float32"))).astype(float).round(2).tolist()
        [[[0.6, 0.8]]]
    """

    axis: Any

    def __init__(
        self, axis: int | tuple[int, ...] = -1, epsilon: float = 1e-12, **kwargs: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.axis = tuple(axis) if isinstance(axis, (tuple, list)) else axis

    def call_values(self, values: Any, training: bool = False) -> Any:
        x = self.at_least_float32(values)
        squares = ops.sum(ops.square(x), axis=self.channel_axes(len(values.shape)), keepdims=True)
        return ops.cast(x * ops.rsqrt(squares + self.epsilon), self.compute_dtype)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"epsilon": 1e-2}), Example({"epsilon": 1e-2, "axis": (2, 3)}, (4, 12, 2, 3))]
