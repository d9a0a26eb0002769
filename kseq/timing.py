"""`Timing`: block, rate, length, latencies and receptive field of a layer, of layers in series and in parallel."""

import dataclasses
import itertools
import math
import numbers
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

Interval = tuple[float, float] | None
#: How one layer changes the length: `n` steps become `max(ceil(n * ratio) + change, 0)`.
LengthStage = tuple[Fraction, int]


@dataclasses.dataclass(frozen=True)
class Timing:
    """The timing of a sequence layer, in time steps.

    Output step `t` belongs to input step `t // ratio`. In step mode a call takes a multiple of `block_size` inputs and
    returns `ratio` outputs per input, of which the first `output_latency` of a stream are warm-up.

    Args:
        block_size: inputs that one step takes at least; every chunk is a multiple of it.
        ratio: outputs per input.
        input_latency: invalid inputs to push after the last valid one until every output has come out, of an input that
            is at least as long as what a layer drops of it (`input_steps` is exact for any length).
        output_latency: warm-up outputs before the first output of layer mode.
        receptive_field_per_step: for each phase of the output (output step modulo its length) the first and last input
            that the output depends on, relative to `t // ratio`; infinities are allowed, `None` is no input at all.
            It is a bound: no input outside matters, but one inside need not. In series and in parallel it is exact if
            each layer depends on every input of its own; taps with steps between them, values that cancel and a past
            that fades make it wider than what can be measured.
        length_stages: how many outputs layer mode gives: pairs (ratio, change), each of which makes of `n` steps
            `max(ceil(n * ratio) + change, 0)`, one after the other; by default `ceil(n * ratio)`.

    Raises:
        ValueError: a block, ratio or latency that cannot be, or stages of another ratio.

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
    length_stages: tuple[LengthStage, ...] = ()

    if TYPE_CHECKING:  # whole numbers are made fractions

        def __init__(
            self,
            block_size: int = 1,
            ratio: Fraction | int = 1,
            input_latency: int = 0,
            output_latency: int = 0,
            receptive_field_per_step: Iterable[Interval] = ((0, 0),),
            length_stages: Iterable[tuple[Fraction | int, int]] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", Fraction(self.ratio))
        stages = tuple((Fraction(ratio), int(change)) for ratio, change in self.length_stages or ((self.ratio, 0),))
        object.__setattr__(self, "length_stages", merged_stages(stages))
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
        ratios = [ratio for ratio, _ in stages]
        if math.prod(ratios) != self.ratio or min(ratios) <= 0:
            raise ValueError(
                f"the ratios of length_stages must be positive and have the product {self.ratio}, the ratio; "
                f"received {', '.join(map(str, ratios))}"
            )

    @property
    def receptive_field(self) -> Interval:
        """First and last input that any phase may depend on, relative to `t // ratio`, or `None`."""
        return _union(self.receptive_field_per_step)

    def output_length(self, length: Any) -> Any:
        """Outputs of layer mode for `length` inputs: a number, a symbolic dimension, or an array or tensor."""
        return length_after(self.length_stages, length)

    def input_steps(self, outputs: Any) -> Any:
        """Inputs of a stream, in whole blocks, after which its first `outputs` of layer mode have come out.

        Both are numbers or arrays of numbers.
        """
        outputs = (outputs + self.output_latency) * (outputs > 0)  # warm-up alone is not waited for
        block_outputs = int(self.block_size * self.ratio)
        return -(-outputs // block_outputs) * self.block_size


def length_after(stages: Iterable[LengthStage], length: Any) -> Any:
    """The length that stages make of `length`: a number, a symbolic dimension, or an array or tensor of numbers."""
    for ratio, change in stages:
        length = (length * ratio.numerator + (ratio.denominator - 1)) // ratio.denominator + change
        if change < 0:
            length = at_least_zero(length)
    return length


def at_least_zero(n: Any) -> Any:
    """`max(n, 0)` of a number, a symbolic dimension, or an array or tensor of any backend."""
    if isinstance(n, numbers.Integral):
        return max(n, 0)
    if hasattr(n, "__abs__"):
        return n // 2 + abs(n) // 2 + n % 2  # not (n + abs(n)) // 2, which may overflow
    return n.max(0)  # a symbolic dimension has no `abs`


def merged_stages(stages: Iterable[LengthStage]) -> tuple[LengthStage, ...]:
    """Stages of the same lengths, of which neighbours are one where one can say what both do."""
    found = []
    for stage in stages:
        while found and (both := _one_stage(found[-1], stage)):
            found.pop()
            stage = both
        found.append(stage)
    return tuple(found)


def _one_stage(first, second) -> LengthStage | None:
    (ratio, change), (next_ratio, next_change) = first, second
    # Rounded once as twice; the first change is whole outputs of the second; and what is cut off at zero stays there.
    rounds_once = ratio.denominator == 1 or next_ratio.numerator == 1
    if rounds_once and (change * next_ratio).denominator == 1 and (change >= 0 or next_change <= 0):
        return ratio * next_ratio, int(change * next_ratio) + next_change
    return None


def delay(length: int) -> Timing:
    """The timing of a step-mode delay that layer mode does not show."""
    return Timing(input_latency=length, output_latency=length)


def serial(timings: list[Timing]) -> Timing:
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
    stages = tuple(itertools.chain.from_iterable(timing.length_stages for timing in chain))
    return Timing(block, ratio, input_latency, output_latency, _compose_receptive_fields(chain), stages)


def serial_delays(timings: Iterable[Timing]) -> list[int]:
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


def parallel(timings: Iterable[Timing], names: Any = None) -> Timing:
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
        length_stages=timings[0].length_stages,
    )


def joint(timings: Iterable[Timing]) -> Timing:
    """The timing of several outputs of one stream: block and input latency suit all, the rest is the first output's."""
    timings = list(timings)
    return dataclasses.replace(
        timings[0],
        block_size=math.lcm(*(t.block_size for t in timings)),
        input_latency=max(t.input_latency for t in timings),
    )


