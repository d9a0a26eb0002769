"""Transposed convolutions over time, and over axes of space with it."""

import math
from typing import Any, ClassVar, Literal, Unpack

from keras import ops

from ...annotations import ActivationLike, ConstraintLike, InitializerLike, RegularizerLike, Shape, WindowOptions
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from ..parameters import Only
from ..transposed_windows import TransposedWindowedLayer, complete_sums, overlap_add
from .kernels import ConvolutionKernel

TransposedPadding = Literal["causal", "same", "valid"]


class _TransposedConvolution(ConvolutionKernel, TransposedWindowedLayer):
    """What transposed convolutions share: the kernel [*sizes, filters, C / groups]."""

    fixed_arguments: ClassVar[dict[str, Only]] = TransposedWindowedLayer.fixed_arguments | {
        "output_padding": Only((None,), "outputs are as many as `padding` says")
    }

    def _check_arguments(self):
        self.set_window("kernel_size")
        self.check_filters()

    def build(self, input_shape: Shape) -> None:
        inputs = self.channels_per_group(input_shape[-1])
        self.add_kernel((*self.sizes_of("kernel_size"), self.filters, inputs), per=(-2,))
        self.add_bias(self.filters)

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((*self.spatial_shape(input_spec.shape[:-1]), self.filters), self.compute_dtype)

    def call_taps(self, x: Sequence) -> Any:
        kernel, outputs = self.normalized_kernel(), self.filters // self.groups
        inputs = x.values.shape[-1] // self.groups
        sizes, lead = self.sizes_of("kernel_size"), ops.shape(x.values)[:-1]
        if self.groups == 1:
            taps = ops.matmul(x.values, ops.transpose(ops.reshape(kernel, (-1, inputs))))
        else:
            values = ops.reshape(x.values, (*lead, self.groups, inputs))
            kernel = ops.reshape(kernel, (-1, self.groups, outputs, inputs))
            taps = ops.einsum("...gc,kgoc->...kgo", values, kernel)
        return self._add_over_space(ops.reshape(taps, (*lead, *sizes, self.filters)))

    def _add_over_space(self, taps):
        """What a step adds to each of its outputs [B, T, size, *space, F], of taps [B, T, *space, *sizes, F]."""
        rank = len(self.space)
        for i in range(rank, 0, -1):
            place, its_taps, shape = i + 1, rank + 2 + i, ops.shape(taps)
            # The axis and its taps come to where `overlap_add` has time and its taps; of few axes, as LiteRT wants it.
            between, after = (math.prod(sizes) for sizes in (shape[place + 1 : its_taps], shape[its_taps + 1 :]))
            taps = ops.reshape(taps, (-1, shape[place], between, shape[its_taps], after))
            taps, window = ops.transpose(taps, (1, 3, 0, 2, 4))[None], self.space[i - 1].window
            sums = complete_sums(overlap_add(taps, window), window, taps.shape[1])
            taps = ops.transpose(sums[0], (1, 0, 2, 3))
            taps = ops.reshape(taps, (*shape[:place], -1, *shape[place + 1 : its_taps], *shape[its_taps + 1 :]))
        return ops.moveaxis(taps, rank + 2, 2) if rank else taps

    def finish(self, values: Any, mask: Any) -> Sequence:
        return Sequence(self.bias_and_activate(values), mask)


