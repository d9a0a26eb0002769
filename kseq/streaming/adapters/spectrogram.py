"""Adapter of Keras's spectrogram, whose frames are windows over time."""

from typing import Any

import keras

from ...layers.windows import WindowedLayer
from ...registry import adapts
from ...sequence import Sequence, SequenceSpec
from .call_site import ANYWHERE, CallSite
from .lengthwise import EveryStep
from .refusal import Refusal
from .stock_window import stock_window


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
