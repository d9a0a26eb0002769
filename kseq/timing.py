"""`Timing`: the block size, rate, latency and receptive field of a layer, and of layers in series and in parallel."""

import dataclasses
import math
from fractions import Fraction

Interval = tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Timing:
    """The timing of a sequence layer, in time steps.

    Output step `t` belongs to input step `t // ratio`. In step mode a call takes a multiple of `block_size` inputs and
    returns `ratio` outputs per input, of which the first `output_latency` of a stream are warm-up.

    Args:
        block_size: inputs that one step takes at least; every chunk is a multiple of it.
        ratio: outputs per input.
        input_latency: invalid inputs to push after the last valid one until every output has come out.
        output_latency: warm-up outputs before the first output of layer mode.
        receptive_field_per_step: for each phase of the output (output step modulo its length) the first and last input
            that the output depends on, relative to `t // ratio`; infinities are allowed, `None` is no input at all.

    Raises:
        ValueError: a block, ratio or latency that cannot be.

    Example:
        >>> half = Timing(block_size=2, ratio=Fraction(1, 2))
        >>> serial([half, Timing(input_latency=1, output_latency=1)]).input_latency
        2
    """

    block_size: int = 1
    ratio: Fraction = Fraction(1)
    input_latency: int = 0
    output_latency: int = 0
    receptive_field_per_step: tuple[Interval, ...] = ((0, 0),)

    def __post_init__(self):
        object.__setattr__(self, "ratio", Fraction(self.ratio))
        object.__setattr__(self, "receptive_field_per_step", tuple(self.receptive_field_per_step))
        if self.block_size < 1 or self.ratio <= 0 or (self.block_size * self.ratio).denominator != 1:
            raise ValueError(
                "a block must be at least one step and give a whole number of outputs; "
                f"received block_size={self.block_size} and ratio={self.ratio}"
            )
        if self.input_latency < 0 or self.output_latency < 0:
            raise ValueError(
                "latencies must not be negative; "
                f"received input_latency={self.input_latency} and output_latency={self.output_latency}"
            )
        if not self.receptive_field_per_step:
            raise ValueError("receptive_field_per_step needs at least one phase; received none")

    @property
    def receptive_field(self) -> Interval:
        """First and last input that any phase depends on, relative to `t // ratio`, or `None`."""
        return _union(self.receptive_field_per_step)

    def output_length(self, length: int) -> int:
        """Outputs of layer mode for `length` inputs: `ceil(length * ratio)`."""
        return -(-length * self.ratio.numerator // self.ratio.denominator)


def delay(length: int) -> Timing:
    """The timing of a step-mode delay that layer mode does not show."""
    return Timing(input_latency=length, output_latency=length)


def serial(timings) -> Timing:
    """The timing of layers one after the other, with the delays that `serial_delays` asks for put in between."""
    chain = []
    for timing, wait in zip(timings, serial_delays(timings), strict=True):
        chain += [delay(wait), timing] if wait else [timing]
    block, ratio, output_latency = 1, Fraction(1), 0
    for timing in chain:
        block = int(math.lcm(int(block * ratio), timing.block_size) / ratio)
        ratio *= timing.ratio
        output_latency = int(output_latency * timing.ratio) + timing.output_latency
    input_latency = 0
    for timing in reversed(chain):
        input_latency = math.ceil(input_latency / timing.ratio) + timing.input_latency
    return Timing(block, ratio, input_latency, output_latency, _compose_receptive_fields(chain))


def serial_delays(timings) -> list[int]:
    """Steps to delay the input of each layer of a chain, so that its blocks start at the start of the stream.

    A layer that takes blocks of `n` steps must see the first output of layer mode at the start of a block: warm-up that
    is no multiple of `n` is made one.
    """
    delays, latency = [], 0
    for timing in timings:
        wait = -latency % timing.block_size
        delays.append(wait)
        latency = int((latency + wait) * timing.ratio) + timing.output_latency
    return delays


def parallel(timings, names=None) -> Timing:
    """The timing of layers side by side, with the delays that `parallel_delays` asks for after the fast branches.

    Raises:
        ValueError: branches of unequal ratio.
    """
    timings = list(timings)
    if not timings:
        return Timing()
    for i, timing in enumerate(timings):
        if timing.ratio != timings[0].ratio:
            first, other = (names[0], names[i]) if names else (0, i)
            raise ValueError(
                "branches must have equal ratios of outputs to inputs; "
                f"received {timings[0].ratio} for branch {first!r} and {timing.ratio} for branch {other!r}"
            )
    timings = [
        serial([t, delay(wait)]) if wait else t for t, wait in zip(timings, parallel_delays(timings), strict=True)
    ]
    period = math.lcm(*(len(t.receptive_field_per_step) for t in timings))
    return Timing(
        block_size=math.lcm(*(t.block_size for t in timings)),
        ratio=timings[0].ratio,
        input_latency=max(t.input_latency for t in timings),
        output_latency=timings[0].output_latency,
        receptive_field_per_step=tuple(
            _union(t.receptive_field_per_step[p % len(t.receptive_field_per_step)] for t in timings)
            for p in range(period)
        ),
    )


def joint(timings) -> Timing:
    """The timing of several outputs of one stream: block and input latency suit all, the rest is the first output's."""
    timings = list(timings)
    return dataclasses.replace(
        timings[0],
        block_size=math.lcm(*(t.block_size for t in timings)),
        input_latency=max(t.input_latency for t in timings),
    )


def parallel_delays(timings) -> list[int]:
    """Steps to delay the output of each branch, so that all have the latency of the slowest."""
    timings = list(timings)
    slowest = max((t.output_latency for t in timings), default=0)
    return [slowest - t.output_latency for t in timings]


def _union(intervals) -> Interval:
    known = [i for i in intervals if i is not None]
    return (min(lo for lo, _ in known), max(hi for _, hi in known)) if known else None


def _compose_receptive_fields(chain) -> tuple[Interval, ...]:
    """Walk each phase of the last output back through the chain; the period is the shortest on which all repeat."""
    period, ratio = 1, Fraction(1)
    for timing in chain:
        ratio *= timing.ratio
        # `period` counts outputs of the layers so far: in outputs of this layer it must be whole, cover its phases,
        # and move `t // ratio` by whole inputs.
        period = math.lcm((period * timing.ratio).numerator, len(timing.receptive_field_per_step), ratio.numerator)
    return tuple(_walk_back(chain, phase, ratio) for phase in range(period))


def _walk_back(chain, step, ratio) -> Interval:
    found = (step, step)
    for timing in reversed(chain):
        phases = timing.receptive_field_per_step
        lo, hi = found
        # Within one period of either end lie all the candidates for the first and the last input.
        first = range(lo, min(lo + len(phases), hi + 1)) if _finite(lo) else ()
        last = range(max(hi - len(phases) + 1, lo), hi + 1) if _finite(hi) else ()
        beyond = [(end, end) for end in found if not _finite(end)]
        found = _union([*(_inputs_of(timing, t) for t in (*first, *last)), *beyond])
        if found is None:
            return None
    start = math.floor(step / ratio)
    return found[0] - start, found[1] - start


def _inputs_of(timing, step) -> Interval:
    field = timing.receptive_field_per_step[step % len(timing.receptive_field_per_step)]
    start = math.floor(step / timing.ratio)
    return None if field is None else (start + field[0], start + field[1])


def _finite(x) -> bool:
    return not math.isinf(x)
