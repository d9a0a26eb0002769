"""`StockWindow` and `StockTransposedWindow`: Keras's windows, whose outputs follow from the length, as they stream."""

import dataclasses
from fractions import Fraction
from typing import Any

from ...timing import LengthStage, Timing, merged_stages
from ...window import Window
from .refusal import Refusal


@dataclasses.dataclass(frozen=True)
class StockWindow(Window):
    """A window with a fixed number of steps of padding before the input, and any behind it.

    `padding` is a pair (before, how far the window looks ahead).

    Args:
        change: steps by which padding makes the input longer than what the windows need, or shorter.
    """

    change: int = 0

    @property
    def latency(self) -> tuple[int, int]:
        _, ahead = self.pads
        return max(ahead + self.change, 0), ahead // self.stride

    def pads_of(self, length: Any) -> tuple[Any, Any]:
        before, ahead = self.pads
        return before, ahead + self.change

    @property
    def length_stages(self) -> tuple[LengthStage, ...]:
        return merged_stages([(Fraction(1), self.change), (Fraction(1, self.stride), 0)])


def stock_window(size: Any, stride: Any, dilation: Any, padding: Any, time: Any, zeros: Any) -> StockWindow:
    """The window of a layer of Keras's over time.

    Args:
        size, stride, dilation: of the window.
        padding: Keras's.
        time: steps of the input, or `None` where they are not known.
        zeros: steps of zeros that are put before and after the input of a layer that pads nothing itself.

    Raises:
        Refusal: padding whose place depends on a length that is not known.
    """
    reach = (size - 1) * dilation
    if padding == "causal":
        before, change = reach, 0
    elif padding == "valid":
        before, change = zeros[0], sum(zeros) - reach
    else:
        before, change = _before_of_same(reach, stride, time), 0
    return StockWindow(size, stride, dilation, (before, reach - before), change=change)


def _before_of_same(reach, stride, time) -> int:
    lengths = range(1, stride + 1) if time is None else (time,)
    found = sorted({max(reach - (length - 1) % stride, 0) // 2 for length in lengths})
    if len(found) > 1:
        raise Refusal(
            f'with padding="same" and strides={stride} its first window begins {found[0]} to {found[-1]} steps before '
            "the sequence, as its length is",
            'padding="causal" or "valid", another kernel, or a keras.Input of a known number of steps',
        )
    return found[0]


@dataclasses.dataclass(frozen=True)
class StockTransposedWindow(Window):
    """A transposed window of which the first sums are no outputs.

    Args:
        start: sums before the first output.
        change: outputs besides `stride` for every input.
    """

    start: int = 0
    change: int = 0

    @property
    def obstacle(self) -> str | None:
        return None

    @property
    def pads(self) -> tuple[int, int]:
        return self.reach - self.start, self.start

    @property
    def length_stages(self) -> tuple[LengthStage, ...]:
        return merged_stages([(Fraction(self.stride), self.change)])

    def timing_of(self, taps: Any) -> Timing:
        found = super().timing_of(taps)
        waits = -(-max(self.start + self.change, 0) // self.stride)
        return dataclasses.replace(found, input_latency=waits, output_latency=self.start)


def stock_transposed_window(
    size: Any, stride: Any, dilation: Any, padding: Any, more: int | None
) -> StockTransposedWindow:
    """The window of a transposed layer of Keras's over time.

    Args:
        size, stride, dilation, padding: of the layer.
        more: its `output_padding` over time.

    Raises:
        Refusal: fewer outputs than inputs have added to by then.
    """
    span = (size - 1) * dilation + 1
    if padding == "valid":
        start, change = 0, max(span, stride) - stride if more is None else span + more - stride
    else:
        pads = stride + span - 2 if more is None else span + span % 2 - 2 + more
        start = span - 1 - min(-(-pads // 2), span - 1)
        change = 0 if more is None else span % 2 + more - stride
    if start + change < 0:
        raise Refusal(f"with output_padding={more} outputs are taken away at the end", "output_padding=None")
    return StockTransposedWindow(size, stride, dilation, "causal", True, start, change)
