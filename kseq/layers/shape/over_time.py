"""Layers that rearrange time, and so have layer mode alone."""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Unpack

import numpy as np
from keras import ops

from ...annotations import LayerOptions, Shape
from ...arguments import as_size, check_fields
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ...timing import Timing
from ..base import Example, SequenceLayer
from ..reordering import after_last_valid, first_valid, flipped, reversed_rows
from .channels import as_shape
from .pattern import Pattern, check_lengths, shape_of
from .selection import sizes_by_name

_EVERYWHERE = (-math.inf, math.inf)


class GlobalRearrangement(SequenceLayer):
    """A layer that takes numbers from steps to other steps. Time that is no multiple of what it needs is padded."""

    ceil_mode: bool = False

    @property
    def step_obstacle(self) -> str | None:
        return "it rearranges the whole sequence, time and channels"

    @property
    def step_remedy(self) -> str | None:
        return "`kseq.SqueezeTime` or `kseq.UnsqueezeTime` to fold time into channels and back"

    def fields(self) -> Iterable[tuple[float, float]]:
        """The receptive field of each phase."""
        raise NotImplementedError

    def ratio(self) -> Fraction:
        """Outputs per input.

        Raises:
            ValueError: it follows from channels that are not known yet.
        """
        raise NotImplementedError

    def rearrange(self, values: Any, channels: Shape) -> Any:
        """Values [B, T, *channels] rearranged; time is a multiple of the block."""
        raise NotImplementedError

    @property
    def timing(self) -> Timing:
        ratio = self.ratio()
        check_fields(ratio.numerator)
        return Timing(ratio.denominator, ratio, receptive_field_per_step=tuple(self.fields()))

    @property
    def creates_mask(self) -> bool:
        return self._timing.block_size > 1  # where the last block is not whole

    def output_mask(self, mask: Any) -> Any:
        channels = self.channel_shape
        if channels is None:
            raise ValueError(f"the mask rule of {self.name} follows from its channels: build it first")
        time = ops.shape(mask)[1]
        mask = self._in_blocks(mask, [], False)
        wide = ops.reshape(mask, (*ops.shape(mask), *[1] * len(channels)))
        found = self.rearrange(ops.broadcast_to(wide, (*ops.shape(mask), *channels)), channels)
        axes = tuple(range(2, len(found.shape)))
        if axes:
            found = (ops.any if self.ceil_mode else ops.all)(found, axis=axes)
        return self._of_time(found, time)

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        channels = tuple(x.values.shape[2:])
        if channels != self.channel_shape:
            raise ValueError(
                f"{self.name} ({type(self).__name__}) was built for channel shape {self.channel_shape}; received "
                f"{channels}"
            )
        mask = self.output_mask(x.with_mask().mask) if self.creates_mask or x.mask is not None else None
        values = self.rearrange(self._in_blocks(x.values, channels, 0), channels)
        return Sequence(self._of_time(values, ops.shape(x.values)[1]), mask)

    def _in_blocks(self, x, channels, value):
        """Steps put behind the last, so that its block is whole."""
        block = self._timing.block_size
        if block == 1:
            return x
        return ops.pad(x, [(0, 0), (0, -ops.shape(x)[1] % block), *[(0, 0)] * len(channels)], constant_values=value)

    def _of_time(self, y, time):
        return y if self._timing.block_size == 1 else y[:, : self._timing.output_length(time)]


