"""Pooling: the largest, the smallest or the mean value of each window over time, and over axes of space."""

import functools
import math
from typing import Any, Unpack

from keras import ops

from ... import padding as rules
from ...annotations import WindowOptions
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...window import Padding
from ..base import Example
from ..space import SpatialPadding, pad_space, space_taps, spatial_shape
from ..windows import WindowedLayer


class PoolingLayer(WindowedLayer):
    """What all pooling shares: the window, and zeros at invalid outputs."""

    takes_complex = False

    strides: Any
    pool_size: Any

    def check_arguments(self) -> None:
        """Check the window, whose stride is its size where none was given."""
        if self.strides is None:
            self.strides = self.pool_size
        self.set_window("pool_size")

    def finish(self, values: Any, mask: Any) -> Sequence:
        # A window without valid steps would leave an infinity where losses multiply by zero.
        return Sequence(values, mask).mask_invalid()

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        shape, dtype = self.cast_spec(input_spec)
        rank = len(self.space)
        return SequenceSpec((*spatial_shape(self.space, shape[:rank]), *shape[rank:]), dtype)

    def reduce(self, fn: Any, values: Any, value: float = 0) -> Any:
        """The values of a window reduced by `fn` of two arrays, those around the axes of space being `value`."""
        over_time = functools.reduce(fn, rules.taps(values, self.window))
        if not self.space:
            return over_time
        return functools.reduce(fn, space_taps(pad_space(over_time, self.space, value), self.space))


class PoolingOfTime(PoolingLayer):
    """The constructor of pooling over time alone."""

    def __init__(
        self,
        pool_size: int = 2,
        strides: int | None = None,
        padding: Padding = "causal",
        dilation_rate: int = 1,
        **kwargs: Unpack[WindowOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.check_arguments()

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"pool_size": 3, "strides": 1}),
            Example({"pool_size": 2, "padding": "reverse_causal_valid"}),
            Example({"pool_size": 3, "strides": 2, "padding": "same"}),
        ]


