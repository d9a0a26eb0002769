"""A model that generates: what it reads and gives, and batches of rows that it goes on from."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from ..layers.base import SequenceLayer
from ..layers.complex_values import real_dtype
from ..layers.dense import Embedding
from ..layers.limits import check_room, in_numpy, least
from ..layers.network import Network
from ..layers.pointwise import OneHot
from ..model_graph import in_words
from ..obstacles import NotStreamable
from ..runtime.ends import Ends
from ..sequence import Sequence, SequenceSpec
from ..streaming.compiled import freeze
from ..streaming.graph import as_layer
from ..streaming.programs import Carry, Programs
from ..streaming.step import StepFunction

# Steps of a prompt that go through in one call: few functions are compiled for prompts of any length.
_FED = (256, 32, 4, 1)


class Predictor:
    """A streamable model whose output says what its next input is.

    Attributes:
        layer: the model as one kseq layer.
        name: the model in words.
        shape: of a step of the input.
        dtype: of the input.
        block: steps that are made at a time.
        vocabulary: tokens that it gives logits of, or `None` where its steps are no tokens.

    Args:
        model: a kseq layer or a Keras model.
        sample: a function from outputs to the next inputs, or `None`.

    Raises:
        NotStreamable: a model that cannot step.
        ValueError: a model that cannot generate: of several inputs or outputs, that looks ahead, changes the length, or
            whose output is neither the next input nor logits of it.
        TypeError: neither a kseq layer nor a Keras model, or a `sample` that is no function.
    """

    name: str
    shape: Any
    block: int
    dtype: str
    known: Any
    sample: Any
    weights: Any

    layer: SequenceLayer
    vocabulary: int | None

    def __init__(self, model: Any, sample: Callable[..., Any] | None = None) -> None:
        if sample is not None and not callable(sample):
            raise TypeError(f"`sample` must be a function of outputs and draws; received {sample!r}")
        self.layer, self.name = as_layer(model), in_words(model)
        if not self.layer.supports_step:
            found = self.layer.obstacles()
            raise NotStreamable(
                f"{self.name} cannot generate, since it cannot step: {'; '.join(map(str, found))}", found
            )
        ends = Ends(self.layer, self.name, 1, None)
        self._check_form(ends)
        self.shape, declared = ends.specs[0]
        self.block, self._ends = self.layer.timing.block_size, ends
        self.dtype = declared or "int32"
        given = tuple(self.layer.output_spec(self.input_spec).shape)
        self.vocabulary, self.known, self.sample = None, None, sample
        if sample is None and given[:-1] == self.shape and given:
            self.vocabulary = given[-1]
            self._check_vocabulary()
        elif sample is None and given != self.shape:
            raise ValueError(
                f"{self.name} must give logits of tokens, of shape {(*self.shape, 'vocabulary')}, or its next input, "
                f"of shape {self.shape}; its output has shape {given}: give `sample`, a function of it that says what "
                f"comes next"
            )
        elif not declared:
            self.dtype = real_dtype(self.layer.compute_dtype)
        self.weights = freeze(self.layer)

    def _check_form(self, ends):
        layer, timing = self.layer, self.layer.timing
        if len(ends.specs) != 1 or layer.num_outputs != 1:
            raise ValueError(
                f"{self.name} must have one input, besides context, and one output to generate; it has "
                f"{len(ends.specs)} and {layer.num_outputs}"
            )
        if timing.ratio != 1:
            raise ValueError(f"{self.name} must give one output for each input to generate; it gives {timing.ratio}")
        if timing.output_latency:
            raise ValueError(
                f"{self.name} cannot generate, since it looks ahead: its outputs come {timing.output_latency} "
                f"steps late"
            )

    def _check_vocabulary(self):
        self.known = known_tokens(self.layer)
        if self.known is not None and self.known < (self.vocabulary or 0):
            raise ValueError(
                f"{self.name} gives logits of {self.vocabulary} tokens, and what reads its input takes tokens below "
                f"{self.known}: the two must fit"
            )

    @property
    def input_spec(self) -> Any:
        """The spec of what the layer reads."""
        self._ends.form = self._ends.form._replace(specs=(SequenceSpec(self.shape, self.dtype),))
        specs = self._ends.layer_specs
        return specs[0] if len(specs) == 1 else specs

    @property
    def steps_dtype(self) -> str:
        """Of steps as they are given and generated: of tokens int32, whatever the model has them as."""
        return self.dtype if self.vocabulary is None else "int32"

    def check_prompts(self, rows: list[np.ndarray]) -> None:
        """Refuse tokens that there are not, and prompts that do not fill whole blocks.

        Raises:
            ValueError: such a prompt, by its row.
        """
        for number, row in enumerate(rows):
            if len(row) % self.block:
                raise ValueError(
                    f"a prompt of {self.name} must have a multiple of {self.block} steps, which it makes at a time; "
                    f"received {len(row)} in row {number}"
                )
            if self.vocabulary is not None and (row.min() < 0 or row.max() >= (self.known or self.vocabulary)):
                wrong = row[(row < 0) | (row >= (self.known or self.vocabulary))][0]
                raise ValueError(
                    f"a prompt must be of tokens from 0 to {(self.known or self.vocabulary) - 1}; received {wrong} in "
                    f"row {number}"
                )

    def batch(self, size: int, context: Any = None) -> "Batch":
        """Rows at the start.

        Args:
            size: how many.
            context: what the model reads as context.
        """
        with keras.StatelessScope(zip(self.layer.variables, self.weights.values, strict=True)):
            step = StepFunction(self.layer, size, self.input_spec, context=context)
        return Batch(self, Programs(step, self.weights), context)


def known_tokens(layer: SequenceLayer) -> int | None:
    """Tokens that what reads a layer's input takes, or `None` where that does not say."""
    if isinstance(layer, Network):
        found = [known_tokens(node.layer) for node in layer.nodes if any(0 in read.values for read in node.reads)]
        return min((count for count in found if count is not None), default=None)
    origin = layer.origin()
    if isinstance(origin, (Embedding, keras.layers.Embedding)):
        return origin.input_dim
    return origin.depth if isinstance(origin, OneHot) else None