@register
class GlobalReshape(GlobalRearrangement):
    """Time and channels in another shape.  [B, T, ...] -> [B, *output_shape].

    Layer mode alone. Where an output step has a part of an input step, or of several, the ratio is not one; what is
    missing in the last output step is padding. Mask: an output step is valid where all in it comes from valid steps.
    Timing: outputs per input are as the channels of both.

    Args:
        output_shape: time and channel axes of the output; the first size may be -1, which is any time.
        input_channels: how many channels the input has, all axes together; a layer of layers needs to know before it is
            built.

    Raises:
        ValueError: sizes that cannot be, channels other than `input_channels`, or a time that does not fit.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.GlobalReshape((-1, 6))(np.zeros((1, 8, 3), "float32")).shape
        (1, 4, 6)
    """

    output_shape: tuple[int, ...]
    input_channels: int | None

    def __init__(
        self, output_shape: tuple[int, ...], input_channels: int | None = None, **kwargs: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**kwargs)
        self.output_shape = as_shape("output_shape", output_shape)
        self.input_channels = input_channels if input_channels is None else as_size("input_channels", input_channels)
        if not self.output_shape or min((1, *self.output_shape[1:])) < 1 or self.output_shape[0] == 0:
            raise ValueError(
                "`output_shape` must be a time, which may be -1, and sizes of channel axes of at least 1; received "
                f"{self.output_shape}"
            )

    def build(self, input_shape: Shape) -> None:
        self._check(tuple(input_shape[2:]))

    def _check(self, channels):
        if self.input_channels not in (None, math.prod(channels)) or not math.prod(channels):
            wanted = self.input_channels or "at least one"
            raise ValueError(
                f"{self.name} (GlobalReshape) takes `input_channels` {wanted}; received values of channel shape "
                f"{channels}"
            )

    @property
    def _channels(self):
        if self.input_channels is not None:
            return self.input_channels
        if self.channel_shape is None:
            raise ValueError(
                f"the ratio of {self.name} (GlobalReshape) follows from the channels of its input: give "
                "`input_channels`, or build it first"
            )
        return math.prod(self.channel_shape)

    def ratio(self) -> Fraction:
        return Fraction(self._channels, math.prod(self.output_shape[1:]))

    def fields(self) -> Iterable[tuple[float, float]]:
        channels, wide = self._channels, math.prod(self.output_shape[1:])
        for phase in range(self.ratio().numerator):
            first, last = phase * wide, (phase + 1) * wide - 1
            yield 0, last // channels - first // channels

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        self._check(tuple(input_spec.shape))
        return SequenceSpec(self.output_shape[1:], self.cast_spec(input_spec).dtype)

    def rearrange(self, values: Any, channels: Shape) -> Any:
        batch, time = ops.shape(values)[:2]
        outputs = time * self.ratio().numerator // self.ratio().denominator
        return ops.reshape(values, (batch, outputs, *self.output_shape[1:]))

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        time, wanted = x.values.shape[1], self.output_shape[0]
        if isinstance(time, int) and wanted > 0 and time * self.ratio() != wanted:
            raise ValueError(
                f"{self.name} (GlobalReshape): {time} steps of {self._channels} channels do not fit `output_shape` "
                f"{self.output_shape}"
            )
        return super().call_layer(x, training=training)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"output_shape": (-1, size), "input_channels": 3}) for size in (4, 2)]