class PoolingOfSpace(PoolingLayer):
    """The constructor of pooling over time and space."""

    def __init__(
        self,
        pool_size: int | tuple[int, ...] = 2,
        strides: int | tuple[int, ...] | None = None,
        padding: Padding = "causal",
        spatial_padding: SpatialPadding | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        **kwargs: Unpack[WindowOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.check_arguments()

    @classmethod
    def examples(cls) -> list[Example]:
        if cls.window_rank == 3:
            return [
                Example({"pool_size": 2, "strides": (2, 1, 2)}, (4, 6, 2, 3, 1)),
                Example(
                    {"pool_size": 2, "strides": 1, "padding": "causal_valid", "spatial_padding": "same"},
                    (4, 6, 2, 3, 1),
                ),
            ]
        return [
            Example({"pool_size": (3, 2), "strides": (1, 2), "padding": "reverse_causal"}, (4, 6, 4, 1)),
            Example(
                {"pool_size": 2, "strides": (2, 1), "padding": "semicausal", "spatial_padding": "same"}, (4, 6, 4, 1)
            ),
        ]


class Largest(PoolingLayer):
    """The largest value of each window."""

    invalid_value: float | None = -math.inf

    def call_windows(self, x: Sequence) -> Any:
        return self.reduce(ops.maximum, x.values, self.padding_value(x.spec.dtype))


class Smallest(PoolingLayer):
    """The smallest value of each window."""

    invalid_value: float | None = math.inf

    def call_windows(self, x: Sequence) -> Any:
        return self.reduce(ops.minimum, x.values, self.padding_value(x.spec.dtype))


@register
class MaxPooling1D(PoolingOfTime, Largest):
    """Largest valid value of each window.  [B, T, ...] -> [B, ceil(T / strides), ...], in the input's dtype.

    Mask, timing and padding are those of `Conv1D`. Invalid steps and padding never win; invalid outputs are zeros.

    Args:
        pool_size: steps in a window.
        strides: inputs per output, by default `pool_size`.
        padding: as in `Conv1D`.
        dilation_rate: steps between the taps of a window.

    Raises:
        ValueError: sizes below 1 or an unknown padding.

    Example:
        >>> import kseq, numpy as np
        >>> x = np.array([[[1.0], [5.0], [2.0], [3.0]]], "float32")
        >>> kseq.MaxPooling1D(2, padding="semicausal")(x)[0, :, 0].tolist()
        [5.0, 3.0]
    """


@register
class MaxPooling2D(PoolingOfSpace, Largest):
    """Largest valid value of each window over time and an axis of space.  [B, T, S, ...] -> [B, T', S', ...].

    Mask, timing and padding are those of `Conv2D`. Invalid steps and padding never win; invalid outputs are zeros.

    Args:
        pool_size, dilation_rate: of time and space, or one number for both.
        strides: the same, by default `pool_size`.
        padding, spatial_padding: as in `Conv2D`.

    Raises:
        ValueError: as in `Conv2D`.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.MaxPooling2D((1, 2))(np.zeros((1, 7, 40, 2), "float32")).shape
        (1, 7, 20, 2)
    """

    window_rank = 2


@register
class MaxPooling3D(PoolingOfSpace, Largest):
    """Largest valid value of each window over time and two axes of space.  [B, T, H, W, ...] -> [B, T', H', W', ...].

    Mask, timing and padding are those of `Conv3D`. Invalid steps and padding never win; invalid outputs are zeros.

    Args:
        pool_size, dilation_rate: of time and both axes of space, or one number for all.
        strides: the same, by default `pool_size`.
        padding, spatial_padding: as in `Conv3D`.

    Raises:
        ValueError: as in `Conv3D`.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.MaxPooling3D(2)(np.zeros((1, 8, 4, 4, 2), "float32")).shape
        (1, 4, 2, 2, 2)
    """

    window_rank = 3


@register
class MinPooling1D(PoolingOfTime, Smallest):
    """Smallest valid value of each window.  [B, T, ...] -> [B, ceil(T / strides), ...], in the input's dtype.

    Mask, timing and padding are those of `Conv1D`. Invalid steps and padding never win; invalid outputs are zeros.

    Args:
        pool_size: steps in a window.
        strides: inputs per output, by default `pool_size`.
        padding: as in `Conv1D`.
        dilation_rate: steps between the taps of a window.

    Raises:
        ValueError: sizes below 1 or an unknown padding.

    Example:
        >>> import kseq, numpy as np
        >>> x = np.array([[[1.0], [5.0], [2.0], [3.0]]], "float32")
        >>> kseq.MinPooling1D(2, padding="semicausal")(x)[0, :, 0].tolist()
        [1.0, 2.0]
    """


@register
class MinPooling2D(PoolingOfSpace, Smallest):
    """Smallest valid value of each window over time and an axis of space.  [B, T, S, ...] -> [B, T', S', ...].

    Mask, timing and padding are those of `Conv2D`. Invalid steps and padding never win; invalid outputs are zeros.

    Args:
        pool_size, dilation_rate: of time and space, or one number for both.
        strides: the same, by default `pool_size`.
        padding, spatial_padding: as in `Conv2D`.

    Raises:
        ValueError: as in `Conv2D`.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.MinPooling2D((1, 2))(np.zeros((1, 7, 40, 2), "float32")).shape
        (1, 7, 20, 2)
    """

    window_rank = 2


@register
class MinPooling3D(PoolingOfSpace, Smallest):
    """Smallest valid value of each window over time and two axes of space.  [B, T, H, W, ...] -> [B, T', H', W', ...].

    Mask, timing and padding are those of `Conv3D`. Invalid steps and padding never win; invalid outputs are zeros.

    Args:
        pool_size, dilation_rate: of time and both axes of space, or one number for all.
        strides: the same, by default `pool_size`.
        padding, spatial_padding: as in `Conv3D`.

    Raises:
        ValueError: as in `Conv3D`.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.MinPooling3D(2)(np.zeros((1, 8, 4, 4, 2), "float32")).shape
        (1, 4, 2, 2, 2)
    """

    window_rank = 3
