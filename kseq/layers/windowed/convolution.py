"""Convolutions over time."""

import math
from typing import Any, Unpack

from keras import ops

from ... import padding as rules
from ...annotations import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike, Shape, WindowOptions
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...window import Padding
from ..base import Example
from ..stepwise import mixing_activation
from .base import WindowedLayer

# Up to here a chunk is one matrix product over gathered windows; beyond, a convolution reuses its input better.
_MATMUL_OUTPUTS = 4


class _Convolution(WindowedLayer):
    """What convolutions over time share: the window, the bias and the activation."""

    input_rank: int | None = 3
    bias: Any

    @property
    def step_obstacle(self) -> str | None:
        return super().step_obstacle or mixing_activation(self)

    def _add_bias(self, size):
        self.bias = self.add_parameter("bias", (size,)) if self.use_bias else None

    def _bias_and_activate(self, y):
        return self.activation(y if self.bias is None else y + self.weight(self.bias))


@register
class Conv1D(_Convolution):
    """Convolution over time.  [B, T, C] -> [B, ceil(T / strides), filters].

    Mask: an output of `causal`, `reverse_causal`, `semicausal`, `same` and explicit padding is valid where its input
    step `t * strides` is; of the `_valid` modes where every tap is. Invalid inputs count as zero. Timing: blocks of
    `strides`; `reverse_causal` looks `(kernel_size - 1) * dilation_rate` steps ahead and has that latency. The weights
    are those of `keras.layers.Conv1D`.

    Args:
        filters: output channels.
        kernel_size: taps.
        strides: inputs per output.
        padding: a mode of `kseq.window.MODES` or a pair (left, right); `valid`, `same` and `semicausal_full` do not
            step.
        dilation_rate: steps between taps.
        groups: channel groups, each convolved on its own.
        activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint: as in Keras.

    Raises:
        ValueError: sizes below 1, an unknown padding, or channels that `groups` does not divide.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Conv1D(8, kernel_size=3, strides=2)(np.zeros((1, 7, 4), "float32")).shape
        (1, 4, 8)
    """

    filters: int
    groups: int
    kernel: Any

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        padding: Padding = "causal",
        dilation_rate: int = 1,
        groups: int = 1,
        activation: ActivationLike = None,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[WindowOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.set_window("kernel_size")
        self.filters = as_size("filters", filters)
        self.groups = as_size("groups", groups)
        if self.filters % self.groups:
            raise ValueError(f"`filters` (={filters}) must be divisible by `groups` (={groups})")

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(f"input channels (={channels}) must be divisible by `groups` (={self.groups})")
        self.kernel = self.add_parameter("kernel", (self.kernel_size, channels // self.groups, self.filters))
        self._add_bias(self.filters)

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((self.filters,), self.compute_dtype)

    def call_windows(self, x: Sequence) -> Any:
        values, kernel, window, time = x.values, self.weight(self.kernel), self.window, x.values.shape[1]
        outputs = (time - window.span) // window.stride + 1 if isinstance(time, int) else math.inf
        if self.groups == 1 and outputs <= _MATMUL_OUTPUTS:
            if outputs == 1:  # the window is there already: one concatenation fewer
                taps = values[:, :: window.dilation][:, : window.size]
                taps = ops.reshape(taps, (-1, 1, window.size * values.shape[-1]))
            else:
                taps = ops.concatenate(rules.taps(values, window), axis=-1)
            y = ops.matmul(taps, ops.reshape(kernel, (-1, self.filters)))
        elif not rules.is_symbol(time) or window.stride == self.groups == 1:
            # Keras refuses strides together with dilation on some backends: then drop outputs instead.
            skip = window.stride if window.dilation > 1 else 1
            y = ops.conv(values, kernel, window.stride // skip, "valid", "channels_last", window.dilation)[:, ::skip]
        else:  # jax finds no gradient of such a convolution where time is a symbol
            parts = self.groups, values.shape[-1] // self.groups
            taps = ops.stack(rules.taps(values, window), axis=2)
            taps = ops.reshape(taps, (*ops.shape(taps)[:3], *parts))
            y = ops.einsum("bukgc,kcgf->bugf", taps, ops.reshape(kernel, (window.size, parts[1], self.groups, -1)))
            y = ops.reshape(y, (*ops.shape(y)[:2], self.filters))
        return self._bias_and_activate(y)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"filters": 2, "kernel_size": 3, "activation": "tanh"}),
            Example({"filters": 2, "kernel_size": 2, "dilation_rate": 2, "padding": "causal_valid"}),
            Example(
                {"filters": 4, "kernel_size": 4, "strides": 2, "padding": "reverse_causal", "groups": 2}, (4, 12, 4)
            ),
            Example({"filters": 2, "kernel_size": 3, "strides": 2, "padding": "reverse_causal_valid"}),
            Example({"filters": 2, "kernel_size": 3, "strides": 2, "padding": "semicausal"}),
            Example({"filters": 2, "kernel_size": 4, "padding": (1, 2)}),
            Example({"filters": 2, "kernel_size": 3, "padding": "same"}),
            Example({"filters": 2, "kernel_size": 3, "strides": 2, "padding": "valid"}),
            Example({"filters": 2, "kernel_size": 1, "use_bias": False}),
        ]


@register
class DepthwiseConv1D(_Convolution):
    """Convolution over time of each channel by itself.  [B, T, C] -> [B, ceil(T / strides), C * depth_multiplier].

    Output channel `c * depth_multiplier + m` reads input channel `c`. Mask, timing and padding are those of `Conv1D`.
    The weights are those of `keras.layers.DepthwiseConv1D`.

    Args:
        kernel_size, strides, padding, dilation_rate, activation, use_bias: as in `Conv1D`.
        depth_multiplier: output channels per input channel.
        depthwise_initializer, bias_initializer, depthwise_regularizer, bias_regularizer, depthwise_constraint,
            bias_constraint: as in Keras.

    Raises:
        ValueError: sizes below 1 or an unknown padding.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.DepthwiseConv1D(kernel_size=3, depth_multiplier=2)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 8)
    """

    depth_multiplier: int
    kernel: Any

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
        **kwargs: Unpack[WindowOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.set_window("kernel_size")
        self.depth_multiplier = as_size("depth_multiplier", depth_multiplier)

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        self.kernel = self.add_parameter("kernel", (self.kernel_size, channels, self.depth_multiplier), "depthwise")
        self._add_bias(channels * self.depth_multiplier)

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((input_spec.shape[-1] * self.depth_multiplier,), self.compute_dtype)

    def call_windows(self, x: Sequence) -> Any:
        # A sum over taps: grouped convolutions are slow on CPUs, and this fuses into one loop.
        kernel = self.weight(self.kernel)
        taps = rules.taps(x.values, self.window)
        y: Any = sum(ops.expand_dims(tap, -1) * kernel[i] for i, tap in enumerate(taps))  # [B, U, C, M]
        return self._bias_and_activate(ops.reshape(y, (*ops.shape(y)[:2], y.shape[2] * y.shape[3])))

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"kernel_size": 3, "depth_multiplier": 2}),
            Example({"kernel_size": 4, "strides": 2, "padding": "reverse_causal", "dilation_rate": 2}),
        ]