class _TransposedConvolutionOfSpace(_TransposedConvolution):
    """Transposed convolutions over axes of space too, which differ in their number."""

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: TransposedPadding = "causal",
        spatial_padding: TransposedPadding | tuple[TransposedPadding, ...] | None = None,
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
class Conv1DTranspose(_TransposedConvolution):
    """Transposed convolution over time.  [B, T, C] -> [B, T * strides, filters].

    Every input adds to `kernel_size` outputs, of which the first is its own: a causal one has no latency. Mask: with
    `causal` and `same` an output is valid where its input is, with `valid` where every input that adds to it is.
    Timing: blocks of one step, `strides` outputs for each. Only `causal` steps. The weights are those of
    `keras.layers.Conv1DTranspose`, with which `valid` agrees, and `causal` in its first `T * strides` outputs.

    Args:
        filters: output channels.
        kernel_size: taps.
        strides: outputs per input.
        padding: `causal`; `same`, which shifts outputs by half the kernel; or `valid`, which keeps the tail.
        dilation_rate: outputs between taps.
        groups: channel groups, each convolved on its own.
        activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint, use_weight_norm: as in `Conv1D`.

    Raises:
        ValueError: sizes below 1, another padding, or channels that `groups` does not divide.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Conv1DTranspose(8, kernel_size=4, strides=2)(np.zeros((1, 7, 4), "float32")).shape
        (1, 14, 8)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        padding: TransposedPadding = "causal",
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
            Example({"filters": 2, "kernel_size": 4, "strides": 2, "activation": "tanh"}),
            Example({"filters": 4, "kernel_size": 3, "strides": 2, "dilation_rate": 2, "groups": 2}, (4, 12, 4)),
            Example({"filters": 2, "kernel_size": 3, "strides": 2, "padding": "valid", "use_weight_norm": True}),
            Example({"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same"}),
        ]


@register
class Conv2DTranspose(_TransposedConvolutionOfSpace):
    """Transposed convolution over time and an axis of space.  [B, T, S, C] -> [B, T', S', filters].

    The first axis of kernel, strides and dilation is time, whose mask, timing and `padding` are those of
    `Conv1DTranspose`. The weights are those of `keras.layers.Conv2DTranspose`.

    Args:
        filters, padding, groups: as in `Conv1DTranspose`.
        kernel_size, strides, dilation_rate: of time and space, or one number for both.
        spatial_padding: `same`, `valid` or `causal`; by default that of time where it is `valid` or `same`, as in
            Keras, else `same`.
        activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint, use_weight_norm: as in `Conv1D`.

    Raises:
        ValueError: as in `Conv1DTranspose`.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Conv2DTranspose(8, kernel_size=4, strides=2)(np.zeros((1, 7, 20, 4), "float32")).shape
        (1, 14, 40, 8)
    """

    window_rank = 2
    input_rank: int | None = 4

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"filters": 2, "kernel_size": (3, 2), "strides": 2}, (4, 12, 3, 2)),
            Example(
                {"filters": 2, "kernel_size": (4, 2), "strides": (2, 1), "padding": "same", "use_bias": False},
                (4, 12, 3, 2),
            ),
        ]


@register
class Conv3DTranspose(_TransposedConvolutionOfSpace):
    """Transposed convolution over time and two axes of space.  [B, T, H, W, C] -> [B, T', H', W', filters].

    The first axis of kernel, strides and dilation is time, whose mask, timing and `padding` are those of
    `Conv1DTranspose`. The weights are those of `keras.layers.Conv3DTranspose`.

    Args:
        filters, padding, groups: as in `Conv1DTranspose`.
        kernel_size, strides, dilation_rate: of time and both axes of space, or one number for all.
        spatial_padding: `same`, `valid` or `causal`; by default that of time where it is `valid` or `same`, as in
            Keras, else `same`.
        activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint, use_weight_norm: as in `Conv1D`.

    Raises:
        ValueError: as in `Conv1DTranspose`.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Conv3DTranspose(3, kernel_size=2, strides=2)(np.zeros((1, 2, 4, 4, 2), "float32")).shape
        (1, 4, 8, 8, 3)
    """

    window_rank = 3
    input_rank: int | None = 5

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example(
                {"filters": 2, "kernel_size": 2, "strides": (2, 1, 2), "spatial_padding": ("valid", "same")},
                (4, 12, 2, 2, 1),
            ),
            Example(
                {"filters": 2, "kernel_size": (3, 2, 1), "strides": (2, 1, 1), "padding": "same"}, (4, 12, 2, 2, 1)
            ),
        ]
