"""`Resample`: from one sampling rate to another by a polyphase filter."""

import math
from typing import Any, Unpack

import numpy as np
from keras import ops
from numpy.typing import NDArray

from ... import padding as rules
from ...annotations import LayerOptions
from ...arguments import as_size, check_fields, check_table
from ...registry import register
from ...sequence import Sequence
from ...timing import Timing
from ...window import Window
from ..base import Example
from ..windows import WindowedLayer
from .sinc import kaiser_sinc


@register
class Resample(WindowedLayer):
    """Changes the sampling rate by `up / down` by a polyphase filter.  [B, T, ...] -> [B, ceil(T * up / down), ...].

    The outputs lie at `0, down / up, 2 * down / up, ...` input steps; beyond the ends the input counts as zero. They
    equal those of `scipy.signal.resample_poly` with the same window. Mask: an output is valid where the last input step
    at or before its place is; invalid inputs count as zero. Timing: blocks of `down` inputs (44.1 kHz to 16 kHz: 441,
    10 ms) that give `up` outputs, and the filter's half as latency.

    Args:
        up: outputs for every `down` inputs; both are divided by what they have in common.
        down: inputs for every `up` outputs.
        half_length: taps on each side of the middle one, by default `10 * max(up, down)` as in SciPy, in steps of
            `1 / up`: a shorter filter has less latency and a wider slope.
        kaiser_beta: of the Kaiser window over the sinc.

    Raises:
        ValueError: rates below 1 or a negative length.

    Example:
        >>> import kseq
        >>> layer = kseq.Resample(160, 441)  # 44.1 kHz to 16 kHz
        >>> layer.timing.block_size, layer.timing.ratio, layer.timing.input_latency
        (441, Fraction(160, 441), 465)
    """

    up: int
    down: int
    half_length: int | None
    window: Window

    def __init__(
        self,
        up: int,
        down: int,
        half_length: int | None = None,
        kaiser_beta: float = 5.0,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        up, down = as_size("up", up), as_size("down", down)
        common = math.gcd(up, down)
        self.up, self.down = up // common, down // common
        self.half_length = None if half_length is None else as_size("half_length", half_length, 0)
        self.kaiser_beta = kaiser_beta
        check_fields(self.up)
        taps = self._taps()
        reach = len(taps) // 2
        # Of the block's outputs the first reads the furthest back and the last the furthest ahead.
        before = reach // self.up
        last = ((self.up - 1) * self.down + reach) // self.up
        after = max(last, self.down - 1)
        self.window = Window(before + after + 1, self.down, 1, (before, after))
        # Weight of every tap of a window for each of its outputs, [taps, up].
        check_table("weights of the taps", self.window.size, self.up)
        offsets = np.arange(self.up) * self.down - (np.arange(self.window.size) - before)[:, None] * self.up
        self._phases = np.where(np.abs(offsets) <= reach, taps[np.clip(offsets + reach, 0, 2 * reach)], 0)

    def _taps(self) -> NDArray[np.float64]:
        """The filter, in steps of `1 / up`; of an odd number of taps, without zeros at its ends."""
        rate = max(self.up, self.down)
        if rate == 1:
            return np.ones(1)
        taps = kaiser_sinc(
            2 * (10 * rate if self.half_length is None else self.half_length) + 1, 0.5 / rate, self.kaiser_beta
        )
        ends = np.flatnonzero(taps)[0]
        return taps[ends : len(taps) - ends] * self.up

    @property
    def timing(self) -> Timing:
        window = self.window.timing
        return Timing(
            block_size=self.down,
            ratio=window.ratio * self.up,
            input_latency=window.input_latency,
            output_latency=window.output_latency * self.up,
            receptive_field_per_step=tuple(map(self._field, range(self.up))),
        )

    def _field(self, phase):
        """First and last input that an output depends on, relative to the one at or before it."""
        read = np.flatnonzero(self._phases[:, phase])
        own = self.window.pads[0] + phase * self.down // self.up
        return int(read[0]) - own, int(read[-1]) - own

    def own_mask(self, mask: Any) -> Any:
        places = [phase * self.down // self.up for phase in range(self.up)]
        batch, time = ops.shape(mask)
        blocks = time // self.down
        folded = ops.reshape(mask[:, : blocks * self.down], (batch, blocks, self.down))
        return ops.reshape(ops.take(folded, places, axis=2), (batch, blocks * self.up))

    def output_mask(self, mask: Any) -> Any:
        time = ops.shape(mask)[1]
        padded = ops.pad(mask, ((0, 0), (0, self.down - 1)), constant_values=False)
        return self.own_mask(padded)[:, : self.timing.output_length(time)]

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        y, time = super().call_layer(x, training=training), x.values.shape[1]
        return Sequence(y.values[:, : self.output_length(time)], y.mask) if isinstance(time, int) else y

    def call_windows(self, x: Sequence) -> Any:
        frames = rules.frames(x.values, self.window)  # [B, U, taps, ...]
        phases = ops.convert_to_tensor(self._phases, dtype=x.values.dtype)
        y = ops.einsum("but...,tp->bup...", frames, phases)
        batch, windows, _, *channels = ops.shape(y)
        return ops.reshape(y, (batch, windows * self.up, *channels))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"up": 3, "down": 2, "half_length": 4}), Example({"up": 1, "down": 2, "half_length": 3})]
