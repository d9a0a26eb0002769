"""Adapters of convolutions and pooling: layers of kseq's with the variables, and the windows, of Keras's.

Keras pads by the length of the whole, or not at all. A stream does the same: the zeros behind the end are what is there
after the last step, and for outputs that whole windows do not give nobody waits.
"""

import functools
from typing import Any

import keras
from keras import ops

from ...layers import windowed
from ...layers.space import spatial_axes
from ...layers.transposed_windows import complete_sums
from ...registry import adapter_of, adapts
from ...sequence import Sequence
from .call_site import ANYWHERE, CallSite
from .lengthwise import EveryStep
from .refusal import Refusal
from .stock_window import stock_transposed_window, stock_window


class _WindowsOfStock(EveryStep):
    """A kseq layer in the place of a stock layer, which has the variables."""

    window: Any

    # What a layer of kseq makes in `build`, as it is now: a stock layer may make its kernel of several variables.

    @property
    def kernel(self) -> Any:
        return self.adapted.kernel

    @property
    def depthwise_kernel(self) -> Any:
        return self.adapted.depthwise_kernel

    @property
    def pointwise_kernel(self) -> Any:
        return self.adapted.pointwise_kernel

    @property
    def bias(self) -> Any:
        return self.adapted.bias if self.adapted.use_bias else None


class _Transposed(_WindowsOfStock):
    """A transposed convolution, whose first sums may be no outputs."""

    def complete(self, sums: Any, length: Any) -> Any:
        window = self.window
        missing = window.start + max(window.change - window.tail, 0)
        sums = ops.pad(sums, [(0, 0), (0, missing), *[(0, 0)] * (len(sums.shape) - 2)]) if missing else sums
        return complete_sums(sums, window, length)

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        y, state = super().call_step(Sequence(x.values), state, training=training)
        mask = None if x.mask is None else ops.repeat(x.mask, self.window.stride, axis=1)
        return Sequence(y.values, mask), state


class _Pooled(_WindowsOfStock):
    """Pooling, of which every output is what its window gives."""

    padded = False

    def finish(self, values: Any, mask: Any) -> Sequence:
        # Beyond the last step there may be outputs, of zeros that are put there.
        y = Sequence(values, mask)
        return y if self.padded else y.mask_invalid()


@functools.cache
def _class_of(stock, base):
    """The kseq layer of a stock layer's name, with its variables."""
    twin = getattr(windowed, stock)
    return type(f"Stock{stock}", (base, twin), {"__doc__": twin.__doc__})


def _made(layer, base, **config):
    """A kseq layer in the place of a stock layer, of the same sizes."""
    cls = next(c for c in type(layer).__mro__ if getattr(keras.layers, c.__name__, None) is c)
    made = _class_of(cls.__name__, base)(name=layer.name, dtype=layer.dtype_policy, **config)
    made.adapted, made.built = layer, True
    return made


def _sizes(value, rank):
    return value if rank > 1 or isinstance(value, int) else value[0]


def _check_axes(layer, specs) -> int:
    """How many axes windows move over.

    Raises:
        Refusal: an order of axes in which time does not come first.
    """
    rank = len(layer.kernel_size if hasattr(layer, "kernel_size") else layer.pool_size)
    if layer.data_format != "channels_last":
        raise Refusal('with data_format="channels_first" the first axis is no time', 'data_format="channels_last"')
    if len(specs.shape) != rank:
        raise Refusal(f"its input must have rank {rank + 2}; received channel shape {tuple(specs.shape)}")
    return rank


def _set_windows(made, layer, sizes, site, dilations):
    """Give the layer the windows of the stock layer: over time, and over axes of space."""
    zeros = site.zeros or ((0, 0),) * len(sizes)
    strides = layer.strides
    made.window = stock_window(sizes[0], strides[0], dilations[0], layer.padding, site.time, zeros[0])
    made.space = spatial_axes(
        zip(sizes[1:], strides[1:], dilations[1:], strict=True), zeros[1:] if site.zeros else layer.padding
    )
    return made


