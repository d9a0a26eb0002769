"""Lightweight convolution: a depthwise one whose kernel is normalised over time."""

from typing import Any, Unpack

import keras
from keras import ops

from ...annotations import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike, Shape, WindowOptions
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence
from ...window import Padding
from ..base import Example
from .depthwise import DepthwiseKernel


@register
class NormalizedDepthwiseConv1D(DepthwiseKernel):
    """Lightweight convolution: each channel's weighted mean over time.  [B, T, C] -> [B, T', C * depth_multiplier].

    The kernel is normalised by a softmax over its taps, as attention is, and may be shared by groups of channels. Mask,
    timing and padding are those of `Conv1D`; invalid steps and padding weigh as much as others and are zeros.
    Source: Wu et al., 2019, "Pay Less Attention with Lightweight and Dynamic Convolutions".

    Args:
        kernel_size, strides, padding, dilation_rate, activation, use_bias, depth_multiplier: as in `DepthwiseConv1D`.
        num_heads: kernels: channel `c` has that of head `c % num_heads`; by default one a channel.
        depthwise_dropconnect_rate: fraction of the kernel's weights that training sets to zero, scaling up the rest.
        seed: of these zeros.
        depthwise_initializer, bias_initializer, depthwise_regularizer, bias_regularizer, depthwise_constraint,
            bias_constraint: as in `DepthwiseConv1D`; those of the kernel are of what the softmax takes.

    Raises:
        ValueError: sizes below 1, an unknown padding, a rate outside 0 to 1, or channels that `num_heads` does not
            divide.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.NormalizedDepthwiseConv1D(2, depthwise_initializer="zeros")
        >>> np.asarray(layer(np.array([[[1.0], [3.0]]], "float32")))[0, :, 0].tolist()
        [0.5, 2.0]
    """

    kernel: Any
    num_heads: int | None
    seed_generator: Any

    def __init__(
        self,
        kernel_size: int,
        strides: int = 1,
        padding: Padding = "causal",
        depth_multiplier: int = 1,
        dilation_rate: int = 1,
        activation: ActivationLike = None,
        use_bias: bool = True,
        num_heads: int | None = None,
        depthwise_dropconnect_rate: float = 0.0,
        seed: int | None = None,
        depthwise_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        depthwise_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        depthwise_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[WindowOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.check_arguments()
        self.num_heads = None if num_heads is None else as_size("num_heads", num_heads)
        rate = depthwise_dropconnect_rate
        if not 0 <= rate <= 1:
            raise ValueError(f"`depthwise_dropconnect_rate` must be from 0 to 1; received {rate}")
        self.seed_generator = keras.random.SeedGenerator(seed) if rate else None

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        heads = channels if self.num_heads is None else self.num_heads
        if channels % heads:
            raise ValueError(f"input channels (={channels}) must be divisible by `num_heads` (={heads})")
        self.kernel = self.add_parameter("kernel", (self.kernel_size, heads, self.depth_multiplier), "depthwise")
        self.add_bias(channels * self.depth_multiplier)

    def compute_windows(self, x: Sequence, training: bool) -> Any:
        kernel = ops.softmax(self.weight(self.kernel), axis=0)
        if training and self.seed_generator is not None:
            kernel = keras.random.dropout(kernel, self.depthwise_dropconnect_rate, seed=self.seed_generator)
        kernel = ops.tile(kernel, (1, x.values.shape[-1] // kernel.shape[1], 1))
        return self.bias_and_activate(self.convolve(x.values, kernel))

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"kernel_size": 3, "num_heads": 2, "padding": "reverse_causal"}, (4, 12, 4)),
            Example({"kernel_size": 4, "strides": 2, "depth_multiplier": 2, "padding": "semicausal"}, (4, 12, 4)),
        ]
