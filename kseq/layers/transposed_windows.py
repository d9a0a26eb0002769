"""What transposed convolution and overlap-add share: every input step adds to a window of outputs."""

from typing import Any

from keras import ops

from ..sequence import Sequence, SequenceSpec
from ..window import Window
from .windows import OfWindow


class TransposedWindowedLayer(OfWindow):
    """A layer whose input steps each add to a window of outputs; its step keeps the sums that are not complete yet.

    A subclass sets `window`, a transposed `kseq.window.Window` over time, and computes `call_taps`: what every input
    step adds to each of its outputs. An invalid step, being zero, must add nothing: what does not depend on the input
    (a bias) or is not linear (an activation) is for `finish`.
    """

    transposed = True

    def call_taps(self, x: Sequence) -> Any:
        """What the steps of `x` [B, T, ...] add to their outputs, one every `dilation`: [B, T, size, ...]."""
        raise NotImplementedError

    def finish(self, values: Any, mask: Any) -> Sequence:
        """The output of complete sums [B, U, ...] and their mask."""
        return Sequence(values, mask)

    def complete(self, sums: Any, length: Any) -> Any:
        """Of all sums those that are outputs of layer mode, of an input of `length`."""
        return complete_sums(sums, self.window, length)

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        time = ops.shape(x.values)[1]
        sums = overlap_add(self.call_taps(x), self.window)
        mask = None if x.mask is None else self.output_mask(x.mask)
        return self.finish(self.complete(sums, time), mask)

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: dict[str, Any] | None = None) -> Any:
        if not self.window.tail:
            return ()
        spec = self.output_spec(input_spec)
        return {"sums": ops.zeros((batch_size, self.window.tail, *spec.shape), dtype=spec.dtype)}

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        sums, outputs = overlap_add(self.call_taps(x), self.window), x.values.shape[1] * self.window.stride
        if self.window.tail:
            channels = [(0, 0)] * (len(sums.shape) - 2)
            sums = sums + ops.pad(state["sums"], [(0, 0), (0, outputs), *channels])
            state = {"sums": sums[:, outputs:]}
        return self.finish(sums[:, :outputs], None if x.mask is None else self.output_mask(x.mask)), state


def overlap_add(taps: Any, window: Window) -> Any:
    """Sums [B, T * stride + tail, ...] of what every step adds, [B, T, size, ...]."""
    batch, time, size, *channels = ops.shape(taps)
    taps = ops.reshape(taps, (batch, time, size, -1))
    if window.dilation > 1:  # a tap every `dilation` outputs, zeros in between
        taps = ops.pad(taps[:, :, :, None], [(0, 0), (0, 0), (0, 0), (0, window.dilation - 1), (0, 0)])
        taps = ops.reshape(taps, (batch, time, size * window.dilation, -1))[:, :, : window.span]
    strides = -(-window.span // window.stride)
    taps = ops.pad(taps, [(0, 0), (0, 0), (0, strides * window.stride - window.span), (0, 0)])
    taps = ops.reshape(taps, (batch, time, strides, window.stride, -1))
    shifted = [ops.pad(taps[:, :, i], [(0, 0), (i, strides - 1 - i), (0, 0), (0, 0)]) for i in range(strides)]
    sums = ops.reshape(sum(shifted[1:], shifted[0]), (batch, (time + strides - 1) * window.stride, *channels))
    return sums[:, : time * window.stride + window.tail]


def complete_sums(sums: Any, window: Window, length: Any) -> Any:
    """Of all sums those that are outputs, of an input of `length`."""
    start = window.reach - window.pads[0]
    return sums[:, start : start + window.output_length(length)]
