"""Adapters of Keras's spectrograms, whose frames are windows over time."""

from typing import Any

import keras
import numpy as np
from keras import ops

from ...layers.signal.spectra import transformed
from ...layers.windows import WindowedLayer
from ...registry import adapts
from ...sequence import Sequence, SequenceSpec
from .call_site import ANYWHERE, CallSite
from .lengthwise import EveryStep
from .refusal import Refusal
from .stock_window import StockWindow, stock_window


class StockSTFT(EveryStep, WindowedLayer):
    """Keras's spectrogram, of frames that are padded before it sees them."""

    window: Any
    unpadded: Any

    def __init__(self, layer: Any, site: CallSite) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        step = layer.frame_step or layer.frame_length // 2
        self.window = stock_window(layer.frame_length, step, 1, layer.padding, site.time, (0, 0))
        self.adapted, self.unpadded = layer, _unpadded(layer)
        self.built = True

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        shape = self.unpadded.compute_output_shape((1, self.adapted.frame_length, *input_spec.shape))
        return SequenceSpec(tuple(shape[2:]), self.compute_dtype)

    def call_windows(self, x: Sequence) -> Any:
        return self.unpadded(x.values)


def _unpadded(layer):
    """The layer with its variables, which pads nothing."""
    if layer.padding == "valid":
        return layer
    made = type(layer).from_config(layer.get_config() | {"padding": "valid"})
    for name in ("real_kernel", "imag_kernel"):
        if hasattr(layer, name):
            setattr(made, name, getattr(layer, name))
    made.built = True
    return made


@adapts(keras.layers.STFTSpectrogram, in_specs=False)
def stft_spectrogram(layer: Any, specs: Any, site: CallSite = ANYWHERE) -> Any:
    """The spectrum of every frame."""
    if layer.data_format != "channels_last":
        raise Refusal('with data_format="channels_first" the first axis is no time', 'data_format="channels_last"')
    return StockSTFT(layer, site)


class StockMel(EveryStep, WindowedLayer):
    """Keras's levels of mel bands, of frames around their step, with time where sequences have it.

    Before the first step and after the last one the signal is its reflection: a frame comes when the steps to its
    right are there, and so are those that stand in for its left.
    """

    window: Any
    needs_tap_mask = True

    def __init__(self, layer: Any) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        size, length = layer.fft_length, layer.sequence_length
        before = (size - length) // 2  # taps of a frame that its window function hides
        if layer.window is None:  # which on some backends hides none
            before, length = 0, size
        half, first = size // 2, before + (isinstance(layer.window, str) and layer.window == "hann")
        self._reach = max(half - first, before + length - 1 - half)
        # Of an even size there may be a frame around the step after the last one, with two more from before it.
        more = 1 - size % 2
        sides = (self._reach + 2 * more, self._reach)
        self.window = StockWindow(sum(sides) + 1, layer.sequence_stride, 1, sides, change=more)
        # The window function of the backend: what is left of one sample at a time, at the frequency of zero.
        eye, window = np.eye(size, dtype="float32"), (layer.sequence_length, size, size, layer.window)
        alone, _ = ops.stft(eye, *window, center=False)
        self._weights = ops.convert_to_numpy(alone)[:, 0, 0]
        self.adapted, self.built = layer, True

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        return SequenceSpec((self.adapted.num_mel_bins,), self.compute_dtype)

    def call_windows(self, x: Sequence) -> Any:
        layer, reach = self.adapted, self._reach
        size, half = layer.fft_length, layer.fft_length // 2
        dtype = self.compute_dtype if self.compute_dtype == "float64" else "float32"
        frames = ops.cast(self._frames(x), dtype)[..., : size - half + reach]
        hidden = (half - reach, size - half - 1 - min(reach, size - half - 1))
        frames = ops.pad(frames, [(0, 0), (0, 0), hidden]) * ops.convert_to_tensor(self._weights, dtype=dtype)
        real, imaginary = transformed(frames, size)
        spectrum = ops.power(ops.sqrt(ops.square(real) + ops.square(imaginary)), layer.mag_exp)
        matrix = layer.linear_to_mel_weight_matrix(
            layer.num_mel_bins, size // 2 + 1, layer.sampling_rate, layer.min_freq, layer.max_freq
        )
        levels = ops.tensordot(spectrum, ops.cast(matrix, dtype), axes=1)
        if layer.power_to_db:
            one = max(abs(layer.ref_power), layer.min_power)
            levels = 10 * ops.log10(ops.maximum(levels, layer.min_power) / one)
        return ops.cast(levels, self.compute_dtype)

    def _frames(self, x):
        """The frames of a signal [B, N] that is reflected around the steps that are there: [B, U, taps]."""
        time, window = ops.shape(x.values)[1], self.window
        steps = ops.arange(time, dtype="int32")
        first = ops.min(ops.where(x.mask, steps, time - 1), axis=1, keepdims=True)
        last = ops.max(ops.where(x.mask, steps, 0), axis=1, keepdims=True)
        starts = ops.arange(0, time - window.size + 1, window.stride, dtype="int32") + window.size - 1
        taps = ops.arange(-2 * self._reach, 1, dtype="int32")
        places = ops.reshape(starts[:, None] + taps, (1, -1))
        period = 2 * ops.maximum(last - first, 1)
        there = ops.mod(places - first, period)
        there = ops.minimum(first + ops.minimum(there, period - there), last)
        frames = ops.take_along_axis(x.values, there, axis=1)
        return ops.reshape(frames, (ops.shape(frames)[0], -1, 2 * self._reach + 1))


@adapts(keras.layers.MelSpectrogram, in_specs=False)
def mel_spectrogram(layer: Any, specs: Any, time_first: bool = False) -> Any:
    """The levels of mel bands, which something has turned to channels."""
    if not time_first:
        raise Refusal("time is the last axis of what it gives", "keras.layers.Permute((2, 1)) right after it")
    if specs.shape:
        raise Refusal(f"its input must be a signal [B, T]; received channel shape {tuple(specs.shape)}")
    if layer.power_to_db and layer.top_db != float("inf"):
        raise Refusal(
            f"with top_db={layer.top_db} its levels are measured against the largest of all of the batch",
            'top_db=float("inf") or power_to_db=False',
        )
    return StockMel(layer)
