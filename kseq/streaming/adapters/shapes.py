"""Adapters of layers that repeat steps, or that give the numbers of each step in another shape."""

import math
from typing import Any

import keras
from keras import ops

from ...layers.shape import Reshape
from ...registry import adapts
from ...sequence import SequenceSpec
from ...timing import Timing
from .call_site import ANYWHERE, CallSite
from .operation import Held, InputSlot, Operation
from .refusal import Refusal


class _Repeated(Operation):
    """A layer that gives every step several times."""

    @property
    def timing(self) -> Timing:
        size = self.adapted.size
        return Timing(ratio=size if isinstance(size, int) else size[0])

    def output_mask(self, mask: Any) -> Any:
        return ops.repeat(mask, self.timing.ratio.numerator, axis=1)

    def call_layer(self, x: Any, *, training: bool = False) -> Any:
        y = super().call_layer(x, training=training)
        return y if y.mask is None else y._replace(mask=self.output_mask(y.mask))


@adapts(keras.layers.UpSampling1D, keras.layers.UpSampling2D, keras.layers.UpSampling3D, in_specs=False)
def up_sampling(layer: Any, specs: Any) -> Any:
    """Steps, and places in space, given several times; what lies between places of a step may be interpolated."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise Refusal('with data_format="channels_first" the first axis is no time', 'data_format="channels_last"')
    size = layer.size if isinstance(layer.size, int) else layer.size[0]
    interpolation = getattr(layer, "interpolation", "nearest")
    if interpolation != "nearest" and size > 1:
        raise Refusal(f"its interpolation {interpolation!r} mixes time steps", 'interpolation="nearest"')
    return _Repeated.of(layer, specs)


@adapts(keras.layers.Reshape, in_specs=False)
def reshape(layer: Any, specs: Any, site: CallSite = ANYWHERE) -> Any:
    """The channels of every step in another shape."""
    time, *channels = layer.compute_output_shape((None, site.time, *specs.shape))[1:]
    keeps = time == site.time and (time is not None or layer.target_shape[0] == -1)
    if not keeps or not channels or None in channels or math.prod(channels) != math.prod(specs.shape):
        raise Refusal(
            f"target_shape {tuple(layer.target_shape)} moves values from one step to another",
            "a target_shape that begins with -1 and keeps the number of channels",
        )
    return Reshape(tuple(channels), name=layer.name, dtype=layer.dtype_policy)


def reshaped(operation: Any, spec: Any, shape: Any, site: CallSite) -> Any:
    """The operation that gives a tensor another shape, where that is one of channels."""
    batch, time, channels = shape[0], (*shape, None)[1], shape[2:]
    keeps = (batch, time) == (site.batch, site.time) and None not in channels
    if not keeps or math.prod(channels) != math.prod(spec.shape):
        raise Refusal(f"of [batch, time, ...] it makes {tuple(shape)}", "keras.layers.Reshape with a shape (-1, ...)")
    return Reshaped(operation, channels)


class Reshaped(Operation):
    """The operation with the chunk's own batch and time in the place of those that it names."""

    def __init__(self, operation: Any, channels: Any) -> None:
        super().__init__(operation, (InputSlot(0),), {}, 1)
        self._channels = Held(tuple(channels))

    def output_spec(self, input_spec: Any) -> Any:
        return SequenceSpec(self._channels.value, input_spec.dtype)

    def call_layer(self, x: Any, *, training: bool = False) -> Any:
        return x._replace(values=ops.reshape(x.values, (*ops.shape(x.values)[:2], *self._channels.value)))


@adapts(keras.layers.Permute, in_specs=False)
def permute(layer: Any, specs: Any) -> Any:
    """The axes of channels in another order."""
    if layer.dims[0] != 1:
        raise Refusal(f"dims {tuple(layer.dims)} move time to another axis", "dims that begin with 1")
    return Operation.of(layer, specs)