@register
class GlobalEinopsRearrange(GlobalRearrangement):
    """Time and channels rearranged by a pattern in the notation of einops.  [B, T, ...] -> [B, U, ...].

    Layer mode alone. The first axis of the pattern is time on both sides; one name in it has no length given, for time
    may be any. Where that name comes first on both sides, what is missing in the last output step is padding; where it
    does not, as in `"(k t) c -> t (k c)"`, time must be a multiple. Mask: an output step is valid where all in it comes
    from valid steps, or with `ceil_mode` where anything does; what comes from the others is zero. Timing: the ratio is
    that of the other names in both first axes.

    Args:
        pattern: time and channel axes before and after, without batch: `"(t k) c -> t (k c)"`.
        axes_lengths: sizes of names: all in the first axes but one. A layer of layers needs to know them before it is
            built; otherwise one that is no part of time may follow from the channels.
        ceil_mode: whether one valid step is enough for an output step.

    Raises:
        ValueError: a pattern that is none, time that does not stay in the first axis, or an input that does not fit.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.GlobalEinopsRearrange("(t k) c -> t (k c)", {"k": 2})(np.zeros((1, 8, 3), "float32")).shape
        (1, 4, 6)
    """

    pattern: str
    axes_lengths: dict[str, int]
    ceil_mode: bool

    def __init__(
        self,
        pattern: str,
        axes_lengths: dict[str, int] | None = None,
        ceil_mode: bool = False,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.pattern, self.axes_lengths, self.ceil_mode = pattern, sizes_by_name(axes_lengths), ceil_mode
        self._parsed = Pattern.of(pattern)
        check_lengths(self._parsed, self.axes_lengths)
        before, after = (side[0] if side else () for side in (self._parsed.left, self._parsed.right))
        free = [name for name in before if name not in self.axes_lengths]
        if len(free) != 1 or free[0] not in after or "..." in (*before, *after):
            raise ValueError(
                f"`pattern` must have one name without length in its first axis, which is time, and in that of the "
                f"right; received {pattern!r} with lengths of {sorted(self.axes_lengths)}"
            )
        self._time = free[0]

    def build(self, input_shape: Shape) -> None:
        self._sizes(tuple(input_shape[2:]))

    def _sizes(self, channels):
        """The pattern for these channels, and the sizes of its names, of which time has none."""
        pattern = self._parsed.of_rank(1 + len(channels))
        return pattern, pattern.sizes((None, *channels), self.axes_lengths)

    @property
    def _in_time(self):
        """The names in time before and after, and the sizes of all that are known."""
        before, after = self._parsed.left[0], self._parsed.right[0]
        sizes = dict(self.axes_lengths)
        if any(name not in sizes for name in (*before, *after) if name != self._time):
            if self.channel_shape is None:
                raise ValueError(
                    f"the ratio of {self.name} (GlobalEinopsRearrange) follows from the channels of its input: give "
                    f"the lengths of all of {', '.join(after)} but {self._time!r}, or build it first"
                )
            sizes = self._sizes(self.channel_shape)[1]
        return before, after, sizes | {self._time: 1}

    @property
    def _stays_first(self):
        return self._parsed.left[0][0] == self._parsed.right[0][0] == self._time

    def ratio(self) -> Fraction:
        before, after, sizes = self._in_time
        return Fraction(*shape_of((after, before), sizes))

    def fields(self) -> Iterable[tuple[float, float]]:
        if not self._stays_first:
            return [_EVERYWHERE]
        before, after, sizes = self._in_time
        # Of the inputs in a block of time the numbers, as they stand in the outputs: rows of the names that stay.
        inputs = np.arange(math.prod(sizes[name] for name in before)).reshape([sizes[name] for name in before])
        added = [name for name in after if name not in before]
        inputs = np.broadcast_to(inputs[(..., *[None] * len(added))], (*inputs.shape, *(sizes[n] for n in added)))
        names = [*before, *added]
        order = [names.index(name) for name in (*after, *(name for name in before if name not in after))]
        rows = inputs.transpose(order).reshape(math.prod(sizes[name] for name in after), -1)
        starts = [math.floor(i / self.ratio()) for i in range(len(rows))]
        return [(int(row.min()) - start, int(row.max()) - start) for row, start in zip(rows, starts, strict=True)]

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        pattern, sizes = self._sizes(tuple(input_spec.shape))
        return SequenceSpec(shape_of(pattern.right[1:], sizes), self.cast_spec(input_spec).dtype)

    def rearrange(self, values: Any, channels: Shape) -> Any:
        pattern, sizes = self._sizes(channels)
        batch, time = ops.shape(values)[:2]
        sizes[self._time] = time // shape_of(pattern.left[:1], sizes | {self._time: 1})[0]
        y = ops.reshape(values, (batch, *(sizes[name] for name in pattern.names)))
        y = ops.transpose(y, (0, *(1 + place for place in pattern.order)))
        return ops.reshape(y, (batch, *shape_of(pattern.right, sizes)))

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        time, block = x.values.shape[1], shape_of(self._in_time[:1], self._in_time[2])[0]
        if isinstance(time, int) and time % block and not self._stays_first:
            raise ValueError(
                f"{self.name} (GlobalEinopsRearrange): time must be a multiple of {block} for the pattern "
                f"{self.pattern!r}; received {time} steps"
            )
        return super().call_layer(x, training=training)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"pattern": "(t k) c -> t (k c)", "axes_lengths": {"k": 2}, "ceil_mode": True}),
            Example({"pattern": "t (k c) -> (t k) c", "axes_lengths": {"k": 2}}, (4, 12, 4)),
        ]


@register
class ReverseSequence(SequenceLayer):
    """Every sequence backwards.  [B, T, ...] -> [B, T, ...].

    Layer mode alone. From the first to the last valid step of a row the order is reversed; what is invalid before and
    after stays where it is, holes go along. Mask: reversed in the same way. Timing: none.

    Example:
        >>> import kseq, numpy as np
        >>> x = kseq.Sequence.from_lengths(np.array([[1.0, 2.0, 3.0, 0.0]], "float32"), [3])
        >>> np.asarray(kseq.ReverseSequence()(x).values).tolist()
        [[3.0, 2.0, 1.0, 0.0]]
    """

    invalid_value: float | None = None

    @property
    def step_obstacle(self) -> str | None:
        return "its first output is the last input"

    @property
    def step_remedy(self) -> str | None:
        return "`kseq.Lookahead`, or a window that sees some steps of the future"

    @property
    def timing(self) -> Timing:
        return Timing(receptive_field_per_step=(_EVERYWHERE,))

    def output_mask(self, mask: Any) -> Any:
        return reversed_rows(mask, first_valid(mask), after_last_valid(mask))

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        if x.mask is None:
            return x.apply(flipped)
        start, stop = first_valid(x.mask), after_last_valid(x.mask)
        return Sequence(*(reversed_rows(part, start, stop) for part in x))