class Batch:
    """Rows that go on from their states.

    Attributes:
        size: how many.
        carry: their states.
    """

    predictor: Any
    programs: Any
    context: Any

    size: int
    carry: Carry

    def __init__(self, predictor: Predictor, programs: Programs, context: Any, carry: Carry | None = None) -> None:
        self.predictor, self.programs, self.context = predictor, programs, context
        self.size, self.carry = programs.step.batch_size, carry or programs.start()

    def run(self, key: Any, fn: Any, *arrays: Any) -> Any:
        """The outputs of a computation that goes on from the rows' states."""
        outputs, self.carry = self.programs(key, fn, self.carry, *arrays)
        return outputs

    def room(self) -> np.ndarray | None:
        """Steps that each row takes from the start, int64 [B]; `None` where there is no limit."""
        step = self.programs.step
        steps = least(step.limits(step.initial_state()))
        return None if steps is None else np.asarray(in_numpy(steps), np.int64)

    def check_room(self, steps: Any, what: str) -> None:
        """Refuse more steps, int64 [B], than there is room for from the start.

        Raises:
            ValueError: such, with the layer that has no room, and what to raise.
        """
        step = self.programs.step
        check_room(step.limits(step.initial_state()), steps, what)

    def feed(self, rows: list[np.ndarray], sizes: Iterable[int] = _FED) -> None:
        """Let each row go through its own steps: in the calls in which it would go through them alone.

        Args:
            rows: the steps of each.
            sizes: blocks of a call, from the most on to 1.
        """
        predictor, lengths = self.predictor, np.array([len(row) for row in rows])
        ragged, at = len(set(lengths.tolist())) > 1, np.zeros(self.size, np.int64)
        for blocks in sizes:
            size = blocks * predictor.block
            while (active := lengths - at >= size).any():
                chunk = np.zeros((self.size, size, *predictor.shape), predictor.steps_dtype)
                for n in np.flatnonzero(active):
                    chunk[n] = rows[n][at[n] : at[n] + size]
                at += active * size
                self.run(
                    ("feed", ragged, predictor.dtype), _feeding(predictor.dtype), chunk, *([active] if ragged else [])
                )

    def keep(self, rows: np.ndarray) -> "Batch":
        """A batch of some rows, by their numbers [N], a row as often as one likes."""
        context = None if self.context is None else {k: _rows_of(v, rows) for k, v in self.context.items()}
        batch = self.predictor.batch(len(rows), context)
        leaves = [ops.take(leaf, rows, axis=0) for leaf in self.carry.leaves]
        batch.carry = batch.programs.with_leaves(self.carry, leaves)
        return batch


def _feeding(dtype):
    def feed(advance, carry, values, active=None):
        _, carry = advance(Sequence(ops.cast(values, dtype)), carry, active)
        return [], carry

    return feed


def _rows_of(x, rows):
    if isinstance(x, Sequence):
        return Sequence(*(None if part is None else _rows_of(part, rows) for part in x))
    return np.asarray(ops.convert_to_numpy(x))[rows]
