"""What a stream is run by: an iterable of chunks, a host's blocks of audio; and how late it is."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from ..timing import Interval, Timing
from .blocks import Blocks
from .ends import Ends
from .host_blocks import HostBlocks


class Runnable:
    """The part of a stream that runs it, and says how late it is."""

    timing: Timing
    push: Any
    flush: Any
    _ends: Ends
    _blocks: Blocks

    @property
    def timings(self) -> list[Timing]:
        """The `Timing` of every output."""
        return list(self._ends.layer.timings)

    @property
    def pushed(self) -> Any:
        """Steps that were pushed since the streams began: one number, or int64 [B] where rows are apart."""
        return self._blocks.pushed

    @property
    def is_batched(self) -> bool:
        """Whether the last chunk had a batch axis."""
        return self._ends.form.batched

    @property
    def receptive_field(self) -> Interval:
        """First and last input step that an output may depend on, relative to its own, or `None`: `Timing`'s.

        Of a model of several outputs that of all of them together.
        """
        found = [timing.receptive_field for timing in self.timings]
        known = [field for field in found if field is not None]
        return (min(first for first, _ in known), max(last for _, last in known)) if known else None

    def latency_seconds(self, rate: float) -> float:
        """How long after its input step an output comes out at most, in seconds: look-ahead, and waiting for a block.

        What the step itself takes to compute is not in it.

        Args:
            rate: input steps per second.

        Raises:
            ValueError: a rate that is not positive.
        """
        if not rate > 0:
            raise ValueError(f"`rate` must be positive; received {rate!r}")
        return max(map(_longest_wait, self.timings)) / rate

    def run(self, chunks: Iterable[Any] | AsyncIterable[Any]) -> "Run":
        """Push chunks one after the other: what each gives, and last what `flush` gives.

        Args:
            chunks: an iterable, for `for`, or an asynchronous one, for `async for`, which takes either. There the steps
                run in a thread beside the event loop, one after the other.

        Where the caller stops early, the stream stays where it is and is not flushed. What a chunk raises goes to the
        caller.

        Example:
            >>> import kseq, numpy as np
            >>> layer = kseq.Conv1D(2, 3, padding="reverse_causal")
            >>> layer.build((None, None, 3))
            >>> chunks = np.split(np.random.rand(10, 3).astype("float32"), [2, 3, 7])
            >>> [len(y) for y in kseq.Stream(layer).run(chunks)]
            [0, 1, 4, 3, 2]
        """
        return Run(self, chunks)

    def frames(self, host_block: int, *, host_rate: int | None = None, rate: int | None = None) -> HostBlocks:
        """What an audio callback calls: blocks of any size in, and at every call as many outputs as are due.

        The outputs are those of the stream, later by the smallest constant delay for this size of blocks. They keep
        time: of a model that changes the rate every call gives `host_block * ratio` outputs, or one more or less where
        that is no whole number.

        Args:
            host_block: input steps of every call.
            host_rate, rate: where the host's sampling rate is not the one that the model takes, both, as whole numbers:
                `kseq.Resample` goes between them, and the outputs have the rate of the host.

        Returns:
            `HostBlocks`: `blocks(x)` or `blocks.push(x)`, `blocks.flush()`, `blocks.delay`.

        Raises:
            ValueError: a size below 1, one rate alone, or a stream that is not at its beginning.

        Example:
            >>> import kseq, numpy as np
            >>> layer = kseq.Serial([kseq.Conv1D(1, 4, strides=4), kseq.UpSampling1D(4)])  # blocks of four steps
            >>> layer.build((None, None, 1))
            >>> callback = kseq.Stream(layer).frames(6)
            >>> callback.delay, callback(np.ones((6, 1), "float32")).shape
            (2, (6, 1))
        """
        if np.any(self.pushed):
            raise ValueError(f"the stream must be at its beginning; it was pushed {np.max(self.pushed)} steps")
        return HostBlocks(self, host_block, host_rate, rate)

    def steps_of(self, chunk: Any) -> int:
        """The time steps of a chunk.

        Raises:
            ValueError: what `push` refuses.
            TypeError: likewise.
        """
        before = self._ends.form
        try:
            return self._ends.take(chunk)[0].values.shape[1]
        finally:
            self._ends.form = before

    def resampled(self, shape: tuple[int, ...], ratio: Fraction) -> Any:
        """A stream of as many rows that changes the rate of values of a channel shape.

        Raises:
            ValueError: a stream that has no layers for it.
        """
        raise ValueError("a stream of an exported step goes at the rate of its model: resample what goes in and out")

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Channel shape of the first output."""
        return self._ends.no_output(0).shape[2:]


class Run:
    """What a stream gives for chunks, one after the other, and then for its end."""

    stream: Any
    chunks: Any

    def __init__(self, stream: Any, chunks: Iterable[Any] | AsyncIterable[Any]) -> None:
        if not isinstance(chunks, (Iterable, AsyncIterable)):
            raise TypeError(f"`chunks` must be an iterable or an asynchronous one; received {type(chunks).__name__}")
        self.stream, self.chunks = stream, chunks

    def __iter__(self) -> Iterator[Any]:
        if not isinstance(self.chunks, Iterable):
            raise TypeError("`chunks` is an asynchronous iterable: run it by `async for`")
        return self._each(self.chunks)

    def _each(self, chunks):
        for chunk in chunks:
            yield self.stream.push(chunk)
        yield self.stream.flush()

    async def __aiter__(self) -> AsyncIterator[Any]:
        chunks: Any = self.chunks
        if isinstance(chunks, AsyncIterable):
            async for chunk in chunks:
                yield await _in_thread(self.stream.push, chunk)
        else:
            for chunk in chunks:
                yield await _in_thread(self.stream.push, chunk)
        yield await _in_thread(self.stream.flush)


async def _in_thread(fn, *arguments):
    """What a function gives in another thread; who is cancelled waits for it, so that no two threads use a stream."""
    import asyncio  # on use: it takes longer to load than all of the runtime

    call = asyncio.ensure_future(asyncio.to_thread(fn, *arguments))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise


def _longest_wait(timing) -> int:
    """The most input steps after its own for which an output waits; they repeat with every block."""
    outputs = range(int(timing.block_size * timing.ratio))
    return max(timing.input_steps(u + 1) - 1 - u * timing.ratio.denominator // timing.ratio.numerator for u in outputs)
