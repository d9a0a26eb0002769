"""`BaseStream`: a step fed chunk by chunk, whatever runs it."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, overload

import numpy as np

from ..sequence import Sequence
from ..timing import Timing
from .blocks import Blocks
from .ends import Ends
from .protocols import Described, RunnableStep, StepsLeft
from .row_arguments import as_active, as_row_pairs, of_rows
from .running import Runnable
from .saved import Saved, to_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class PlainChunk:
    """What a chunk must be to go right through, where one input goes in and one output comes out.

    Attributes:
        block: shape of a whole one, [B, block, ...].
        dtype: of its values.
        nothing: the output where there is none.
        beside, no_masks: what the step takes with a block: values of every other input, and of every input no mask.
    """

    block: tuple[int, ...]
    dtype: np.dtype[Any]
    nothing: np.ndarray
    beside: tuple[np.ndarray, ...]
    no_masks: tuple[None, ...]


class BaseStream(Runnable):
    """What streams share: chunks of any length in, outputs out, one state in between.

    A subclass has the step of the dtypes that chunks have said, and what the step's rows still take.

    Args:
        described: the form of what is run.
        name: of it, in words.
        batch_size: streams that advance together.
        dtype: of the input, or `None` where a model or the first chunk says it.
        room: what the rows still take.
    """

    batch_size: int
    timing: Timing
    _step: Any
    _state: Any
    _id: Any  # a `ModelId`

    def __init__(self, described: Described, name: str, batch_size: int, dtype: str | None, room: StepsLeft) -> None:
        self.batch_size, self.timing, self._dtype, self._room = batch_size, described.timing, dtype, room
        self._ends = Ends(described, name, batch_size, dtype)
        self._blocks = Blocks(batch_size, self.timing.block_size, [t.output_latency for t in described.timings])
        self._step = self._state = None  # there once dtypes are known
        self._plain: Any = None  # a `PlainChunk`

    @property
    def spec(self) -> Any:
        """Channel shape and dtype of the input, or a tuple of them."""
        return self._ends.specs[0] if len(self._ends.specs) == 1 else self._ends.specs

    def _step_now(self) -> RunnableStep:
        """The step over inputs of the dtypes that are known by now."""
        raise NotImplementedError

    def _use_step(self):
        """Begin with the step over inputs of the dtypes that are known by now."""
        self._step = self._step_now()
        self._state = self._step.initial_state()
        self._room.forget()
        if len(self._ends.specs) == 1 and self._ends.gives_one:
            ends, block = self._ends, self.timing.block_size
            shape, no_masks = (self.batch_size, block, *ends.specs[0].shape), (None,) * len(ends.layer_specs)
            self._plain = PlainChunk(shape, ends.numpy_dtypes[0], ends.no_output(0), self._beside(block), no_masks)

    def _beside(self, steps):
        """Values of the inputs beside the only one that chunks are of."""
        return tuple(x.values for x in self._ends.all_there(steps))

    def _position(self):
        """All that a push changes: values."""
        return self._ends.form, self._blocks.position, self._room.left, self._step, self._state, self._plain

    def _go_back(self, position):
        """Be again where the stream was before what has raised."""
        self._ends.form, self._blocks.position, self._room.left, self._step, self._state, self._plain = position

    @contextlib.contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """A context in which what raises leaves the stream as it was when it was entered, whatever was pushed since."""
        before = self._position()
        if self._step is not None:
            self._state = self._step.fork(self._state)
        try:
            yield
        except BaseException:
            self._go_back(before)
            raise

    def reset(self, active: Any = None) -> None:
        """Start new streams: forget the state, what was held, and what chunks have said of their form and dtype.

        Random numbers begin anew too, but where only some rows do.

        Args:
            active: bool [B] or `None`: rows that start anew, by default all.
        """
        before = self._position()
        try:
            self._reset(active)
        except BaseException:
            self._go_back(before)
            raise

    def _reset(self, active=None):
        self._room.forget()
        if active is None:
            self._ends.reset()
            self._blocks.reset()
            if not self._ends.dtypes_known:
                self._step = None
            self._state = None if self._step is None else self._step.initial_state()
            return
        active = as_active(active, self.batch_size)
        self._blocks.reset_rows(active)
        if self._step is not None:
            fresh, old = self._step.initial_leaves(), self._step.to_numpy(self._state)
            self._state = self._step.from_numpy(of_rows(active, fresh, old), like=self._state)

    @overload
    def push(self, chunk: Sequence, active: None = None, context: Any = None) -> Sequence: ...
    @overload
    def push(self, chunk: np.ndarray, active: None = None, context: Any = None) -> np.ndarray: ...
    @overload
    def push(self, chunk: Any, active: Any = None, context: Any = None) -> Any: ...
    def push(self, chunk: Any, active: Any = None, context: Any = None) -> Any:
        """Feed a chunk and return the outputs that are ready.

        Args:
            chunk: values [B, T, ...] of any length T, all valid, or a `Sequence` of values and a mask [B, T]. Where the
                batch size is 1 both may come without the batch axis, which the rank of the values says: values
                [T, ...], and a mask [T]. Of a model of several inputs a list or dict of these, as Keras takes them, or
                by the names of the inputs; an input that is another's mask is left out, or given as an array.
            active: bool [B] or `None`: rows that the chunk is for, by default all. The others wait: they hold what they
                hold, and what the chunk has in their place counts for nothing.
            context: what takes the place of the context from this push on (for what is held too), in the rows that the
                chunk is for: one or several of its names, with values for all rows. What layers have made of it is
                made anew; what they count and remember stays. A `Sequence` that is shorter than the first one is
                padded, a longer one is refused. `reset` and `flush` begin with the first context again.

        Returns:
            The outputs in the form of the chunk: [U, ...], [B, U, ...] or a `Sequence` of NumPy arrays. U may be 0.
            After a `Sequence` all are, until `reset` or `flush`. The arrays are the caller's: writable, and no state.
            Of a model of several outputs, these in the structure in which the model gives them. Once rows were treated
            by themselves (by `active`, here or in `reset` or `flush`), each is a list with an array [U, ...] for every
            row, or a pair of values and mask where the chunk is a `Sequence`.

        Raises:
            ValueError: a wrong structure, rank, batch size, channel shape or mask shape, or unequal lengths.
                Steps that a layer has no room for, with its name and what to raise. A context that is not the
                model's, or of other shapes than the first.
            TypeError: a dtype that cannot be cast safely, or a mask that is not bool.

        What is refused, here or in `reset` or `flush`, leaves the stream as it was before. Where a step is broken off
        while it runs, on jax its state is gone: a RuntimeError says so from then on, until `reset`.
        """
        if active is None and context is None and self._is_plain(chunk):
            return self._push_plain(chunk)
        before = self._position()
        try:
            return self._push(chunk, active, context)
        except BaseException:
            self._go_back(before)
            raise

    def _push(self, chunk, active, context):
        inputs = self._ends.take(chunk)
        active = None if active is None else as_active(active, self.batch_size)
        if self._step is None and self._ends.dtypes_known:
            self._use_step()
        if context is not None:
            self._replace_context(context, active)
        return self._give(self._run(inputs, active, "a chunk"))

    def _replace_context(self, context: Any, active: Any) -> None:
        """Let other context stand in the place of that from which the stream began."""
        raise NotImplementedError

    def peek(self, chunk: Any, active: Any = None, context: Any = None) -> Any:
        """What `push` would give; the stream stays as it is, bit for bit, its random numbers too.

        Args:
            chunk, active, context: as in `push`, which says what is refused.
        """
        before = self._position()
        try:
            if self._step is not None:
                self._state = self._step.fork(self._state)
            return self._push(chunk, active, context)
        finally:
            self._go_back(before)

    def _is_plain(self, chunk) -> bool:
        """Whether a chunk is of valid steps in the form of those before, which come to one call of the step at most."""
        form, plain = self._ends.form, self._plain
        if type(chunk) is not np.ndarray or form.as_sequence or self._step is None or plain is None:
            return False
        shape, block = chunk.shape if form.batched else (1, *chunk.shape), plain.block
        is_part = len(shape) == len(block) and shape[0] == block[0] and shape[2:] == block[2:]
        return is_part and chunk.dtype == plain.dtype and self._blocks.takes_at_once(shape[1])

    def _push_plain(self, chunk):
        """What `push` comes to for a chunk that is plain.

        Every call of Python in here costs a microsecond, since a step leaves nothing of it in the caches.
        """
        run, plain, blocks, batched = self._step, self._plain, self._blocks, self._ends.form.batched
        left, state, position = self._room.left, self._state, blocks.position
        try:
            values = chunk if batched else chunk[None]
            block, steps = values, values.shape[1]
            if blocks.held or steps < blocks.block_size:
                block, steps = blocks.fill(values, plain.beside), blocks.block_size
                if block is None:
                    return plain.nothing.copy() if batched else plain.nothing[0].copy()
            doubtful = self._feed(steps, "a chunk", blocks.pushed - blocks.held) if run.is_limited else None
            beside = plain.beside if steps == blocks.block_size else self._beside(steps)
            [(y, _)], self._state = run((block, *beside), plain.no_masks, None, self._state)
            if doubtful:
                self._check_overfull(doubtful, "a chunk")
            blocks.pass_block(values.shape[1], y.shape[1])
            return y if batched else y[0]
        except BaseException:
            self._room.left, self._state, blocks.position = left, state, position
            raise

    def flush(self, active: Any = None) -> Any:
        """End streams: return the outputs that are left, and start anew.

        Args:
            active: bool [B] or `None`: rows that end, by default all.
        """
        before = self._position()
        try:
            return self._flush(active)
        except BaseException:
            self._go_back(before)
            raise

    def _flush(self, active):
        rows = None if active is None else as_active(active, self.batch_size)
        pushed = self._blocks.pushed if rows is None else np.broadcast_to(self._blocks.pushed, self.batch_size)
        limits = [timing.output_length(pushed) * (pushed > 0) for timing in self.timings]
        inputs = self._ends.nothing(self._missing(pushed, limits, rows))
        y = self._give(self._run(inputs, rows, "a flush"), limits)
        self._reset(active)
        return y

    def _missing(self, pushed, limits, rows) -> int:
        """Steps to push until every output of the streams that end, of all or of some rows, has come out."""
        block, held = self._blocks.block_size, self._blocks.held
        needed = [timing.input_steps(limit) for timing, limit in zip(self.timings, limits, strict=True)]
        missing = -(-(np.max(needed, axis=0) - pushed + held) // block) * block - held
        return int(np.max(missing if rows is None else missing[rows], initial=0))

    def _run(self, inputs, active, what):
        """Step through all whole blocks of what was held and what is new: for every output what each call gave."""
        at, doubtful = self._blocks.pushed - self._blocks.held, None
        outputs, calls = [[] for _ in self._blocks.latencies], self._blocks.cut(inputs, active)
        if calls and self._step.is_limited:
            steps = sum(values[0].shape[1] * (1 if rows is None else rows) for values, _, rows in calls)
            doubtful = self._feed(steps, what, at)
        for call in calls[1:]:
            self._step.prepare(*call)  # what can fail does so before anything has moved, as in the first by itself
        for values, masks, rows in calls:
            made, self._state = self._step(values, masks, rows, self._state)
            for found, y in zip(outputs, made, strict=True):
                found.append((*y, rows))
        if doubtful:
            self._check_overfull(doubtful, what)
        return outputs

    def _feed(self, steps, what, at):
        """Count steps that are to be fed; gives the limits, where only afterwards it is known whether they are kept."""
        if not self._room.feed(steps, self._limits, what, at):
            return None
        self._state = self._step.fork(self._state)  # so that the one before is there if they are not
        return self._limits()

    def _limits(self):
        """What the parts with a limit still take."""
        return self._step.limits(self._state)

    def _check_overfull(self, before, what):
        self._room.check(self._limits(), before, what)
        self._room.forget()

    def _give(self, outputs, limits=None):
        """What belongs to the streams of what the calls gave, in the form of the chunk."""
        limits = limits or [None] * len(outputs)
        found = []
        for number, (calls, limit) in enumerate(zip(outputs, limits, strict=True)):
            calls = calls or [(self._ends.no_output(number), None, np.zeros(self.batch_size, bool))]
            found.append(self._blocks.trim(number, calls, limit))
        return self._ends.give(found)

    def copy_rows(self, sources: Any, targets: Any) -> None:
        """Let rows go on as copies of others: their states, what they hold, and how far they have come.

        Args:
            sources: integers [N], the rows that are copied.
            targets: integers [N], each once: what row `sources[i]` was before, row `targets[i]` becomes.

        Raises:
            TypeError: no integers.
            ValueError: rows that there are not, unequally many, or a target twice.
        """
        sources, targets = as_row_pairs(sources, targets, self.batch_size)
        if self._step is not None and len(targets):
            self._state = self._step.copied_rows(self._state, sources, targets)
            self._room.forget()
        self._blocks.copy_rows(sources, targets)

    def save(self) -> bytes:
        """The stream as bytes, which any machine, backend and engine can go on from: `Stream.load`.

        They hold the state, what is held and how far each row has come, the form and dtype of the chunks, random
        numbers, the context, `max_length` and `window`, and a hash of the model and of its weights, but not these.
        """
        leaves, seeds, generator = None, {}, None
        if self._step is not None:
            leaves, seeds, generator = self._step.saved(self._state)
        form, blocks = self._ends.form, self._blocks.position
        return to_bytes(Saved(*self._made_with, form, blocks, leaves, seeds, generator), self._id)

    @property
    def _made_with(self) -> tuple[int, str | None, Any, dict[str, Any]]:
        """Batch size, dtype, context (a `Sequence` in NumPy by name, or `None`) and options."""
        raise NotImplementedError

    def _go_on(self, saved):
        """Be where a stream was when it was saved."""
        self._ends.set_form(saved.form)
        if saved.leaves is not None:
            self._use_step()
            self._state = self._step.restored(saved.leaves, saved.seeds, saved.generator)
        self._blocks.position = saved.blocks