def parallel_delays(timings: Iterable[Timing]) -> list[int]:
    """Steps to delay the output of each branch, so that all have the latency of the slowest."""
    timings = list(timings)
    slowest = max((t.output_latency for t in timings), default=0)
    return [slowest - t.output_latency for t in timings]


def _union(intervals) -> Interval:
    known = [i for i in intervals if i is not None]
    return (min(lo for lo, _ in known), max(hi for _, hi in known)) if known else None


def _compose_receptive_fields(chain) -> tuple[Interval, ...]:
    """Put the fields of one layer after another into those of all before it, so that no step in between is skipped."""
    fields, ratio = ((0, 0),), Fraction(1)
    for timing in chain:
        total = ratio * timing.ratio
        # The shortest period on which all repeat: it is whole in outputs of the layers before, covers this layer's
        # phases, and moves `t // total` by whole inputs.
        before = math.lcm(len(fields), ratio.numerator)
        period = math.lcm((before * timing.ratio).numerator, len(timing.receptive_field_per_step), total.numerator)
        steps = (_inputs_of(timing.receptive_field_per_step, timing.ratio, t) for t in range(period))
        fields = tuple(_through(fields, ratio, found, math.floor(t / total)) for t, found in enumerate(steps))
        ratio = total
    return fields


def _through(fields, ratio, steps: Interval, start) -> Interval:
    """What the outputs `steps` of layers of these fields and ratio depend on, relative to input `start`."""
    if steps is None:
        return None
    lo, hi = steps
    # Within one period from an end lies every phase, and what has the first and the last input.
    first = range(int(lo), int(lo) + len(fields)) if _finite(lo) else ()
    last = range(int(hi) - len(fields) + 1, int(hi) + 1) if _finite(hi) else ()
    near = [t for t in (*first, *last) if lo <= t <= hi] if first or last else range(len(fields))
    found = _union(_inputs_of(fields, ratio, t) for t in near)
    if found is None:
        return None
    return (found[0] - start if _finite(lo) else lo), (found[1] - start if _finite(hi) else hi)


def _inputs_of(fields, ratio, step) -> Interval:
    field, start = fields[step % len(fields)], step * ratio.denominator // ratio.numerator
    return None if field is None else (start + field[0], start + field[1])


def _finite(x) -> bool:
    return not math.isinf(x)
