"""What convolution, pooling and framing share: a window of taps that moves over time, and over axes of space."""

from typing import Any, ClassVar

from keras import ops

from .. import padding as rules
from ..arguments import as_sizes, each_axis
from ..sequence import Sequence, SequenceSpec
from ..timing import Timing
from ..window import Padding, Window
from .base import SequenceLayer, representable
from .parameters import Only
from .space import SpatialAxis, SpatialPadding, spatial_axes
from .structures import filled


class OfWindow(SequenceLayer):
    """A layer whose timing and mask are those of its `window`, which the constructor sets."""

    window: Window
    #: Those over the axes of space, [B, T, *space, C].
    space: tuple[SpatialAxis, ...] = ()
    #: Axes that windows move over: time, and those of space.
    window_rank = 1
    transposed = False
    strides: Any
    dilation_rate: Any
    padding: Padding
    spatial_padding: SpatialPadding | None
    fixed_arguments: ClassVar[dict[str, Only]] = {
        "data_format": Only(
            ("channels_last", None), "sequences are [batch, time, channels], which `keras.layers.Permute((2, 1))` makes"
        )
    }

    def set_window(self, size: str) -> None:
        """Check the arguments that make windows, of which the one named `size` is the number of taps, and set them."""
        for name in (size, "strides", "dilation_rate"):
            setattr(self, name, as_sizes(name, getattr(self, name), self.window_rank))
        sizes = [each_axis(getattr(self, name)) for name in (size, "strides", "dilation_rate")]
        (of_time, *of_space) = zip(*sizes, strict=True)
        taps, stride, dilation = of_time
        self.window = Window(taps, stride, dilation, self.padding, self.transposed)
        self.padding = self.window.padding
        if of_space:
            padding = self.spatial_padding
            if padding is None:  # as in Keras, where one padding is that of all axes
                padding = self.padding if self.padding in ("valid", "same") else "same"
            self.space = spatial_axes(of_space, padding, self.transposed)

    @property
    def counted_taps(self) -> Any:
        """Taps of the window that count, in ascending order: of a filter, those that are not zero."""
        return range(self.window.size)

    @property
    def timing(self) -> Timing:
        return self.window.timing_of(self.counted_taps)

    @property
    def step_obstacle(self) -> str | None:
        return self.window.obstacle

    @property
    def step_remedy(self) -> str | None:
        return self.window.remedy

    @property
    def creates_mask(self) -> bool:
        return self.window.creates_mask

    def output_mask(self, mask: Any) -> Any:
        return rules.output_mask(mask, self.window)


class WindowedLayer(OfWindow):
    """A layer whose output is a function of a window of inputs: padding, masks, latency and the step's buffer.

    A subclass sets `window`, a `kseq.window.Window` over time, and computes `call_windows` of an input that is already
    padded. What stands at invalid steps and at padding is `invalid_value`.

    Example:
        >>> import kseq
        >>> from keras import ops
        >>> class Range(kseq.WindowedLayer):
        ...     def __init__(self, size, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.keep(locals())
        ...         self.window = kseq.Window(size)
        ...     def call_windows(self, x):
        ...         taps = ops.stack(kseq.padding.taps(x.values, self.window))
        ...         return ops.max(taps, axis=0) - ops.min(taps, axis=0)
        >>> kseq.testing.check_layer(Range(3), (2, 6, 1))
    """

    window: Window

    #: Whether `call_windows` needs to know which taps are valid.
    needs_tap_mask = False

    def known_taps(self, x: Sequence) -> Sequence:
        """What layer mode pads and gives to `call_windows`: if it needs a mask, one in which padding is invalid."""
        return x.with_mask() if self.needs_tap_mask else Sequence(x.values)

    def call_windows(self, x: Sequence) -> Any:
        """Values of the outputs [B, U, ...] of all windows that fit into `x` [B, N, ...]."""
        raise NotImplementedError

    def compute_windows(self, x: Sequence, training: bool) -> Any:
        """`call_windows`, for a layer whose windows are others while it trains."""
        return self.call_windows(x)

    def finish(self, values: Any, mask: Any) -> Sequence:
        """The output of the values and their mask."""
        return Sequence(values, mask)

    def own_mask(self, mask: Any) -> Any:
        """For every output of a chunk whether its own input step is valid."""
        return mask[:, :: self.window.stride]

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        mask = x.with_mask().mask if self.creates_mask else x.mask
        taps = self.known_taps(x)
        time = ops.shape(x.values)[1]
        left, right = self.window.pads_of(time)
        padded = taps.pad_time(left, right, valid=taps.mask is None, value=self.padding_value(x.spec.dtype))
        values = rules.of_length(self.compute_windows(padded, training), self.output_length(time))
        return self.finish(values, None if mask is None else self.output_mask(mask))

    def padding_value(self, dtype: str) -> Any:
        """What stands at padding, of a dtype."""
        return representable(0 if self.invalid_value is None else self.invalid_value, dtype)

    # State: `values` that the next window still needs, `taps` which of them are valid, where it has to know, and the
    # `mask` of steps that the next outputs' masks need, with whether the row has `started` where the mode asks for it.

    @property
    def _buffer_length(self) -> int:
        return self.window.reach - self.window.pads[1] % self.window.stride

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        state, length, mode = {}, self._buffer_length, self.window.mode
        if length:
            dtype = self.cast_spec(input_spec).dtype
            shape = (batch_size, length, *input_spec.shape)
            state["values"] = filled(shape, self.padding_value(dtype), dtype)
        if self.needs_tap_mask and length:
            state["taps"] = ops.zeros((batch_size, length), dtype="bool")
        if mode.valid_by != "own":
            state["mask"] = filled((batch_size, length), mode.before_is_valid, "bool")
            if mode.before_is_valid:
                state["started"] = ops.zeros((batch_size, 1), dtype="bool")
        elif self.timing.output_latency:
            state["mask"] = ops.zeros((batch_size, self.timing.output_latency), dtype="bool")
        return state

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        new_state = {}
        windows = Sequence(_with_past("values", x.values, state, new_state))
        if self.needs_tap_mask:
            windows = Sequence(windows.values, _with_past("taps", x.with_mask().mask, state, new_state))
        return self.finish(self.compute_windows(windows, training), self._step_mask(x, state, new_state)), new_state

    def _step_mask(self, x, state, new_state):
        mode, stride = self.window.mode, self.window.stride
        if mode.valid_by == "own":
            if "mask" not in state:
                return None if x.mask is None else self.own_mask(x.mask)
            own = self.own_mask(x.with_mask().mask)
            return _with_past("mask", own, state, new_state)[:, : own.shape[1]]
        mask = taps = x.with_mask().mask
        if mode.before_is_valid:  # so are the steps before the first valid one
            started = ops.logical_or(rules.started(mask), state["started"])
            taps = ops.logical_or(mask, ops.logical_not(started))
            new_state["started"] = started[:, -1:]
        valid = rules.all_taps(_with_past("mask", taps, state, new_state), self.window)
        return ops.logical_and(valid, mask[:, ::stride]) if mode.before_is_valid else valid


def _with_past(name, x, state, new_state):
    """What is kept under a name, followed by `x`; as much is kept of the end of both."""
    if name not in state:
        return x
    joined = ops.concatenate([state[name], x], axis=1)
    new_state[name] = joined[:, x.shape[1] :]
    return joined
