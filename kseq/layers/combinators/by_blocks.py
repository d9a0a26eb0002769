"""What combinators share that go through whole sequences by steps over blocks."""

from typing import Any

import keras
from keras import ops

from ...obstacles import NotStreamable
from ...padding import is_symbol, of_length
from ...sequence import Sequence
from ..leaves import leaves, pack
from ..rematerialize import of_variables, values_of
from .base import Combinator


class ByBlocks(Combinator):
    """Layer mode as steps over blocks of `block_size` steps, in the backend's loop."""

    block_size: int

    def build(self, input_shape: Any, context_shape: Any = None) -> None:
        super().build(input_shape, context_shape)
        self._check_steps_within()

    def _check_steps_within(self):
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
        y, _ = self._through_blocks(x, blocks, state, training, masked)
        first, length = timing.output_latency, self.output_length(time)
        return Sequence(*(None if part is None else _cut(part, first, length) for part in y))

    def _through_blocks(self, x, blocks, state, training, masked):
        """The outputs of all blocks and the state after them.

        By a scan that carries the number of the block, its outputs, state and seeds.
        """
        if isinstance(blocks, int) and blocks == 1:
            y, state = self._call_step(x, state, training)
            return y.with_mask() if masked else Sequence(y.values), state
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
        (_, _, state_leaves, drawn), found = ops.scan(block, start, values)
        for variable, value in zip(seeds, drawn, strict=True):
            variable.assign(value)
        batch, size = ops.shape(x.values)[0], int(self.block_size * self.timing.ratio)
        y = Sequence(*(_joined(part, batch, blocks * size) for part in (found[1] if _as_carried() else found)))
        return y, pack(state, state_leaves)

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
