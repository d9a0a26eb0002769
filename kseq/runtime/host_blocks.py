"""`HostBlocks`: a stream behind an audio callback, which gives as many outputs as it takes inputs at every call."""

import contextlib
import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from ..arguments import as_size
from ..sequence import Sequence, SequenceSpec


class Stage(NamedTuple):
    """How many outputs a stream has given after so many inputs: whole blocks, but for the warm-up."""

    block_size: int
    ratio: Fraction
    latency: int

    def given(self, pushed: Any) -> Any:
        """Outputs after `pushed` inputs, numbers or an array of them."""
        made = pushed // self.block_size * self.block_size * self.ratio.numerator // self.ratio.denominator
        return np.maximum(made - self.latency, 0)


class HostBlocks:
    """Blocks of a host's size through streams: every call gives what its time is due, later by a constant delay.

    The delay is the smallest that never runs dry: it starts as silence, zeros (invalid ones in a `Sequence`). Of `n`
    inputs so far `floor(n * ratio)` outputs have come out. After the last block, `flush` gives what is left, and all
    begins anew.

    Made by `Stream.frames`, which has an example.

    Attributes:
        host_block: inputs of every call.
        delay: outputs of silence before the first that belongs to the first input; of a model of several outputs a
            list, one for each.
        delay_seconds: the same in seconds, at the host's rate where it is known, or `None`.
    """

    host_block: int

    def __init__(self, stream: Any, host_block: Any, host_rate: Any, rate: Any) -> None:
        self.host_block = as_size("host_block", host_block)
        self._chain = _chain(stream, host_rate, rate)
        self._host_rate = host_rate
        last, before = self._chain[-1], [_stages(s)[0] for s in self._chain[:-1]]
        self._stages = [(*before, stage) for stage in _stages(last)]
        self._ratios = [math.prod(stage.ratio for stage in stages) for stages in self._stages]
        self._delays = [_delay(stages, self.host_block) for stages in self._stages]
        self._reset()

    def _reset(self):
        self._calls, self._waiting, self._is_bare = 0, [None] * len(self._stages), False

    @property
    def delay(self) -> Any:
        return self._delays[0] if len(self._delays) == 1 else list(self._delays)

    @property
    def delay_seconds(self) -> float | None:
        if self._host_rate is None:
            return None
        return float(max(delay / (self._host_rate * r) for delay, r in zip(self._delays, self._ratios, strict=True)))

    def push(self, block: Any) -> Any:
        """The outputs that are due after a block.

        Args:
            block: `host_block` steps, in any form that `Stream.push` takes.

        Returns:
            The outputs in the form of the block.

        Raises:
            ValueError: another number of steps, a stream that was used beside these, or what `Stream.push` refuses.
        """
        first = self._chain[0]
        if np.any(first.pushed != self._calls * self.host_block):
            raise ValueError("the stream was used beside its host blocks: reset it, and make new ones")
        steps = first.steps_of(block)
        if steps != self.host_block:
            raise ValueError(f"a block must have {self.host_block} steps; received {steps}")
        found = self._through(block)
        self._calls, self._is_bare = self._calls + 1, not self._chain[-1].is_batched
        due = [math.floor(self._calls * self.host_block * ratio) for ratio in self._ratios]
        before = [math.floor((self._calls - 1) * self.host_block * ratio) for ratio in self._ratios]
        return self._take(found, [now - then for now, then in zip(due, before, strict=True)])

    __call__ = push

    def flush(self) -> Any:
        """All outputs that are left, and begin anew."""
        found = self._through(None)
        y = self._take(found, [None] * len(self._stages))
        self._reset()
        return y

    def reset(self) -> None:
        """Begin anew."""
        for stream in self._chain:
            stream.reset()
        self._reset()

    def _through(self, block):
        """What the last stream gives for a block, or for the end of all."""
        with contextlib.ExitStack() as stack:
            # The last may refuse what the others have let through, as where it is full.
            for stream in self._chain if len(self._chain) > 1 else ():
                stack.enter_context(stream.all_or_nothing())
            if block is not None:
                for stream in self._chain:
                    block = stream.push(block)
                return [block]
            found = []
            for stream in self._chain:
                found = [stream.push(y) for y in found] + [stream.flush()]
            return found

    def _take(self, found, counts):
        """So many of the outputs that wait and those that were found, or all, in the structure of the latter."""
        columns = list(zip(*map(_leaves, found), strict=True))
        given, waiting = [], []
        for new, old, delay, count in zip(columns, self._waiting, self._delays, counts, strict=True):
            new = [_each(lambda x: x[None], y) for y in new] if self._is_bare else new
            joined = _joined([_silence(new[0], delay) if old is None else old, *new])
            y = _each(lambda x, count=count: x[:, :count], joined)
            given.append(_each(lambda x: x[0], y) if self._is_bare else y)
            waiting.append(_each(lambda x, count=count: x[:, x.shape[1] if count is None else count :], joined))
        self._waiting = waiting
        return _filled(found[0], iter(given))


