"""Adapters of zero padding and of cropping: steps that are put before and behind a sequence, or taken away there.

Zeros before the input are outputs that came before it: what follows them is given as late. What is taken away at the
start is a warm-up; what is taken away at the end is known as such only when there is no more of it.
"""

from fractions import Fraction
from typing import Any

import keras
from keras import ops

from ...registry import adapts
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from .lengthwise import EveryStep
from .refusal import Refusal

PADDING = (keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D)
_CROPPING = (keras.layers.Cropping1D, keras.layers.Cropping2D, keras.layers.Cropping3D)


class _Moved(EveryStep):
    """A layer that moves time by what it does at both ends, and has a pair of sizes for each axis of space.

    State: the last inputs, as many as outputs come late.
    """

    ends: tuple[int, int]
    space_ends: tuple[tuple[int, int], ...]

    def __init__(self, layer: Any, ends: Any, *space_ends: Any) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.adapted, self.ends, self.space_ends = layer, tuple(ends), tuple(map(tuple, space_ends))
        self.built = True

    @property
    def late(self) -> int:
        """Steps by which what is given comes after what is read."""
        raise NotImplementedError

    def of_space(self, values: Any) -> Any:
        """Values with what is done over space."""
        raise NotImplementedError

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        made = self.adapted.compute_output_shape((1, 1 + 2 * sum(self.ends), *input_spec.shape))
        return SequenceSpec(tuple(made[2:]), self.cast_spec(input_spec).dtype)

    def initial_state(self, batch_size: int, input_spec: Any, context: Any = None) -> Any:
        if not self.late:
            return ()
        shape, dtype = self.cast_spec(input_spec)
        return {"values": ops.zeros((batch_size, self.late, *shape), dtype=dtype)}

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        values, time = x.values, x.values.shape[1]
        if self.late:
            joined = ops.concatenate([state["values"], values], axis=1)
            values, state = joined[:, :time], {"values": joined[:, time:]}
        return Sequence(self.of_space(values), x.mask), state


class _Padded(_Moved):
    """Zeros put before and behind the input, and around its axes of space."""

    @property
    def timing(self) -> Timing:
        before, after = self.ends
        return Timing(
            input_latency=before + after,
            receptive_field_per_step=((-before, -before),),
            length_stages=((Fraction(1), before + after),),
        )

    @property
    def late(self) -> int:
        return self.ends[0]

    def of_space(self, values: Any) -> Any:
        return _padded(values, ((0, 0), *self.space_ends)) if self.space_ends else values

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        values = _padded(x.values, (self.ends, *self.space_ends))
        return Sequence(values, None if x.mask is None else self.output_mask(x.mask))


class _Cropped(_Moved):
    """Steps taken away before and behind the input, and around its axes of space."""

    @property
    def timing(self) -> Timing:
        before, lost = self.ends[0], sum(self.ends)
        return Timing(
            output_latency=lost,
            receptive_field_per_step=((before, before),),
            length_stages=((Fraction(1), -lost),),
        )

    @property
    def late(self) -> int:
        return self.ends[1]

    def of_space(self, values: Any) -> Any:
        cuts = (slice(before, values.shape[2 + i] - after) for i, (before, after) in enumerate(self.space_ends))
        return values[(slice(None), slice(None), *cuts)] if self.space_ends else values

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        length = self.output_length(ops.shape(x.values)[1])
        values = self.of_space(x.values)[:, self.ends[0] :][:, :length]
        return Sequence(values, None if x.mask is None else self.output_mask(x.mask))


def _padded(values, ends):
    return ops.pad(values, [(0, 0), *ends, *[(0, 0)] * (len(values.shape) - 1 - len(ends))])


def ends_of(layer: Any) -> tuple[tuple[int, int], ...]:
    """Steps that a layer of zero padding or cropping adds or takes, a pair for each axis, time first.

    Raises:
        Refusal: an order of axes in which time does not come first.
    """
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise Refusal('with data_format="channels_first" the first axis is no time', 'data_format="channels_last"')
    ends = layer.padding if isinstance(layer, PADDING) else layer.cropping
    return tuple(map(tuple, ends)) if isinstance(ends[0], (tuple, list)) else (tuple(ends),)


@adapts(*PADDING, in_specs=False)
def zero_padding(layer: Any, specs: Any) -> Any:
    """Zeros around a sequence, and around its axes of space."""
    return _Padded(layer, *ends_of(layer))


@adapts(*_CROPPING, in_specs=False)
def cropping(layer: Any, specs: Any) -> Any:
    """Steps taken from both ends of a sequence, and of its axes of space."""
    return _Cropped(layer, *ends_of(layer))