@adapts(
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    in_specs=False,
)
def convolution(layer: Any, specs: Any, site: CallSite = ANYWHERE) -> Any:
    """A convolution over time, or over time and space: causal, valid, or same."""
    rank = _check_axes(layer, specs)
    names = ("filters", "groups", "depth_multiplier", "activation", "use_bias")
    config = {name: getattr(layer, name) for name in names if getattr(layer, name, None) is not None}
    if not isinstance(layer, (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)):
        config.pop("groups", None)
    if isinstance(layer, (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)):
        config.pop("filters", None)
    sizes = {name: _sizes(getattr(layer, name), rank) for name in ("kernel_size", "strides", "dilation_rate")}
    made = _made(layer, _WindowsOfStock, **config, **sizes)
    return _set_windows(made, layer, layer.kernel_size, site, layer.dilation_rate)


@adapts(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose, in_specs=False)
def transposed_convolution(layer: Any, specs: Any) -> Any:
    """A transposed convolution over time, or over time and space."""
    rank = _check_axes(layer, specs)
    more = layer.output_padding
    more = more if more is None or isinstance(more, int) else tuple(more)
    if rank > 1 and more is not None:
        raise Refusal("over axes of space its `output_padding` is not adapted", "output_padding=None")
    names = ("kernel_size", "strides", "dilation_rate")
    config = {name: _sizes(getattr(layer, name), rank) for name in names}
    config |= {name: getattr(layer, name) for name in ("filters", "activation", "use_bias")}
    made = _made(layer, _Transposed, padding=layer.padding, **config)
    of_time = (layer.kernel_size[0], layer.strides[0], layer.dilation_rate[0])
    made.window = stock_transposed_window(*of_time, layer.padding, more[0] if isinstance(more, tuple) else more)
    return made


@adapts(
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
    in_specs=False,
)
def pooling(layer: Any, specs: Any, site: CallSite = ANYWHERE) -> Any:
    """The largest or the mean value of each window over time, or over time and space."""
    rank = len(layer.pool_size)
    if layer.data_format != "channels_last" or len(specs.shape) != rank:
        _check_axes(layer, specs)
    averages = isinstance(
        layer, (keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D)
    )
    config = {name: _sizes(getattr(layer, name), rank) for name in ("pool_size", "strides")}
    if averages:
        config["masked_average"] = layer.padding == "same"
        _check_repeats(layer, specs, site)
    made = _set_windows(_made(layer, _Pooled, **config), layer, layer.pool_size, site, (1,) * rank)
    if site.zeros:
        made.padded, made.invalid_value = True, 0
    return made


def _check_repeats(layer, specs, site):
    """Refuse means of windows in which Keras on torch repeats the first and the last step, where other backends do not.

    It does where it pads unequally. A window of two holds nothing but such repetitions then.
    """
    if keras.backend.backend() != "torch" or layer.padding != "same" or max(layer.pool_size) <= 2:
        return
    lengths = site.time, *specs.shape[:-1]
    axes = zip(layer.pool_size, layer.strides, lengths, strict=True)
    for size, stride, length in axes:
        if (size % 2 == 0) if stride == 1 else (length is None or max(size - 1 - (length - 1) % stride, 0) % 2):
            raise Refusal(
                'with padding="same" Keras on torch repeats the first and the last step, which is not streamed',
                "a pool_size that is odd, with strides=1",
            )


def takes_zeros(layer: Any, ends: Any) -> bool:
    """Whether the windows of a layer can take the zeros of a layer of zero padding before it for their own.

    Args:
        layer: that reads what the other gives.
        ends: of the other.
    """
    if adapter_of(layer) not in (convolution, pooling) or layer.padding != "valid":
        return False
    size = layer.kernel_size if hasattr(layer, "kernel_size") else layer.pool_size
    dilation = layer.dilation_rate if hasattr(layer, "dilation_rate") else (1,)
    return len(ends) == len(size) and ends[0][0] <= (size[0] - 1) * dilation[0]
