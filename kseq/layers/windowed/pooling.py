"""Pooling over time."""

import functools
import math
from typing import Any, Unpack

from keras import ops

from ... import padding as rules
from ...annotations import WindowOptions
from ...registry import register
from ...sequence import Sequence
from ...window import Padding
from ..base import Example
from .base import WindowedLayer


class _Pooling(WindowedLayer):
    """What pooling over time shares: the window, and zeros at invalid outputs."""

    pool_size: int
    strides: int

    def _check_arguments(self):
        if self.strides is None:
            self.strides = self.pool_size
        self.set_window("pool_size")

    def finish(self, values: Any, mask: Any) -> Sequence:
        # A window without valid steps would leave an infinity where losses multiply by zero.
        return Sequence(values, mask).mask_invalid()

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"pool_size": 3, "strides": 1}),
            Example({"pool_size": 2, "padding": "reverse_causal_valid"}),
            Example({"pool_size": 3, "strides": 2, "padding": "same"}),
        ]


@register
class MaxPooling1D(_Pooling):
    """Largest valid value of each window.  [B, T, ...] -> [B, ceil(T / strides), ...], in the input's dtype.

    Mask, timing and padding are those of `Conv1D`; a window without a valid step gives zero where its output is
    invalid, else the lowest value of the dtype.

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

    invalid_value: float | None = -math.inf

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
        self._check_arguments()

    def call_windows(self, x: Sequence) -> Any:
        return functools.reduce(ops.maximum, rules.taps(x.values, self.window))


@register
class AveragePooling1D(_Pooling):
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
        self._check_arguments()

    @property
    def needs_tap_mask(self) -> bool:
        return self.masked_average or self.padding == "same"

    def known_taps(self, x: Sequence) -> Sequence:
        return super().known_taps(x if self.masked_average else Sequence(x.values))

    def call_windows(self, x: Sequence) -> Any:
        total = functools.reduce(ops.add, rules.taps(x.values, self.window))
        count = self.pool_size
        if x.mask is not None:
            valid = ops.cast(x.expanded_mask(), x.values.dtype)
            count = ops.maximum(functools.reduce(ops.add, rules.taps(valid, self.window)), 1)
        divide = ops.divide if "float" in x.spec.dtype else ops.floor_divide
        return ops.cast(divide(total, count), x.values.dtype)

    @classmethod
    def examples(cls) -> list[Example]:
        masked = [
            Example({"pool_size": 3, "strides": 1, "masked_average": True}),
            Example({"pool_size": 4, "strides": 2, "padding": "reverse_causal", "masked_average": True}),
        ]
        return super().examples() + masked
