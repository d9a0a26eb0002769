"""`Stream`: a model fed chunk by chunk."""

from typing import Any, overload

import keras
import numpy as np

from ..arguments import as_size
from ..layers.base import SequenceLayer
from ..layers.limits import check_overfull
from ..model_graph import in_words
from ..obstacles import NotStreamable
from ..sequence import Sequence
from ..timing import Timing
from .blocks import Blocks
from .compiled import compile_step, freeze
from .ends import Ends
from .graph import as_layer
from .model_layer import stream_options
from .resuming import Resumable
from .room import Room
from .row_arguments import as_active, as_row_pairs, as_row_steps
from .running import Runnable
from .state import put, take
from .step import StepFunction


class Stream(Resumable, Runnable):
    """Feeds a stream through a model in chunks of any length; the outputs are those of the whole sequence.

    What does not fill a block is held until the next push. Warm-up outputs are dropped, so the first output that comes
    out belongs to the first input. The weights are those that the model has when the stream is made, or at the last
    `refresh`. The step is compiled at the first call of a chunk size and never again, also for other streams of the
    model of this batch size and dtype, before and after training. On torch that is at the hundredth call, with the same
    numbers bit for bit, and not where a step looks at values; it takes as long as some hundred steps. Where a layer
    draws random numbers (`Dropout` called with `training=True`), every push draws new ones; a stream begins with the
    seeds that the model has, and leaves those alone.

    Args:
        model: a kseq layer, or a `keras.Sequential` or functional model of streamable layers. It must be built.
        batch_size: streams that advance together.
        dtype: dtype of the input; by default that of a Keras model's input, else what the first chunk says, anew after
            each `reset`: int32 if it is of integers, else float32, or float64 where that is the layer's.
        context: what the model reads as context, by name: sequences or arrays whose first axis is the batch. Of a
            Keras model, the inputs that reach it only as context of its layers.
        max_length, window: as in `kseq.streamable`, for a Keras model whose stock attention sees all of the past.

    Attributes:
        layer: the model as one kseq layer.
        timing: its `Timing`.
        spec: channel shape and dtype of the input, or a tuple of them; the dtype may be unknown (`None`) until the
            first push.

    Raises:
        NotStreamable: a model that cannot step, with a row for each layer that stands in the way.
        ValueError: a model that is not built, or a context that is not what the model reads.
        TypeError: neither a kseq layer nor a Keras model.

    Example:
        >>> import kseq, keras, numpy as np
        >>> model = keras.Sequential([keras.Input((None, 3)), kseq.Conv1D(2, 3, padding="reverse_causal"), kseq.GRU(2)])
        >>> stream = kseq.Stream(model)
        >>> x = np.random.rand(10, 3).astype("float32")
        >>> y = np.concatenate([stream.push(x[:1]), stream.push(x[1:7]), stream.push(x[7:]), stream.flush()])
        >>> bool(np.allclose(y, model.predict(x[None], verbose=0)[0], atol=1e-5))
        True
    """

    batch_size: int
    layer: SequenceLayer
    timing: Timing

    def __init__(
        self,
        model: keras.Model | SequenceLayer,
        batch_size: int = 1,
        *,
        dtype: str | None = None,
        context: Any = None,
        max_length: int = 1024,
        window: int | None = None,
    ) -> None:
        self.batch_size = as_size("batch_size", batch_size)
        self._options = stream_options(max_length, window)
        self.layer = as_layer(model, self._options)
        if not self.layer.supports_step:
            found = self.layer.obstacles()
            raise NotStreamable(f"{in_words(model)} cannot stream: {'; '.join(map(str, found))}", found)
        self.timing, self._context, self._dtype = self.layer.timing, context, dtype
        self._ends = Ends(self.layer, in_words(model), self.batch_size, dtype)
        self._blocks = Blocks(self.batch_size, self.timing.block_size, [t.output_latency for t in self.layer.timings])
        self._room = Room()
        self._weights = freeze(self.layer)
        self._steps, self._compiled = {}, 0
        self._step: Any = None  # there once dtypes are known
        self._block_shape: tuple[int, ...] | None = None
        if self._ends.dtypes_known:
            self._use_step()
        self._reset()

    @property
    def spec(self) -> Any:
        """Channel shape and dtype of the input, or a tuple of them."""
        return self._ends.specs[0] if len(self._ends.specs) == 1 else self._ends.specs

    def _use_step(self):
        """Step over inputs of the dtypes that are known by now."""
        specs = self._ends.layer_specs
        if specs not in self._steps:
            self._steps[specs] = self._made_step(self._weights)
        self._step = self._steps[specs]
        self._state = self._step.initial_state()
        self._room.forget()
        if len(self._ends.specs) == 1 and self._ends.gives_one:
            beside = self._ends.all_there(self.timing.block_size)
            self._beside_block, self._no_masks = tuple(x.values for x in beside), (None,) * len(specs)
            self._block_dtype = self._ends.numpy_dtypes[0]
            self._block_shape = (self.batch_size, self.timing.block_size, *specs[0].shape)

    def _own_weights(self, weights=None):
        given = (self._weights if weights is None else weights).values
        return keras.StatelessScope(list(zip(self.layer.variables, given, strict=True)))

    def _made_step(self, weights):
        """A compiled step over inputs of the dtypes that are known, with weights from `freeze`."""
        specs = self._ends.layer_specs
        with self._own_weights(weights):  # what is made of the context, once, is made with the same ones
            spec = specs[0] if len(specs) == 1 else specs
            step = StepFunction(self.layer, self.batch_size, spec, context=self._context)
        return compile_step(step, weights)

    def _position(self):
        """All that a push changes: values."""
        return self._ends.form, self._blocks.position, self._room.left, self._step, self._state

    def _go_back(self, position):
        """Be again where the stream was before what has raised."""
        self._ends.form, self._blocks.position, self._room.left, self._step, self._state = position

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
            fresh, old = self._step.step.initial_state(), self._step.to_numpy(self._state)
            rows = [np.where(active.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(fresh, old, strict=True)]
            self._state = self._step.from_numpy(rows, like=self._state)

    @property
    def compilations(self) -> int:
        """How often a call of this stream had to wait for the step to be compiled.

        Streams of one model, batch size and dtypes, at the same time or one after the other, share what is compiled: it
        counts for the first of them alone.
        """
        return self._compiled + sum(step.compilations for step in self._steps.values())

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
        before = self._position()
        try:
            return self._push(chunk, active, context)
        except BaseException:
            self._go_back(before)
            raise

    def _push(self, chunk, active, context):
        if active is None and context is None and self._is_block(chunk):
            return self._push_block(chunk)
        inputs = self._ends.take(chunk)
        active = None if active is None else as_active(active, self.batch_size)
        if self._step is None and self._ends.dtypes_known:
            self._use_step()
        if context is not None:
            self._replace_context(context, active)
        return self._give(self._run(inputs, active, "a chunk"))

    def _replace_context(self, context, active):
        if self._step is None:
            raise ValueError(
                "a context takes the place of another once the dtype of the stream is known: by `dtype`, or by a chunk "
                "that has steps; received one with a chunk of none"
            )
        run, state = self._step, self._step.fork(self._state)  # what is refused after this must find the old one
        with self._own_weights():
            leaves = run.step.replace_context(run.leaves(state), context, active)
        self._state = run.changed(state, leaves)
        self._room.forget()

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

    def _is_block(self, chunk) -> bool:
        """Whether a chunk is a block that goes right through, and its output right back."""
        return (
            type(chunk) is np.ndarray
            and chunk.shape == self._block_shape
            and self._step is not None
            and chunk.dtype == self._block_dtype
            and self._ends.form.batched
            and not self._ends.form.as_sequence
            and self._blocks.is_plain
        )

    def _push_block(self, block):
        """What `push` comes to for one valid block when nothing is held and the warm-up is over."""
        limited = self._step.step.is_limited
        doubtful = self._feed(block.shape[1], "a chunk", self._blocks.pushed) if limited else None
        [(y, _)], self._state = self._step((block, *self._beside_block), self._no_masks, None, self._state)
        if doubtful:
            self._check_overfull(doubtful, "a chunk")
        self._blocks.pass_block(block.shape[1], y.shape[1])
        return y

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
        limits = [timing.output_length(pushed) * (pushed > 0) for timing in self.layer.timings]
        inputs = self._ends.nothing(self._missing(pushed, limits, rows))
        y = self._give(self._run(inputs, rows, "a flush"), limits)
        self._reset(active)
        return y

    def _missing(self, pushed, limits, rows) -> int:
        """Steps to push until every output of the streams that end, of all or of some rows, has come out."""
        block = self.timing.block_size
        needed = [timing.input_steps(limit) for timing, limit in zip(self.layer.timings, limits, strict=True)]
        missing = -(-np.max(needed, axis=0) // block) * block - pushed
        return int(np.max(missing if rows is None else missing[rows], initial=0))

    def _run(self, inputs, active, what):
        """Step through all whole blocks of what was held and what is new: for every output what each call gave."""
        at, doubtful = self._blocks.pushed - self._blocks.held, None
        outputs, calls = [[] for _ in range(self.layer.num_outputs)], self._blocks.cut(inputs, active)
        if calls and self._step.step.is_limited:
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

    def _check_overfull(self, before, what):
        check_overfull(self._limits(), before, what)
        self._room.forget()

    def _give(self, outputs, limits=None):
        """What belongs to the streams of what the calls gave, in the form of the chunk."""
        limits = limits or [None] * len(outputs)
        found = []
        for number, (calls, limit) in enumerate(zip(outputs, limits, strict=True)):
            calls = calls or [(self._ends.no_output(number), None, np.zeros(self.batch_size, bool))]
            found.append(self._blocks.trim(number, calls, limit))
        return self._ends.give(found)

    def rollback(self, steps: Any, active: Any = None) -> None:
        """Be as if the last steps had not been pushed: what is pushed next gives what it would have given, bit for bit.

        The outputs of those steps count as not given. Random numbers go on. Every layer with a state must remember its
        last steps, as attention does that was given `max_rollback`.

        Args:
            steps: input steps, of all rows or, as integers [B], of each.
            active: bool [B] or `None`: rows that go back, by default all.

        Raises:
            TypeError: no integers.
            ValueError: a layer that cannot be rolled back; negative steps, more than were pushed or than a layer
                remembers; or a part of a block that has gone through: what is held can be taken back step by step.
        """
        before = self._position()
        try:
            self._rollback(as_row_steps(steps, active, self.batch_size))
        except BaseException:
            self._go_back(before)
            raise

    def _rollback(self, steps):
        through = self._blocks.take_back(steps, [timing.ratio for timing in self.layer.timings])
        if np.any(through):
            run = self._step
            self._state = run.changed(self._state, run.step.rollback(run.leaves(self._state), through))
            self._room.forget()

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
            leaves = self._step.leaves(self._state)
            self._state = self._step.changed(self._state, put(leaves, targets, take(leaves, sources)))
            self._room.forget()
        self._blocks.copy_rows(sources, targets)

    def _limits(self):
        """What the layers with a limit still take."""
        return self._step.step.limits(self._step.leaves(self._state))
