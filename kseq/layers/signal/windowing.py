"""A window function over an axis of channels."""

from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from ...annotations import LayerOptions
from ...registry import register
from ...sequence import SequenceSpec
from ..axes import channel_axes
from ..base import Example
from ..complex_values import has_fractions
from ..stepwise import StepwiseLayer
from .window_functions import WindowFunction, standard, window_values


@register
class ApplyWindow(StepwiseLayer):
    """Weights an axis of channels by a window function.  [B, T, ..., N, ...] -> [B, T, ..., N, ...].

    Frames of a signal are weighted so before their spectrum is taken: a `Frame`, this layer and an `RFFT` are an
    `STFT`. Complex values are taken too. Mask: unchanged. Timing: none.

    Args:
        axis: of the channels, counted with batch 0 and time 1.
        window_function: `None` for none; a name, or a tuple of a name and its parameters: `hann` and `hamming`, which
            are periodic where N is even and symmetric where it is odd; `("inverse_stft", step, forward)`, with which
            frames that were cut out `step` apart under the window function `forward` (by default `hann`) add up to the
            signal again; and any other of `scipy.signal.get_window`, where scipy is installed: `blackman`,
            `("kaiser", 8.6)`.

    Raises:
        ValueError: an axis that is not one of the channels, or a window function that there is not.
        ImportError: a window function of scipy's, where scipy is not installed.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.ApplyWindow()(np.ones((1, 1, 4), "float32"))).round(3).tolist()
        [[[0.0, 0.5, 1.0, 0.5]]]
    """

    window_function: WindowFunction

    def __init__(
        self, axis: int = -1, window_function: WindowFunction = "hann", **kwargs: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.window_function = standard(window_function)
        window_values(self.window_function, 512)  # what there is not says so at once

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        shape, dtype = self.cast_spec(input_spec)
        (axis,) = channel_axes(self.axis, len(shape) + 2)
        window_values(self.window_function, shape[axis - 2])
        return SequenceSpec(shape, dtype if has_fractions(dtype) else self.compute_dtype)

    def call_values(self, values: Any, training: bool = False) -> Any:
        dtype = keras.backend.standardize_dtype(values.dtype)
        if not has_fractions(dtype):
            values, dtype = ops.cast(values, self.compute_dtype), self.compute_dtype
        rank = len(values.shape)
        (axis,) = channel_axes(self.axis, rank)
        after = rank - 1 - axis
        weights = window_values(self.window_function, values.shape[axis])
        return values * ops.convert_to_tensor(np.reshape(weights, (-1, *[1] * after)), dtype=dtype)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"axis": 2, "window_function": "hamming"}, (4, 12, 3, 2)), Example({}, (4, 12, 3, 2))]
