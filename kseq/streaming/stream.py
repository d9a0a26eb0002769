"""`Stream`: a model fed chunk by chunk."""

import numpy as np

from ..arguments import as_size
from ..obstacles import NotStreamable
from ..sequence import SequenceSpec
from .blocks import Blocks
from .compiled import compile_step
from .ends import Ends
from .graph import as_layer
from .step import StepFunction

_NO_MASK = (None,)


class Stream:
    """Feeds a stream through a model in chunks of any length; the outputs are those of the whole sequence.

    What does not fill a block is held until the next push. Warm-up outputs are dropped, so the first output that comes
    out belongs to the first input. The weights are those that the model has when the stream is made. The step is
    compiled at the first call of a chunk size and never again.

    Args:
        model: a kseq layer, or a `keras.Sequential` or functional model of streamable layers. It must be built.
        batch_size: streams that advance together.
        dtype: dtype of the input; by default that of a Keras model's input, else float32, or int32 if the first
            chunk is of integers.
        context: what the model reads as context, by name: sequences or arrays whose first axis is the batch. Of a
            Keras model, the inputs that reach it only as context of its layers.

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

    def __init__(self, model, batch_size: int = 1, *, dtype: str | None = None, context=None):
        self.batch_size = as_size("batch_size", batch_size)
        self.layer = as_layer(model)
        if not self.layer.supports_step:
            found = self.layer.obstacles()
            raise NotStreamable(f"{model.name} cannot stream: {'; '.join(map(str, found))}", found)
        self.timing, self._context = self.layer.timing, context
        self._ends = Ends(self.layer, model.name, self.batch_size, dtype)
        self._blocks = Blocks(self.batch_size, self.timing.block_size, [t.output_latency for t in self.layer.timings])
        self._step, self._block_shape = None, None
        if self._ends.dtypes_known:
            self._compile()
        self.reset()

    @property
    def spec(self) -> SequenceSpec:
        return self._ends.specs if len(self._ends.specs) > 1 else self._ends.specs[0]

    def _compile(self):
        specs = self._ends.layer_specs
        step = StepFunction(self.layer, self.batch_size, specs if len(specs) > 1 else specs[0], context=self._context)
        self._step = compile_step(step)
        self._state = self._step.initial_state()
        if len(specs) == 1 and self._ends.gives_one:
            self._block_dtype = self._ends.numpy_dtypes[0]
            self._block_shape = (self.batch_size, self.timing.block_size, *self._ends.specs[0].shape)

    def reset(self, active=None):
        """Start new streams: forget the state and what was held.

        Args:
            active: bool [B] or `None`: rows that start anew, by default all.
        """
        if active is None:
            self._state = None if self._step is None else self._step.initial_state()
            self._blocks.reset()
            self._ends.reset()
            return
        active = self._as_active(active)
        self._blocks.reset_rows(active)
        if self._step is not None:
            fresh, old = self._step.step.initial_state(), self._step.to_numpy(self._state)
            rows = [np.where(active.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(fresh, old, strict=True)]
            self._state = self._step.from_numpy(rows)

    @property
    def compilations(self) -> int:
        """How often the step has been compiled so far."""
        return 0 if self._step is None else self._step.compilations

    def push(self, chunk, active=None):
        """Feed a chunk and return the outputs that are ready.

        Args:
            chunk: values [T, ...] (where the batch size is 1) or [B, T, ...], of any length T, all valid; or a
                `Sequence` [B, T, ...]. Of a model of several inputs a list or dict of these, as Keras takes them, or by
                the names of the inputs; an input that is another's mask is left out, or given as an array.
            active: bool [B] or `None`: rows that the chunk is for, by default all. The others wait: they hold what they
                hold, and what the chunk has in their place counts for nothing.

        Returns:
            The outputs in the form of the chunk: [U, ...], [B, U, ...] or a `Sequence` of NumPy arrays. U may be 0.
            Of a model of several outputs, these in the structure in which the model gives them. Once rows were treated
            by themselves (by `active`, here or in `reset` or `flush`), each is a list with an array [U, ...] for every
            row, or a pair of values and mask where the chunk is a `Sequence`.

        Raises:
            ValueError: a wrong structure, rank, batch size, channel shape or mask shape, or unequal lengths.
            TypeError: a dtype that cannot be cast safely, or a mask that is not bool.
        """
        if (
            type(chunk) is np.ndarray
            and chunk.shape == self._block_shape
            and active is None
            and chunk.dtype == self._block_dtype
            and self._blocks.is_plain
            and not self._ends.as_sequence
        ):
            return self._push_block(chunk)
        inputs = self._ends.take(chunk)
        active = None if active is None else self._as_active(active)
        if self._step is None:
            self._compile()
        return self._give(self._run(inputs, active))

    def _push_block(self, block):
        """What `push` comes to for one valid block when nothing is held and the warm-up is over."""
        [(y, _)], self._state = self._step((block,), _NO_MASK, None, self._state)
        self._blocks.pass_block(block.shape[1], y.shape[1])
        return y

    def flush(self, active=None):
        """End streams: return the outputs that are left, and start anew.

        Args:
            active: bool [B] or `None`: rows that end, by default all.
        """
        if self._step is None:
            self._ends.settle_dtypes()
            self._compile()
        rows = None if active is None else self._as_active(active)
        pushed = self._blocks.pushed if rows is None else np.broadcast_to(self._blocks.pushed, self.batch_size)
        limits = [timing.output_length(pushed) * (pushed > 0) for timing in self.layer.timings]
        inputs = self._ends.nothing(self._missing(pushed, limits, rows))
        y = self._give(self._run(inputs, rows), limits)
        self.reset(active)
        return y

    def _missing(self, pushed, limits, rows) -> int:
        """Steps to push until every output of the streams that end, of all or of some rows, has come out."""
        block = self.timing.block_size
        needed = [timing.input_steps(limit) for timing, limit in zip(self.layer.timings, limits, strict=True)]
        missing = -(-np.max(needed, axis=0) // block) * block - pushed
        return int(np.max(missing if rows is None else missing[rows], initial=0))

    def _run(self, inputs, active):
        """Step through all whole blocks of what was held and what is new: for every output what each call gave."""
        outputs = [[] for _ in range(self.layer.num_outputs)]
        for values, masks, rows in self._blocks.cut(inputs, active):
            made, self._state = self._step(values, masks, rows, self._state)
            for found, y in zip(outputs, made, strict=True):
                found.append((*y, rows))
        return outputs

    def _give(self, outputs, limits=None):
        """What belongs to the streams of what the calls gave, in the form of the chunk."""
        limits = limits or [None] * len(outputs)
        found = []
        for number, (calls, limit) in enumerate(zip(outputs, limits, strict=True)):
            calls = calls or [(self._ends.no_output(number), None, np.zeros(self.batch_size, bool))]
            found.append(self._blocks.trim(number, calls, limit))
        return self._ends.give(found)

    def _as_active(self, active):
        active = np.asarray(active)
        if active.shape != (self.batch_size,) or active.dtype != bool:
            raise ValueError(
                f"`active` must be bool [{self.batch_size}]; received {active.dtype} of shape {active.shape}"
            )
        return active
