"""`Stream`: a model fed chunk by chunk."""

import dataclasses
import os
from fractions import Fraction
from typing import Any

import keras
import numpy as np

from ..arguments import as_size
from ..layers.base import SequenceLayer
from ..layers.windowed import Resample
from ..model_graph import in_words
from ..obstacles import NotStreamable
from ..runtime.exported import ExportedStream
from ..runtime.row_arguments import as_row_steps
from .compiled import compile_step, freeze
from .context import in_numpy
from .engines import Source, check_engine, engine_step
from .graph import as_layer
from .model_layer import stream_options
from .resuming import Resumable
from .room import Room
from .step import StepFunction


class Stream(Resumable):
    """Feeds a stream through a model in chunks of any length; the outputs are those of the whole sequence.

    What does not fill a block is held until the next push. Warm-up outputs are dropped, so the first output that comes
    out belongs to the first input. The weights are those that the model has when the stream is made, or at the last
    `refresh`. The step is compiled at the first call of a chunk size and never again, also for other streams of the
    model of this batch size and dtype, before and after training. Where a layer draws random numbers (`Dropout` called
    with `training=True`), every push draws new ones; a stream begins with the seeds that the model has, and leaves
    those alone.

    On torch a step runs the layers' Python until its hundredth call of a chunk size. That call takes longer, by as much
    as some hundred others took (a tenth of a second to some seconds), in which it is traced; from then on its
    operations alone run, with the same numbers bit for bit, and not where a step looks at values. `peek` counts as a
    call: to have it done before what must not pause, peek a hundred times at a chunk of each size.

    Args:
        model: a kseq layer, or a `keras.Sequential` or functional model of streamable layers. It must be built.
        batch_size: streams that advance together.
        dtype: dtype of the input; by default that of a Keras model's input, else what the first chunk says, anew after
            each `reset`: int32 if it is of integers, else float32, or float64 where that is the layer's.
        context: what the model reads as context, by name: sequences or arrays whose first axis is the batch. Of a
            Keras model, the inputs that reach it only as context of its layers.
        max_length, window: as in `kseq.streamable`, for a Keras model whose stock attention sees all of the past.
        engine: what runs the step: `"xla"`, that is what the backend compiles it to; `"onnxruntime"` or `"litert"`
            (`pip install 'kseq[export]'`); or `"auto"`, the fastest of these for this model, batch size and machine,
            which is measured once, and remembered. For an engine the step is exported, which takes seconds, into the
            folder `KSEQ_CACHE`, by default `kseq` in the user's cache folder, and taken from there from then on. A
            chunk of 16 steps and more runs 16 at a time, for which it is exported once more, at the first of them,
            unless it is then found to be quicker block by block, as many recurrences are.
        precision: of the weights in an engine's file: `"float32"`, the default, `"float16"`, which makes it smaller, or
            `"int8"`, which makes products of many weights faster, too. The backend's own step has the model's.

    Attributes:
        engine: what runs the step, once that is known: of `"auto"` the engine that was found.
        precision: of its weights.
        engine_error: the largest difference of its outputs from the model's, as a part of the largest of them, over
            some steps of random inputs; once it is known. 0 of `"xla"`.
        candidates: of `"auto"` each engine, and the microseconds of its step here, or the reason why it is none.
        layer: the model as one kseq layer.
        timing: its `Timing`.
        spec: channel shape and dtype of the input, or a tuple of them; the dtype may be unknown (`None`) until the
            first push.

    Raises:
        NotStreamable: a model that cannot step, with a row for each layer that stands in the way.
        ValueError: a model that is not built, or a context that is not what the model reads. A model that the engine
            does not run, with the reason: also one of which it gives other numbers, by more than 0.001 of the largest,
            0.01 with weights of float16 and 0.25 of int8. A precision that the engine does not have.
        ImportError: an engine that is not installed.
        OSError: a cache folder that cannot be written.
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

    def __init__(
        self,
        model: keras.Model | SequenceLayer,
        batch_size: int = 1,
        *,
        dtype: str | None = None,
        context: Any = None,
        max_length: int = 1024,
        window: int | None = None,
        engine: str = "xla",
        precision: str | None = None,
    ) -> None:
        batch_size = as_size("batch_size", batch_size)
        dtype = None if dtype is None else keras.backend.standardize_dtype(dtype)
        options = stream_options(max_length, window)
        self.layer = as_layer(model, options)
        if not self.layer.supports_step:
            found = self.layer.obstacles()
            raise NotStreamable(f"{in_words(model)} cannot stream: {'; '.join(map(str, found))}", found)
        super().__init__(self.layer, in_words(model), batch_size, dtype, Room())
        self._context, self._options = context, dataclasses.asdict(options)
        self._weights = freeze(self.layer)
        self.engine, self.precision = check_engine(engine, precision)
        self.engine_error: float | None = 0.0 if self.engine == "xla" else None
        self.candidates: dict[str, float | str] = {}
        self._model = model
        self._steps, self._compiled = {}, 0
        if self._ends.dtypes_known:
            self._use_step()

    def _step_now(self):
        specs = self._ends.layer_specs
        if specs not in self._steps:
            self._steps[specs] = self._made_step(self._weights)
        return self._steps[specs]

    def _own_weights(self, weights=None):
        given = (self._weights if weights is None else weights).values
        return keras.StatelessScope(list(zip(self.layer.variables, given, strict=True)))

    def _made_step(self, weights):
        """A compiled step over inputs of the dtypes that are known, with weights from `freeze`."""
        specs = self._ends.layer_specs
        with self._own_weights(weights):  # what is made of the context, once, is made with the same ones
            spec = specs[0] if len(specs) == 1 else specs
            step = StepFunction(self.layer, self.batch_size, spec, context=self._context)
        if self.engine == "xla":
            return compile_step(step, weights)
        dtype = self._dtype or (None if self._ends.inputs else specs[0].dtype)
        source = Source(self._model, step, weights, dtype, self._context, self._options, self.precision)
        found = engine_step(source, self.engine)
        self.engine, self.engine_error = found.engine, found.error
        self.candidates = self.candidates or found.candidates
        return found.step

    def __repr__(self) -> str:
        error = "" if self.engine_error is None else f", engine_error={self.engine_error:.2g}"
        return (
            f"<Stream of {in_words(self._model)}: batch_size={self.batch_size}, engine={self.engine!r}, "
            f"precision={self.precision!r}{error}>"
        )

    @property
    def compilations(self) -> int:
        """How often a call of this stream had to wait for the step to be compiled.

        Streams of one model, batch size and dtypes, at the same time or one after the other, share what is compiled: it
        counts for the first of them alone.
        """
        return self._compiled + sum(step.compilations for step in self._steps.values())

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

    @staticmethod
    def from_exported(path: str | os.PathLike[str]) -> ExportedStream:
        """A stream of a file that `kseq.export` wrote: `kseq.ExportedStream`, which needs no model.

        Args:
            path: of the file, or of the folder of a SavedModel.
        """
        return ExportedStream(path)

    def resampled(self, shape: tuple[int, ...], ratio: Fraction) -> "Stream":
        """A stream of `kseq.Resample`, of as many rows."""
        layer = Resample(ratio.numerator, ratio.denominator)
        layer.build((None, None, *shape))
        return type(self)(layer, self.batch_size)

    @property
    def _made_with(self):
        context = None if self._context is None else in_numpy(self._context)
        return self.batch_size, self._dtype, context, self._options
