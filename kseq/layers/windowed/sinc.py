"""Windowed-sinc filters: fixed low-pass filters over time, before steps are left out and after they are spread."""

from typing import Any, Unpack

import numpy as np
from keras import ops
from numpy.typing import NDArray

from ... import padding as rules
from ...annotations import LayerOptions
from ...arguments import check_table
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...window import Padding
from ..base import Example
from ..transposed_windows import TransposedWindowedLayer
from ..windows import WindowedLayer
from .transposed import TransposedPadding


def kaiser_sinc(size: int, cutoff: float, beta: float) -> NDArray[np.float64]:
    """A low-pass filter of `size` taps that sum to 1: a sinc under a Kaiser window.

    Args:
        size: taps.
        cutoff: where it halves amplitudes, in cycles a step, above 0 and at most 0.5.
        beta: of the Kaiser window; the greater, the less passes beyond, and the wider the slope.

    Raises:
        ValueError: a cutoff outside its range.
    """
    if not 0 < cutoff <= 0.5:
        raise ValueError(f"`cutoff` must be above 0 and at most 0.5 cycles a step; received {cutoff}")
    check_table("filter", size)
    time = np.arange(size) - (size - 1) / 2
    taps = np.kaiser(size, beta) * np.sinc(2 * cutoff * time)
    taps[np.abs(taps) < 1e-14] = 0  # where the sinc is zero
    return taps / taps.sum()


@register
class SincFilter1D(WindowedLayer):
    """A fixed low-pass filter over time of each channel.  [B, T, ...] -> [B, ceil(T / strides), ...].

    Before steps are left out it takes away what they could not hold. Mask, timing and padding are those of `Conv1D`.

    Args:
        kernel_size, strides, padding: as in `Conv1D`.
        cutoff: in cycles a step, above 0 and at most 0.5.
        kaiser_beta: of the Kaiser window over the sinc.

    Raises:
        ValueError: sizes below 1, an unknown padding, or a cutoff outside its range.

    Example:
        >>> import kseq, numpy as np
        >>> y = kseq.SincFilter1D(5, cutoff=0.25)(np.ones((1, 8, 1), "float32"))
        >>> float(np.asarray(y)[0, -1, 0].round(3))
        1.0
    """

    dilation_rate = 1

    def __init__(
        self,
        kernel_size: int,
        strides: int = 1,
        cutoff: float = 0.5,
        kaiser_beta: float = 6.0,
        padding: Padding = "causal",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.set_window("kernel_size")
        self._filter = kaiser_sinc(self.window.size, cutoff, kaiser_beta)

    @property
    def counted_taps(self) -> Any:
        return np.flatnonzero(self._filter).tolist()

    def call_windows(self, x: Sequence) -> Any:
        weighted = [tap * float(h) for tap, h in zip(rules.taps(x.values, self.window), self._filter, strict=True)]
        return sum(weighted[1:], weighted[0])

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"kernel_size": 5, "strides": 2, "cutoff": 0.25, "padding": "reverse_causal"}),
            Example({"kernel_size": 4, "padding": "causal_valid"}),
        ]


@register
class SincFilter1DTranspose(TransposedWindowedLayer):
    """Every step spread by a fixed low-pass filter of each channel.  [B, T, ...] -> [B, T * strides, ...].

    After steps are spread it takes away the images of what they hold; a constant keeps `1 / strides` of its value.
    Mask, timing and padding are those of `Conv1DTranspose`.

    Args:
        kernel_size, strides, padding: as in `Conv1DTranspose`.
        cutoff, kaiser_beta: as in `SincFilter1D`, in cycles an output step.

    Raises:
        ValueError: sizes below 1, another padding, or a cutoff outside its range.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.SincFilter1DTranspose(4, strides=2, cutoff=0.25)(np.ones((1, 8, 3), "float32")).shape
        (1, 16, 3)
    """

    dilation_rate = 1

    def __init__(
        self,
        kernel_size: int,
        strides: int = 1,
        cutoff: float = 0.5,
        kaiser_beta: float = 6.0,
        padding: TransposedPadding = "causal",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.set_window("kernel_size")
        self._filter = kaiser_sinc(self.window.size, cutoff, kaiser_beta)

    @property
    def counted_taps(self) -> Any:
        return np.flatnonzero(self._filter).tolist()

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return self.cast_spec(input_spec)

    def call_taps(self, x: Sequence) -> Any:
        shape = (-1, *[1] * (len(x.values.shape) - 2))
        taps = ops.convert_to_tensor(self._filter.reshape(shape), dtype=x.values.dtype)
        return ops.expand_dims(x.values, 2) * taps

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"kernel_size": 5, "strides": 2, "cutoff": 0.25}),
            Example({"kernel_size": 4, "strides": 3, "cutoff": 0.2, "padding": "same"}),
        ]
