"""Convolutions of each channel by itself."""

from typing import Any, Unpack

from keras import ops

from ... import padding as rules
from ...annotations import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike, Shape, WindowOptions
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...window import Padding
from ..base import Example
from ..space import SpatialPadding, pad_space, space_taps
from ..windows import WindowedLayer
from .kernels import ConvolutionKernel


class DepthwiseKernel(ConvolutionKernel, WindowedLayer):
    """What convolutions of channels by themselves share: the kernel [*sizes, C, depth_multiplier]."""

    depth_multiplier: int

    def check_arguments(self) -> None:
        """Check the window and `depth_multiplier`."""
        self.set_window("kernel_size")
        self.depth_multiplier = as_size("depth_multiplier", self.depth_multiplier)

    def build(self, input_shape: Shape) -> None:
        shape = (*self.sizes_of("kernel_size"), input_shape[-1], self.depth_multiplier)
        self.add_kernel(shape, "depthwise", per=(-2, -1))
        self.add_bias(input_shape[-1] * self.depth_multiplier)

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        *space, channels = input_spec.shape
        return SequenceSpec((*self.spatial_shape(tuple(space)), channels * self.depth_multiplier), self.compute_dtype)

    def call_windows(self, x: Sequence) -> Any:
        return self.bias_and_activate(self.convolve(x.values, self.normalized_kernel()))

    def convolve(self, values: Any, kernel: Any) -> Any:
        """Of values [B, T, *space, C] and a kernel [*sizes, C, M] those of the windows, [B, U, *space, C * M]."""
        # A sum over taps: grouped convolutions are slow on CPUs, and this fuses into one loop.
        values = pad_space(values, self.space)
        taps = [tap for view in rules.taps(values, self.window) for tap in space_taps(view, self.space)]
        kernel = ops.reshape(kernel, (len(taps), *kernel.shape[-2:]))
        if kernel.shape[-1] == 1:
            return sum((tap * kernel[i, :, 0] for i, tap in enumerate(taps[1:], 1)), taps[0] * kernel[0, :, 0])
        y: Any = sum(ops.expand_dims(tap, -1) * kernel[i] for i, tap in enumerate(taps))
        return ops.reshape(y, (*ops.shape(y)[:-2], y.shape[-2] * y.shape[-1]))


@register
class DepthwiseConv1D(DepthwiseKernel):
    """Convolution over time of each channel by itself.  [B, T, C] -> [B, ceil(T / strides), C * depth_multiplier].

    Output channel `c * depth_multiplier + m` reads input channel `c`. Mask, timing and padding are those of `Conv1D`.
    The weights are those of `keras.layers.DepthwiseConv1D`.

    Args:
        kernel_size, strides, padding, dilation_rate, activation, use_bias: as in `Conv1D`.
        depth_multiplier: output channels per input channel.
        depthwise_initializer, bias_initializer, depthwise_regularizer, bias_regularizer, depthwise_constraint,
            bias_constraint: as in Keras.
        use_weight_norm: as in `Conv1D`, for each output channel.

    Raises:
        ValueError: sizes below 1 or an unknown padding.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.DepthwiseConv1D(kernel_size=3, depth_multiplier=2)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 8)
    """

    def __init__(
        self,
        kernel_size: int,
        strides: int = 1,
        padding: Padding = "causal",
        depth_multiplier: int = 1,
        dilation_rate: int = 1,
        activation: ActivationLike = None,
        use_bias: bool = True,
        depthwise_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        depthwise_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        depthwise_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        use_weight_norm: bool = False,
        **kwargs: Unpack[WindowOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.check_arguments()

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"kernel_size": 3, "depth_multiplier": 2, "use_weight_norm": True}),
            Example({"kernel_size": 4, "strides": 2, "padding": "reverse_causal", "dilation_rate": 2}),
        ]


@register
class DepthwiseConv2D(DepthwiseKernel):
    """Convolution over time and space of each channel by itself.  [B, T, S, C] -> [B, T', S', C * depth_multiplier].

    Mask, timing and padding are those of `Conv2D`, channels those of `DepthwiseConv1D`. The weights are those of
    `keras.layers.DepthwiseConv2D`.

    Args:
        kernel_size, strides, padding, spatial_padding, dilation_rate, activation, use_bias: as in `Conv2D`.
        depth_multiplier, depthwise_initializer, bias_initializer, depthwise_regularizer, bias_regularizer,
            depthwise_constraint, bias_constraint, use_weight_norm: as in `DepthwiseConv1D`.

    Raises:
        ValueError: as in `Conv2D`.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.DepthwiseConv2D(3, strides=(1, 2))(np.zeros((1, 7, 40, 2), "float32")).shape
        (1, 7, 20, 2)
    """

    window_rank = 2
    input_rank: int | None = 4

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: Padding = "causal",
        spatial_padding: SpatialPadding | None = None,
        depth_multiplier: int = 1,
        dilation_rate: int | tuple[int, int] = 1,
        activation: ActivationLike = None,
        use_bias: bool = True,
        depthwise_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        depthwise_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        depthwise_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        use_weight_norm: bool = False,
        **kwargs: Unpack[WindowOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.check_arguments()

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"kernel_size": (2, 3), "depth_multiplier": 2, "strides": (1, 2)}, (4, 12, 4, 2)),
            Example(
                {"kernel_size": 2, "padding": "reverse_causal", "dilation_rate": (2, 1), "spatial_padding": "same"},
                (4, 12, 4, 2),
            ),
        ]
