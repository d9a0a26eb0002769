"""Convolutions of each channel by itself that mix channels afterwards."""

from typing import Any, Unpack

from keras import ops

from ...annotations import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike, Shape, WindowOptions
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...window import Padding
from ..base import Example
from ..space import SpatialPadding
from .depthwise import DepthwiseKernel


class _Separable(DepthwiseKernel):
    """What separable convolutions share: a depthwise kernel, and then a pointwise one that mixes channels."""

    filters: int
    depthwise_kernel: Any
    pointwise_kernel: Any

    def build(self, input_shape: Shape) -> None:
        self.filters = as_size("filters", self.filters)
        inputs, middle = input_shape[-1], input_shape[-1] * self.depth_multiplier
        ones = (1,) * self.window_rank
        self.depthwise_kernel = self.add_parameter(
            "depthwise_kernel", (*self.sizes_of("kernel_size"), inputs, self.depth_multiplier), "depthwise"
        )
        self.pointwise_kernel = self.add_parameter("pointwise_kernel", (*ones, middle, self.filters), "pointwise")
        self.add_bias(self.filters)

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((*self.spatial_shape(input_spec.shape[:-1]), self.filters), self.compute_dtype)

    def call_windows(self, x: Sequence) -> Any:
        y = self.convolve(x.values, self.weight(self.depthwise_kernel))
        pointwise = ops.reshape(self.weight(self.pointwise_kernel), (-1, self.filters))
        return self.bias_and_activate(ops.matmul(y, pointwise))


@register
class SeparableConv1D(_Separable):
    """A depthwise convolution over time, then one that mixes channels.  [B, T, C] -> [B, ceil(T / strides), filters].

    Mask, timing and padding are those of `Conv1D`. The weights are those of `keras.layers.SeparableConv1D`.

    Args:
        filters: output channels.
        kernel_size, strides, padding, dilation_rate, activation, use_bias: as in `Conv1D`.
        depth_multiplier: channels between the two convolutions per input channel.
        depthwise_initializer, pointwise_initializer, bias_initializer, depthwise_regularizer, pointwise_regularizer,
            bias_regularizer, depthwise_constraint, pointwise_constraint, bias_constraint: as in Keras.

    Raises:
        ValueError: sizes below 1 or an unknown padding.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.SeparableConv1D(8, kernel_size=3)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 8)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        padding: Padding = "causal",
        dilation_rate: int = 1,
        depth_multiplier: int = 1,
        activation: ActivationLike = None,
        use_bias: bool = True,
        depthwise_initializer: InitializerLike = "glorot_uniform",
        pointwise_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        depthwise_regularizer: RegularizerLike = None,
        pointwise_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        depthwise_constraint: ConstraintLike = None,
        pointwise_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[WindowOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.check_arguments()

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"filters": 2, "kernel_size": 3, "strides": 2, "depth_multiplier": 2}),
            Example(
                {
                    "filters": 2,
                    "kernel_size": 3,
                    "padding": "reverse_causal_valid",
                    "dilation_rate": 2,
                    "use_bias": False,
                }
            ),
        ]


@register
class SeparableConv2D(_Separable):
    """A depthwise convolution over time and space, then one that mixes channels.  [B, T, S, C] -> [B, T', S', filters].

    Mask, timing and padding are those of `Conv2D`. The weights are those of `keras.layers.SeparableConv2D`.

    Args:
        filters, depth_multiplier, depthwise_initializer, pointwise_initializer, bias_initializer,
            depthwise_regularizer, pointwise_regularizer, bias_regularizer, depthwise_constraint,
            pointwise_constraint, bias_constraint: as in `SeparableConv1D`.
        kernel_size, strides, padding, spatial_padding, dilation_rate, activation, use_bias: as in `Conv2D`.

    Raises:
        ValueError: as in `Conv2D`.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.SeparableConv2D(8, 3)(np.zeros((1, 7, 40, 2), "float32")).shape
        (1, 7, 40, 8)
    """

    window_rank = 2
    input_rank: int | None = 4

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: Padding = "causal",
        spatial_padding: SpatialPadding | None = None,
        dilation_rate: int | tuple[int, int] = 1,
        depth_multiplier: int = 1,
        activation: ActivationLike = None,
        use_bias: bool = True,
        depthwise_initializer: InitializerLike = "glorot_uniform",
        pointwise_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        depthwise_regularizer: RegularizerLike = None,
        pointwise_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        depthwise_constraint: ConstraintLike = None,
        pointwise_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[WindowOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.check_arguments()

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"filters": 2, "kernel_size": (3, 2), "padding": "reverse_causal"}, (4, 12, 4, 2)),
            Example(
                {"filters": 2, "kernel_size": 2, "strides": 2, "depth_multiplier": 2, "spatial_padding": "same"},
                (4, 12, 4, 2),
            ),
        ]
