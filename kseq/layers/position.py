"""Layers that say where a step is: timing signals, learned positions, and rotary positions."""

import math
from typing import Any, Literal, Unpack

import keras
from keras import ops

from ..annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ..arguments import as_size, check_choice
from ..registry import register
from ..sequence import Sequence, SequenceSpec
from ..timing import Timing
from .axes import channel_axes
from .base import Example, SequenceLayer
from .counting import bounded, count
from .rotary import angles, rotate
from .structures import joint_mask

#: What is counted: valid steps, all steps since the first valid one, or nothing, where positions are an input.
Positions = Literal["valid", "all", "given"]
_MODES = ("valid", "all", "given")


class PositionLayer(SequenceLayer):
    """A layer that treats every step by itself, but for its position: `call_values` is all there is to write.

    Attributes:
        positions: which positions, as the argument of all these layers says.
    """

    positions: Positions

    def _set_positions(self, positions):
        check_choice("positions", positions, _MODES)
        self.positions = positions
        self.num_inputs = 2 if positions == "given" else 1

    def call_values(self, values: Any, positions: Any) -> Any:
        """Outputs [B, T, ...] of floats [B, T, ...] at positions int [B, T], or [1, T] where rows have the same."""
        raise NotImplementedError

    @property
    def counts_steps(self) -> bool:
        return self.positions == "valid"

    @property
    def timing(self) -> Timing:
        return Timing(receptive_field_per_step=((-math.inf, 0),)) if self.counts_steps else Timing()

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        spec = input_spec
        if self.num_inputs == 2:
            spec, given = input_spec
            if given.shape != () or not keras.backend.is_int_dtype(given.dtype):
                raise ValueError(
                    f"{self._named} takes positions [batch, time] of integers as its second input; received "
                    f"channel shape {tuple(given.shape)} and dtype {given.dtype}"
                )
        if not keras.backend.is_float_dtype(spec.dtype):
            raise ValueError(f"{self._named} takes floats; received {spec.dtype}")
        return self.cast_spec(spec)

    def initial_state(self, batch_size: int, input_spec: Any, context: dict[str, Any] | None = None) -> Any:
        return () if self.num_inputs == 2 else {"position": ops.zeros((batch_size,), dtype="int32")}

    def call_layer(self, x: Any, *, training: bool = False) -> Sequence:
        start = () if self.num_inputs == 2 else {"position": ops.zeros((1,), dtype="int32")}
        return self.call_step(x, start)[0]

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        self.output_spec((x[0].spec, x[1].spec) if self.num_inputs == 2 else x.spec)  # or it refuses them
        if self.num_inputs == 2:
            values, given = x
            return Sequence(self.call_values(values.values, given.values), joint_mask(x)), state
        positions, after = count(x.mask, ops.shape(x.values)[1], state["position"], self.positions)
        return Sequence(self.call_values(x.values, positions), x.mask), {"position": after}


@register
class AddTimingSignal(PositionLayer):
    """Adds sines and cosines of the position, of many wavelengths, to the channels.  [B, T, ...] -> [B, T, ...].

    The channels' first half are sines, the second cosines; an odd one at the end stays as it is. Sine `i` of `n` turns
    by `min_timescale * (max_timescale / min_timescale) ** (-i / (n - 1))` radians a step, right at any position.
    Mask: unchanged. Timing: none, but where valid steps are counted an output depends on how many there were. State:
    the position of the next step.  Source: Vaswani et al., 2017, "Attention Is All You Need".

    Args:
        min_timescale: radians a step of the fastest sine.
        max_timescale: the slowest sine turns by `min_timescale ** 2 / max_timescale` radians a step.
        trainable_scale: whether the signal is multiplied by a learned scalar.
        axes: channel axis or axes that the signal spans; it is the same along others. By default all.
        positions: `"valid"` counts valid steps, `"all"` all steps from the first valid one on; with `"given"` the layer
            has a second input, integers [B, T], which are the positions.

    Raises:
        ValueError: timescales that are not positive, axes that are no channel axes, values that are no floats.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.AddTimingSignal()(np.zeros((1, 2, 2), "float32"))).astype(float).round(2).tolist()
        [[[0.0, 1.0], [0.84, 0.54]]]
    """

    axes: int | tuple[int, ...] | None
    scale: Any

    def __init__(
        self,
        min_timescale: float = 1.0,
        max_timescale: float = 10000.0,
        trainable_scale: bool = False,
        axes: int | tuple[int, ...] | None = None,
        positions: Positions = "valid",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.axes = tuple(axes) if isinstance(axes, (tuple, list)) else axes
        _check_timescales(min_timescale, max_timescale)
        self._set_positions(positions)

    def build(self, input_shape: Any) -> None:
        shape = input_shape[0] if self.num_inputs == 2 else input_shape
        self._signal_shape(tuple(shape[2:]))
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones") if self.trainable_scale else None

    def _signal_shape(self, channels):
        """The channels' shape, with 1 along axes that the signal does not span."""
        axes = range(-len(channels), 0) if self.axes is None else self.axes
        spanned = {
            channel_axes(a, 2 + len(channels), "axes")[0] - 2 for a in ((axes,) if isinstance(axes, int) else axes)
        }
        return tuple(size if i in spanned else 1 for i, size in enumerate(channels))

    def call_values(self, values: Any, positions: Any) -> Any:
        shape = self._signal_shape(tuple(values.shape[2:]))
        signal = _timing_signal(positions, math.prod(shape), self.min_timescale, self.max_timescale, values.dtype)
        signal = ops.reshape(signal, (*ops.shape(signal)[:2], *shape))
        return values + (signal if self.scale is None else signal * ops.cast(self.scale, values.dtype))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({}), Example({"positions": "all", "axes": -2, "trainable_scale": True}, (4, 12, 2, 3))]


