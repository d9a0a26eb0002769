"""What convolution and pooling share: a window of taps that moves over the sequence."""

from keras import ops

from ... import padding as rules
from ...sequence import Sequence
from ...timing import Timing
from ..base import SequenceLayer


class WindowedLayer(SequenceLayer):
    """A layer whose output is a function of a window of inputs: padding, masks, latency and the step's buffer.

    A subclass sets `strides`, `dilation_rate` and `padding`, gives the number of taps as `window_size`, and computes
    `call_windows` over an input that is already padded.
    """

    #: Whether `call_windows` needs to know which taps are valid.
    needs_tap_mask = False

    @property
    def window_size(self) -> int:
        raise NotImplementedError

    def pad_value(self, dtype):
        """What stands at invalid steps and at padding."""
        return 0

    def call_windows(self, x: Sequence):
        """Values of the outputs [B, U, ...] of all windows that fit into `x` [B, N, ...]."""
        raise NotImplementedError

    @property
    def _window(self):
        return self.window_size, self.strides, self.dilation_rate

    @property
    def timing(self) -> Timing:
        left, _ = rules.pad_amounts(self.padding, *self._window)
        reach = rules.effective_size(self.window_size, self.dilation_rate) - 1
        input_latency, output_latency = rules.latency(self.padding, *self._window)
        return Timing(
            block_size=self.strides,
            ratio=f"1/{self.strides}",
            input_latency=input_latency,
            output_latency=output_latency,
            receptive_field_per_step=((-left, reach - left),),
        )

    @property
    def step_obstacle(self):
        if rules.streams(self.padding):
            return None
        return (
            f"padding {self.padding!r} needs steps that a stream has not seen or never has; use 'causal', "
            "'causal_valid', 'semicausal', 'reverse_causal', 'reverse_causal_valid' or an explicit pair"
        )

    @property
    def creates_mask(self):
        return self.window_size > 1 and self.padding in ("reverse_causal_valid", "semicausal_full")

    def output_length(self, length: int) -> int:
        return rules.output_length(length, self.padding, *self._window)

    def output_mask(self, mask):
        return rules.output_mask(mask, self.padding, *self._window)

    def call_layer(self, x: Sequence, *, training=False, constants=None) -> Sequence:
        mask = x.with_mask().mask if self.creates_mask else x.mask
        left, right = rules.pad_amounts(self.padding, *self._window)
        filled = self._fill(x)
        filled = filled.with_mask() if self.needs_tap_mask else Sequence(filled.values)
        padded = filled.pad_time(left, right, valid=filled.mask is None, value=self.pad_value(x.spec.dtype))
        return self._finish(self.call_windows(padded), None if mask is None else self.output_mask(mask))

    # The buffer holds the inputs that the next window still needs, and the masks that the next output's mask needs.

    @property
    def _buffer_length(self) -> int:
        reach = rules.effective_size(self.window_size, self.dilation_rate) - 1
        _, right = rules.pad_amounts(self.padding, *self._window)
        return reach - right % self.strides

    def initial_state(self, batch_size, input_spec, constants=None):
        state, length = {}, self._buffer_length
        if length:
            dtype = self.compute_dtype if self._casts(input_spec.dtype) else input_spec.dtype
            shape = (batch_size, length, *input_spec.shape)
            state["values"] = ops.full(shape, self.pad_value(dtype), dtype=dtype)
        if self.needs_tap_mask and length:
            state["tap_mask"] = ops.zeros((batch_size, length), dtype="bool")
        if rules.has_windowed_mask(self.padding):
            causal = self.padding == "causal_valid"
            state["mask"] = ops.full((batch_size, length), causal, dtype="bool")
            if causal:
                state["started"] = ops.zeros((batch_size, 1), dtype="bool")
        elif self.timing.output_latency:
            state["mask"] = ops.zeros((batch_size, self.timing.output_latency), dtype="bool")
        return state

    def call_step(self, x: Sequence, state, *, training=False, constants=None):
        time, new_state = x.values.shape[1], {}
        given, mask = self._fill(x), None
        windows = Sequence(given.values)
        if "values" in state:
            windows = Sequence(ops.concatenate([state["values"], given.values], axis=1))
            new_state["values"] = windows.values[:, time:]
        if self.needs_tap_mask:
            taps = given.with_mask().mask
            if "tap_mask" in state:
                taps = ops.concatenate([state["tap_mask"], taps], axis=1)
                new_state["tap_mask"] = taps[:, time:]
            windows = Sequence(windows.values, taps)
        if rules.has_windowed_mask(self.padding):
            mask, more = self._step_windowed_mask(x.with_mask().mask, state)
            new_state |= more
        elif "mask" in state:
            history = ops.concatenate([state["mask"], x.with_mask().mask[:, :: self.strides]], axis=1)
            outputs = time // self.strides
            mask, new_state["mask"] = history[:, :outputs], history[:, outputs:]
        elif x.mask is not None:
            mask = x.mask[:, :: self.strides]
        return self._finish(self.call_windows(windows), mask), new_state

    def _step_windowed_mask(self, mask, state):
        time, more = mask.shape[1], {}
        taps = mask
        if self.padding == "causal_valid":  # steps before the first valid one count as padding
            started = ops.logical_or(rules.started(mask), state["started"])
            taps = ops.logical_or(mask, ops.logical_not(started))
            more["started"] = started[:, -1:] if time else state["started"]
        history = ops.concatenate([state["mask"], taps], axis=1)
        more["mask"] = history[:, time:]
        valid = rules.valid_windows(history, *self._window)
        if self.padding == "causal_valid":
            valid = ops.logical_and(valid, mask[:, :: self.strides])
        return valid, more

    def _fill(self, x: Sequence) -> Sequence:
        return x.mask_invalid(self.pad_value(x.spec.dtype))

    def _finish(self, values, mask) -> Sequence:
        return Sequence(values, mask)
