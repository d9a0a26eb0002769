"""`Blockwise`: whole sequences by steps over blocks, in memory for one block."""

import dataclasses
from typing import Any, Unpack

import keras
from keras import ops

from ...annotations import LayerOptions
from ...arguments import as_size
from ...obstacles import NotStreamable
from ...padding import is_symbol, of_length
from ...registry import register
from ...sequence import Sequence
from ...timing import Timing
from ..base import Example, SequenceLayer
from ..leaves import leaves, pack
from ..rematerialize import of_variables, values_of
from ..windowed import Conv1D
from .base import Combinator


@register
class Blockwise(Combinator):
    """Goes through whole sequences by the layer's step over blocks of `block_size` steps: the numbers are the layer's.

    Layer mode needs the memory of one block besides input and output, however long the sequence is: its loop is the
    backend's (`keras.ops.scan`), and the layer's state is all that goes from one block to the next. Gradients keep what
    every block made; `Blockwise(CheckpointGradient(layer), block_size)` keeps the states between blocks alone. Mask and
    timing are the layer's, but for the block.

    What a layer makes of whole sequences by another algorithm than its step may differ by rounding. A layer within that
    updates statistics while training does so for every block. On TensorFlow the states between blocks are kept also
    where no gradient is asked for.

    Args:
        layer: a kseq layer that steps.
        block_size: steps of a block, a multiple of the layer's own.

    Raises:
        TypeError: not a kseq layer.
        ValueError: a block that is no multiple of the layer's; when it is built a layer that cannot step, and when it
            trains one with an activity regularizer, which would see no whole sequence.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.Blockwise(kseq.Conv1D(2, 3), block_size=4)
        >>> layer(np.zeros((1, 10, 3), "float32")).shape, layer.timing.block_size
        ((1, 10, 2), 4)
    """

    layer: SequenceLayer
    block_size: int

    def __init__(self, layer: SequenceLayer, block_size: int, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.layer, self.block_size = self._checked_one(layer), as_size("block_size", block_size)
        own = layer.timing.block_size
        if self.block_size % own:
            raise ValueError(
                f"`block_size` must be a multiple of {own}, the block of {layer.name} ({type(layer).__name__}); "
                f"received {block_size}"
            )
        self._connect_chain((self.layer,))

    @property
    def timings(self) -> tuple[Timing, ...]:
        return tuple(dataclasses.replace(timing, block_size=self.block_size) for timing in super().timings)

    def build(self, input_shape: Any, context_shape: Any = None) -> None:
        super().build(input_shape, context_shape)
        if rows := self.obstacles():
            raise NotStreamable(
                f"{self._named} goes through sequences by steps, which its layer cannot make: "
                + "; ".join(map(str, rows)),
                rows,
            )

    def call_layer(self, x: Sequence, *, training: bool = False, context: Any = None) -> Sequence:
        if training:
            self._check_regularizers()
        (batch, time), timing = ops.shape(x.values)[:2], self.timing  # numbers, symbols or tensors
        blocks = (time + timing.input_latency + self.block_size - 1) // self.block_size
        masked = x.mask is not None or self.creates_mask
        given = {"context": context} if self.context_names else {}
        state = self.initial_state(batch, x.spec, **given)
        x = x.pad_time(0, blocks * self.block_size - time)
        if isinstance(blocks, int) and blocks == 1:
            y, _ = self._call_step(x, state, training)
            y = y.with_mask() if masked else Sequence(y.values)
        else:
            y = self._through_blocks(x, blocks, state, training, masked)
        first, length = timing.output_latency, self.output_length(time)
        return Sequence(*(None if part is None else _cut(part, first, length) for part in y))

    def _through_blocks(self, x, blocks, state, training, masked):
        """The outputs of all blocks, by a scan that carries the number of the block, its outputs, state and seeds."""
        weights, seeds = (self.trainable_variables, self.non_trainable_variables) if training else ([], [])
        step = of_variables(lambda x, state: self._call_step(x, state, training), [*weights, *seeds])
        values, mask = (None if part is None else _in_blocks(part, blocks, self.block_size) for part in x)
        weights = values_of(weights)

        def block(carry, values):
            i, _, found, drawn = carry
            # Only one array is scanned: of unknown length Keras takes no more on TensorFlow.
            chunk = Sequence(values, None if mask is None else mask[i])
            (y, new), losses, written = step([*weights, *drawn], chunk, pack(state, found))
            if losses:
                raise ValueError(f"{self._named} cannot have a layer within that adds a loss in its step")
            drawn = [b if a is None else a for a, b in zip(written[len(weights) :], drawn, strict=True)]
            y = list(y.with_mask()) if masked else [y.values]
            carry = i + 1, y, leaves(new), drawn
            return carry, carry if _as_carried() else y

        start = ops.zeros((), dtype="int32"), self._nothing(x, masked), leaves(state), values_of(seeds)
        (*_, drawn), found = ops.scan(block, start, values)
        for variable, value in zip(seeds, drawn, strict=True):
            variable.assign(value)
        batch, size = ops.shape(x.values)[0], int(self.block_size * self.timing.ratio)
        return Sequence(*(_joined(part, batch, blocks * size) for part in (found[1] if _as_carried() else found)))

    def _nothing(self, x, masked):
        """Arrays of the shapes of a block's outputs."""
        spec, shape = self.output_spec(x.spec), (ops.shape(x.values)[0], int(self.block_size * self.timing.ratio))
        values = ops.zeros((*shape, *spec.shape), dtype=spec.dtype)
        return [values, ops.zeros(shape, dtype="bool")] if masked else [values]

    def _check_regularizers(self):
        for layer in _within(self.layer):
            if layer.activity_regularizer is not None:
                raise ValueError(
                    f"{self._named} shows the layers within no whole sequence, so that their outputs cannot be "
                    f"regularized; received an activity regularizer of {layer.name}: give it to {self.name} instead"
                )

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"layer": Conv1D(2, 4, strides=2, padding="reverse_causal"), "block_size": 4}),
            Example({"layer": Conv1D(2, 3), "block_size": 3}),
        ]


def _as_carried() -> bool:
    """Whether what a scan gives of every turn must have the structure of its carry."""
    return keras.backend.backend() == "tensorflow"


def _within(layer):
    yield layer
    for node in getattr(layer, "nodes", ()):
        yield from _within(node.layer)


def _in_blocks(x, blocks, size):
    """[B, blocks * size, ...] to [blocks, B, size, ...]."""
    x = ops.reshape(x, (ops.shape(x)[0], blocks, size, *x.shape[2:]))
    return ops.transpose(x, (1, 0, *range(2, len(x.shape))))


def _joined(x, batch, time):
    """[blocks, B, size, ...] to [B, time, ...]."""
    x = ops.transpose(x, (1, 0, *range(2, len(x.shape))))
    return ops.reshape(x, (batch, time, *x.shape[3:]))


def _cut(x, first, length):
    x = x[:, first:]
    return of_length(x, length) if is_symbol(length) else x[:, :length]
