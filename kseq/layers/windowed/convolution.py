"""Convolutions over time, and over axes of space with it: Conv1D, Conv2D, Conv3D."""

import math
from typing import Any, Unpack

from keras import ops

from ... import padding as rules
from ...annotations import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike, Shape, WindowOptions
from ...hints import is_exporting
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...window import Padding
from ..base import Example
from ..space import SpatialPadding, pad_space, space_taps
from ..windows import WindowedLayer
from .kernels import ConvolutionKernel

# Up to here a chunk is one matrix product over gathered windows; beyond, a convolution reuses its input better.
_MATMUL_OUTPUTS = 4


class _Convolution(ConvolutionKernel, WindowedLayer):
    """What convolutions share that mix channels: the kernel [*sizes, C / groups, filters]."""

    filters: int
    groups: int

    def _check_arguments(self):
        self.set_window("kernel_size")
        self.check_filters()

    def build(self, input_shape: Shape) -> None:
        inputs = self.channels_per_group(input_shape[-1])
        self.add_kernel((*self.sizes_of("kernel_size"), inputs, self.filters))
        self.add_bias(self.filters)

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((*self.spatial_shape(input_spec.shape[:-1]), self.filters), self.compute_dtype)

    def call_windows(self, x: Sequence) -> Any:
        values = pad_space(x.values, self.space)
        kernel, window, time = self.normalized_kernel(), self.window, values.shape[1]
        outputs = (time - window.span) // window.stride + 1 if isinstance(time, int) else math.inf
        if self.groups == 1 and not self.space and outputs <= _MATMUL_OUTPUTS:
            if outputs == 1:  # the window is there already: one concatenation fewer
                taps = values[:, :: window.dilation][:, : window.size]
                taps = ops.reshape(taps, (-1, 1, window.size * values.shape[-1]))
            else:
                taps = ops.concatenate(rules.taps(values, window), axis=-1)
            y = ops.matmul(taps, ops.reshape(kernel, (-1, self.filters)))
        elif not rules.is_symbol(time) or window.stride == self.groups == 1:
            y = self._convolve(values, kernel)
        else:  # jax finds no gradient of such a convolution where time is a symbol
            taps = [tap for view in rules.taps(values, window) for tap in space_taps(view, self.space)]
            taps = ops.stack(taps, axis=-2)  # [B, U, *space, taps, C]
            inputs = values.shape[-1] // self.groups
            taps = ops.reshape(taps, (*ops.shape(taps)[:-1], self.groups, inputs))
            kernel = ops.reshape(kernel, (-1, inputs, self.groups, self.filters // self.groups))
            y = ops.einsum("...kgc,kcgf->...gf", taps, kernel)
            y = ops.reshape(y, (*ops.shape(y)[:-2], self.filters))
        return self.bias_and_activate(y)

    def _convolve(self, values, kernel):
        windows = self.window, *(axis.window for axis in self.space)
        strides, dilations = [w.stride for w in windows], [w.dilation for w in windows]
        if is_exporting() and len(windows) == 3:  # LiteRT's of three axes has no dilation
            kernel, dilations = _dilated(kernel, dilations), [1] * len(windows)
        skips = [1] * len(windows)
        if max(strides) > 1 and max(dilations) > 1:  # Keras refuses both on some backends: then drop outputs instead
            strides, skips = skips, strides
        y = ops.conv(values, kernel, tuple(strides), "valid", "channels_last", tuple(dilations))
        return y[(slice(None), *(slice(None, None, skip) for skip in skips))]


def _dilated(kernel, dilations):
    """A kernel with zeros between its taps."""
    for axis, dilation in enumerate(dilations):
        shape = tuple(kernel.shape)
        kernel = ops.reshape(kernel, (*shape[: axis + 1], 1, -1))
        kernel = ops.pad(kernel, [*[(0, 0)] * (axis + 1), (0, dilation - 1), (0, 0)])
        kernel = ops.reshape(kernel, (*shape[:axis], -1, *shape[axis + 1 :]))
        kernel = kernel[(*[slice(None)] * axis, slice(None, (shape[axis] - 1) * dilation + 1))]
    return kernel


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
        use_weight_norm: whether the kernel of each filter is divided by its norm and multiplied by a learned `scale`,
            at first its norm (Salimans and Kingma, 2016, "Weight Normalization").

    Raises:
        ValueError: sizes below 1, an unknown padding, or channels that `groups` does not divide.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Conv1D(8, kernel_size=3, strides=2)(np.zeros((1, 7, 4), "float32")).shape
        (1, 4, 8)
    """

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
        use_weight_norm: bool = False,
        **kwargs: Unpack[WindowOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self._check_arguments()

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
            Example({"filters": 2, "kernel_size": 4, "padding": (1, 2), "use_weight_norm": True}),
            Example({"filters": 2, "kernel_size": 3, "padding": "same"}),
            Example({"filters": 2, "kernel_size": 3, "strides": 2, "padding": "valid"}),
            Example({"filters": 2, "kernel_size": 1, "use_bias": False}),
        ]


class _ConvolutionOfSpace(_Convolution):
    """Convolutions over axes of space too, which differ in their number."""

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: Padding = "causal",
        spatial_padding: SpatialPadding | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        groups: int = 1,
        activation: ActivationLike = None,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        use_weight_norm: bool = False,
        **kwargs: Unpack[WindowOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self._check_arguments()


@register
class Conv2D(_ConvolutionOfSpace):
    """Convolution over time and an axis of space.  [B, T, S, C] -> [B, ceil(T / strides), S', filters].

    The first axis of kernel, strides and dilation is time, whose mask, timing and `padding` are those of `Conv1D`. The
    weights are those of `keras.layers.Conv2D`.

    Args:
        filters, padding, groups: as in `Conv1D`.
        kernel_size, strides, dilation_rate: of time and space, or one number for both.
        spatial_padding: `same` as in Keras, another mode of `kseq.window.MODES`, or any pair of zeros (before, after);
            by default that of time where it is `valid` or `same`, as in Keras, else `same`.
        activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint, use_weight_norm: as in `Conv1D`.

    Raises:
        ValueError: sizes below 1, an unknown padding, channels that `groups` does not divide, or an axis of space that
            is shorter than a window.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Conv2D(8, (3, 5), strides=(1, 2))(np.zeros((1, 7, 40, 1), "float32")).shape
        (1, 7, 20, 8)
    """

    window_rank = 2
    input_rank: int | None = 4

    @classmethod
    def examples(cls) -> list[Example]:
        shape = (4, 12, 4, 2)
        return [
            Example({"filters": 2, "kernel_size": (3, 2), "padding": "reverse_causal"}, shape),
            Example({"filters": 2, "kernel_size": 3, "strides": 2, "spatial_padding": (2, 1), "groups": 2}, shape),
        ]


@register
class Conv3D(_ConvolutionOfSpace):
    """Convolution over time and two axes of space.  [B, T, H, W, C] -> [B, ceil(T / strides), H', W', filters].

    The first axis of kernel, strides and dilation is time, whose mask, timing and `padding` are those of `Conv1D`. The
    weights are those of `keras.layers.Conv3D`.

    Args:
        filters, padding, groups: as in `Conv1D`.
        kernel_size, strides, dilation_rate: of time and both axes of space, or one number for all.
        spatial_padding: as in `Conv2D`, or one for each axis of space.
        activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint, use_weight_norm: as in `Conv1D`.

    Raises:
        ValueError: as in `Conv2D`.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Conv3D(8, 3, strides=(1, 2, 2))(np.zeros((1, 7, 16, 16, 1), "float32")).shape
        (1, 7, 8, 8, 8)
    """

    window_rank = 3
    input_rank: int | None = 5

    @classmethod
    def examples(cls) -> list[Example]:
        config = {"filters": 2, "kernel_size": (3, 2, 2), "strides": (2, 1, 1), "spatial_padding": ("same", (1, 0))}
        return [
            Example(config, (4, 12, 3, 3, 1)),
            Example(
                {
                    "filters": 2,
                    "kernel_size": 2,
                    "padding": "reverse_causal_valid",
                    "dilation_rate": (2, 1, 1),
                    "use_bias": False,
                },
                (4, 12, 3, 3, 1),
            ),
        ]