@register
class ConcatTimingSignal(PositionLayer):
    """Puts sines and cosines of the position after the last axis.  [B, T, ..., C] -> [B, T, ..., C + channels].

    The signal is that of `AddTimingSignal`, of `channels` channels. Mask: unchanged. Timing: none, but where valid
    steps are counted an output depends on how many there were. State: the position of the next step.

    Args:
        channels: size of the signal.
        min_timescale, max_timescale, positions: as in `AddTimingSignal`.

    Raises:
        ValueError: no channels, timescales that are not positive, values that are no floats or have no channels.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.ConcatTimingSignal()(np.zeros((1, 2, 3), "float32")).shape
        (1, 2, 11)
    """

    channels: int

    def __init__(
        self,
        channels: int = 8,
        min_timescale: float = 1.0,
        max_timescale: float = 10000.0,
        positions: Positions = "valid",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.channels = as_size("channels", channels)
        _check_timescales(min_timescale, max_timescale)
        self._set_positions(positions)

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        return _with_more_channels(self, super().output_spec(input_spec))

    def call_values(self, values: Any, positions: Any) -> Any:
        signal = _timing_signal(positions, self.channels, self.min_timescale, self.max_timescale, values.dtype)
        return _concat(values, signal)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"channels": 3}), Example({"channels": 4, "positions": "all"})]


@register
class ConcatPositionEmbedding(PositionLayer):
    """Puts a learned vector of the position after the last axis.  [B, T, ..., C] -> [B, T, ..., C + channels].

    There are vectors for the first `timesteps` positions; later ones have the last of them. Mask: unchanged. Timing:
    none, but where valid steps are counted an output depends on how many there were. State: the position of the next
    step.

    Args:
        timesteps: positions that have a vector of their own.
        channels: size of the vectors.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: as in `Embedding`.
        positions: as in `AddTimingSignal`.

    Raises:
        ValueError: sizes below 1, values that are no floats or have no channels.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.ConcatPositionEmbedding(timesteps=10, channels=2)(np.zeros((1, 4, 3), "float32")).shape
        (1, 4, 5)
    """

    timesteps: int
    channels: int
    embeddings: Any

    def __init__(
        self,
        timesteps: int,
        channels: int,
        embeddings_initializer: InitializerLike = "uniform",
        embeddings_regularizer: RegularizerLike = None,
        embeddings_constraint: ConstraintLike = None,
        positions: Positions = "valid",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.timesteps, self.channels = as_size("timesteps", timesteps), as_size("channels", channels)
        self._set_positions(positions)

    def build(self, input_shape: Shape) -> None:
        self.embeddings = self.add_parameter("embeddings", (self.timesteps, self.channels))

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        return _with_more_channels(self, super().output_spec(input_spec))

    def call_values(self, values: Any, positions: Any) -> Any:
        positions = bounded(positions, 0, self.timesteps - 1)
        return _concat(values, ops.take(ops.cast(self.embeddings, values.dtype), positions, axis=0))

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"timesteps": 16, "channels": 2}),
            Example({"timesteps": 16, "channels": 2, "positions": "all"}),
        ]


