"""Average pooling: the mean of each window over time, and over axes of space."""

import functools
from typing import Any, Unpack

import numpy as np
from keras import ops

from ... import padding as rules
from ...annotations import WindowOptions
from ...registry import register
from ...sequence import Sequence
from ...window import Padding
from ..base import Example
from ..space import SpatialPadding
from .pooling import PoolingLayer


class _Average(PoolingLayer):
    """The mean of each window."""

    masked_average: bool

    @property
    def needs_tap_mask(self) -> bool:
        return self.masked_average or self.padding == "same"

    def known_taps(self, x: Sequence) -> Sequence:
        return super().known_taps(x if self.masked_average else Sequence(x.values))

    def call_windows(self, x: Sequence) -> Any:
        total, count = self.reduce(ops.add, x.values), self.window.size
        if x.mask is not None:
            valid = ops.cast(x.expanded_mask(), x.values.dtype)
            count = ops.maximum(functools.reduce(ops.add, rules.taps(valid, self.window)), 1)
        if self.space:
            count = count * self._taps_of_space(x.values)
        divide = ops.divide if "float" in x.spec.dtype else ops.floor_divide
        return ops.cast(divide(total, count), x.values.dtype)

    def _taps_of_space(self, values):
        """Taps that count of each window over space, [*space, 1, ...]."""
        lengths = values.shape[2 : 2 + len(self.space)]
        counts = [self._taps_of_axis(axis, n) for axis, n in zip(self.space, lengths, strict=True)]
        found = functools.reduce(np.multiply.outer, counts).astype("int32")
        found = found.reshape(found.shape + (1,) * (len(values.shape) - 2 - len(lengths)))
        return ops.cast(ops.convert_to_tensor(found), values.dtype)

    def _taps_of_axis(self, axis, length):
        window, outputs = axis.window, axis.output_length(length)
        if not self.masked_average and window.padding != "same":
            return np.full(outputs, window.size)
        first = np.arange(outputs) * window.stride - axis.pads_of(length)[0]
        taps = first[:, None] + np.arange(window.size) * window.dilation
        return np.maximum(((taps >= 0) & (taps < length)).sum(1), 1)


@register
class AveragePooling1D(_Average):
    """Mean of each window.  [B, T, ...] -> [B, ceil(T / strides), ...], in the input's dtype.

    Invalid steps and padding count as zeros of a full window, or with `masked_average` not at all; the padding of
    `same` never counts, as in Keras. Mask, timing and padding are those of `Conv1D`. Integers are divided rounding
    down.

    Args:
        pool_size, strides, padding, dilation_rate: as in `MaxPooling1D`.
        masked_average: divide by the number of valid steps of the window (zero if there is none).

    Raises:
        ValueError: sizes below 1 or an unknown padding.

    Example:
        >>> import kseq, numpy as np
        >>> x = np.array([[[1.0], [5.0], [2.0], [4.0]]], "float32")
        >>> kseq.AveragePooling1D(2, padding="semicausal")(x)[0, :, 0].tolist()
        [3.0, 3.0]
    """

    def __init__(
        self,
        pool_size: int = 2,
        strides: int | None = None,
        padding: Padding = "causal",
        dilation_rate: int = 1,
        masked_average: bool = False,
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
            Example({"pool_size": 3, "strides": 1, "masked_average": True}),
            Example({"pool_size": 4, "strides": 2, "padding": "reverse_causal", "masked_average": True}),
        ]


class _AverageOfSpace(_Average):
    """The constructor of average pooling over time and space."""

    def __init__(
        self,
        pool_size: int | tuple[int, ...] = 2,
        strides: int | tuple[int, ...] | None = None,
        padding: Padding = "causal",
        spatial_padding: SpatialPadding | None = None,
        dilation_rate: int | tuple[int, ...] = 1,
        masked_average: bool = False,
        **kwargs: Unpack[WindowOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.check_arguments()

    @classmethod
    def examples(cls) -> list[Example]:
        if cls.window_rank == 3:
            return [
                Example({"pool_size": 2, "strides": (2, 1, 2), "masked_average": True}, (4, 12, 3, 3, 1)),
                Example(
                    {"pool_size": 2, "strides": 1, "padding": "reverse_causal", "spatial_padding": "same"},
                    (4, 12, 3, 3, 1),
                ),
            ]
        return [
            Example({"pool_size": (3, 2), "strides": (1, 2), "padding": "reverse_causal"}, (4, 12, 4, 2)),
            Example({"pool_size": (2, 3), "strides": 1, "masked_average": True}, (4, 12, 4, 2)),
        ]


@register
class AveragePooling2D(_AverageOfSpace):
    """Mean of each window over time and an axis of space.  [B, T, S, ...] -> [B, T', S', ...], in the input's dtype.

    Invalid steps and padding count as zeros of a full window, or with `masked_average` not at all; the padding of
    `same` never counts, as in Keras. Mask, timing and padding are those of `Conv2D`. Integers are divided rounding
    down.

    Args:
        pool_size, strides, padding, spatial_padding, dilation_rate: as in `MaxPooling2D`.
        masked_average: divide by the number of valid steps of the window and of places in it that are no padding.

    Raises:
        ValueError: as in `Conv2D`.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.AveragePooling2D((1, 2))(np.zeros((1, 7, 40, 2), "float32")).shape
        (1, 7, 20, 2)
    """

    window_rank = 2


@register
class AveragePooling3D(_AverageOfSpace):
    """Mean of each window over time and two axes of space.  [B, T, H, W, ...] -> [B, T', H', W', ...].

    As `AveragePooling2D`.

    Args:
        pool_size, strides, padding, spatial_padding, dilation_rate: as in `MaxPooling3D`.
        masked_average: as in `AveragePooling2D`.

    Raises:
        ValueError: as in `Conv3D`.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.AveragePooling3D(2)(np.zeros((1, 8, 4, 4, 2), "float32")).shape
        (1, 4, 2, 2, 2)
    """

    window_rank = 3