def _chain(stream, host_rate, rate):
    """The streams from the host's rate to the model's, and back, where they differ."""
    if host_rate is None and rate is None:
        return [stream]
    if host_rate is None or rate is None:
        raise ValueError(f"`host_rate` and `rate` go together; received {host_rate!r} and {rate!r}")
    host_rate, rate = Fraction(as_size("host_rate", host_rate)), Fraction(as_size("rate", rate))
    timings = stream.timings
    if not isinstance(stream.spec, SequenceSpec) or len(timings) > 1:
        raise ValueError("only a model of one input and one output goes between two rates")
    there, back = rate / host_rate, host_rate / (rate * timings[0].ratio)
    shapes = stream.spec.shape, stream.output_shape
    changes = zip(shapes, (there, back), strict=True)
    before, after = ([] if ratio == 1 else [stream.resampled(shape, ratio)] for shape, ratio in changes)
    return [*before, stream, *after]


def _stages(stream):
    block = stream.timing.block_size
    return [Stage(block, timing.ratio, timing.output_latency) for timing in stream.timings]


def _delay(stages, host_block) -> int:
    """The most outputs that are due and not given, over all calls: these repeat, once the warm-up is over."""
    ratio = math.prod(stage.ratio for stage in stages)
    period, before = host_block, Fraction(1)
    for stage in stages:  # inputs after which every stage is where it was
        period = math.lcm(period, (stage.block_size / before).numerator)
        before *= stage.ratio
    period = math.lcm(period, ratio.denominator)
    warm_up, total = 0, Fraction(1)
    for stage in stages:
        total *= stage.ratio
        warm_up += math.ceil((stage.latency + stage.block_size * stage.ratio) / total)
    calls = np.arange(1, (warm_up + 2 * period) // host_block + 2, dtype=np.int64)
    pushed = calls * host_block
    due, given = pushed * ratio.numerator // ratio.denominator, pushed
    for stage in stages:
        given = stage.given(given)
    return int(np.max(due - given, initial=0))


# Outputs: arrays and sequences, in the structure of a model.


def _leaves(y):
    if isinstance(y, dict):
        return [leaf for part in y.values() for leaf in _leaves(part)]
    if isinstance(y, list):
        return [leaf for part in y for leaf in _leaves(part)]
    return [y]


def _filled(like, leaves):
    if isinstance(like, dict):
        return {key: _filled(part, leaves) for key, part in like.items()}
    return [_filled(part, leaves) for part in like] if isinstance(like, list) else next(leaves)


def _each(fn, *ys):
    """`fn` of arrays, or a `Sequence` of what it gives of values and of masks."""
    return Sequence(*map(fn, *ys)) if isinstance(ys[0], Sequence) else fn(*ys)


def _silence(like, steps):
    return _each(lambda x: np.zeros((x.shape[0], steps, *x.shape[2:]), x.dtype), like)


def _joined(ys):
    if any(isinstance(y, Sequence) for y in ys):  # from the first on all of a stream's are
        ys = [y if isinstance(y, Sequence) else Sequence(y, np.ones(y.shape[:2], bool)) for y in ys]
    return _each(lambda *xs: np.concatenate(xs, axis=1), *ys)