@register
class RotaryEmbedding(PositionLayer):
    """Rotates pairs of channels by angles that grow with the position.  [B, T, ...] -> [B, T, ...].

    Channel `i` of D is paired with `i + D/2` (half-split), and turns once every `2 pi * max_wavelength ** (2 i / D)`
    steps. Two rotations differ by exactly what the difference of their positions says, however large these are.
    Mask: unchanged. Timing: none, but where valid steps are counted an output depends on how many there were. State:
    the position of the next step.
    Source: Su et al., 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".

    Args:
        max_wavelength: of the slowest pair, were there one more.
        axis: channel axis whose channels are paired.
        positions: `"valid"` counts valid steps, `"all"` all steps from the first valid one on; with `"given"` the layer
            has a second input, integers [B, T], which are the positions.
        positions_in_at_least_fp32: whether angles are exact, or are multiplied in the dtype of the values, for weights
            that were trained in that way.

    Raises:
        ValueError: a wavelength that is not positive, an axis that is no channel axis or is of odd size, values that
            are no floats.

    Example:
        >>> import kseq, numpy as np
        >>> x = np.array([[[1.0, 0.0], [1.0, 0.0]]], "float32")
        >>> np.asarray(kseq.RotaryEmbedding()(x)).astype(float).round(2).tolist()
        [[[1.0, 0.0], [0.54, 0.84]]]
    """

    def __init__(
        self,
        max_wavelength: float = 10000.0,
        axis: int = -1,
        positions: Positions = "valid",
        positions_in_at_least_fp32: bool = True,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        if not max_wavelength > 0:
            raise ValueError(f"`max_wavelength` must be positive; received {max_wavelength}")
        self._set_positions(positions)

    def build(self, input_shape: Any) -> None:
        self._paired_axis(tuple((input_shape[0] if self.num_inputs == 2 else input_shape)[2:]))

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        spec = super().output_spec(input_spec)
        self._paired_axis(spec.shape)
        return spec

    def _paired_axis(self, channels) -> int:
        """The number of `axis` among the channel axes."""
        axis = channel_axes(self.axis, 2 + len(channels))[0] - 2
        if channels[axis] % 2:
            raise ValueError(
                f"{self._named} pairs channels: the size of `axis` {self.axis} must be even; received {channels[axis]}"
            )
        return axis

    def call_values(self, values: Any, positions: Any) -> Any:
        axis = 2 + self._paired_axis(tuple(values.shape[2:]))
        last = ops.moveaxis(values, axis, -1)
        return ops.moveaxis(rotate(last, positions, self.max_wavelength, self.positions_in_at_least_fp32), -1, axis)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"max_wavelength": 50.0}, (4, 12, 4)),
            Example({"max_wavelength": 50.0, "positions": "all", "axis": 2}, (4, 12, 2, 3)),
        ]


def _timing_signal(positions, channels, shortest, longest, dtype):
    """Sines and cosines [B, T, channels] of positions [B, T]."""
    number = channels // 2
    decay = math.log(longest / shortest) / max(number - 1, 1)
    turns = [shortest * math.exp(-i * decay) / math.tau for i in range(number)]
    wide = keras.backend.standardize_dtype(dtype) == "float64"
    found = angles(positions, turns, "float64" if wide else "float32", absolute=True)
    blocks = [ops.sin(found), ops.cos(found)]
    if channels % 2:
        blocks.append(ops.zeros_like(ops.cast(positions, found.dtype))[..., None])
    return ops.cast(ops.concatenate(blocks, axis=-1), dtype)


def _concat(values, added):
    """Values [B, T, ..., C] with what is added [B or 1, T, A] after their last axis."""
    for _ in range(len(values.shape) - 3):
        added = ops.expand_dims(added, 2)
    added = ops.broadcast_to(added, (*ops.shape(values)[:-1], added.shape[-1]))
    return ops.concatenate([values, added], axis=-1)


def _with_more_channels(layer, spec):
    if not spec.shape:
        raise ValueError(f"{layer._named} takes values [B, T, ..., C]; received values without channels")
    return SequenceSpec((*spec.shape[:-1], spec.shape[-1] + layer.channels), spec.dtype)


def _check_timescales(shortest, longest):
    if not (shortest > 0 and longest > 0):
        raise ValueError(f"timescales must be positive; received {shortest} and {longest}")
