"""The decoder: a code and a length to a sequence."""

import math
from typing import Any

import keras
from keras import ops

from ..layers import Autoregressive, CrossAttention, Dense, Residual, Serial
from ..sequence import Sequence
from .scaling import WithCount
from .stacks import width_of

_HARMONICS = 8


@keras.saving.register_keras_serializable("kseq.models")
class RecurrentDecoder(keras.layers.Layer):
    """A sequence of a code and a length.  code [B, K], lengths int32 [B] -> [B, U, D].

    The layers read at each step the code, and where in the sequence the step is: cosines of the part of it that is
    over, the number of steps before it and of all steps, and a start vector, which is learned, at the first one. With
    `feedback` they read beside it the output of the step before. With `heads` they attend to the encoder's states, too.

    Args:
        layers: kseq layers, before the last product.
        output_dim: D.
        feedback: whether the last output is read.
        heads: of attention to `states`, or 0 for none.
    """

    start: Any
    seed_generator: Any

    def __init__(
        self, layers: list[Any], output_dim: int, feedback: bool = False, heads: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.output_dim, self.feedback, self.heads = output_dim, feedback, heads
        self.inner = list(layers)
        own = {"dtype": self.dtype_policy}
        attending = []
        if heads:
            attention = CrossAttention(heads, 16, source="states", name="attention", **own)
            # Beside what attends, so that what the layers know of the step is not lost where nothing is attended to.
            attending = [Residual([attention, Dense(width_of(layers), name="attended", **own)], name="reading", **own)]
        product = Dense(output_dim, name="output", **own)
        self.chain = Serial([*layers, *attending, product], name="chain", **own)
        self.lengths = WithCount(name="lengths", dtype="float32")
        self.free: Any = self.chain
        if feedback:
            self.free = Autoregressive(self.chain, name="free", **own)
            self.forced = Autoregressive(self.chain, teacher_forcing=True, name="forced", **own)
            self.seed_generator = keras.random.SeedGenerator()

    @property
    def sublayers(self) -> list[Any]:
        """What has weights."""
        return [self.free, self.lengths]

    def build(self, input_shape: Any) -> None:
        """Build for codes of a shape, or for a list of the shapes of codes and of the encoder's states."""
        code, states = input_shape if self.heads else (input_shape, None)
        size = code[-1] + _HARMONICS + 2
        self.start = self.add_weight(name="start", shape=(size,), initializer="zeros")
        self.lengths.build((None, None, 1))
        given = {"context_shape": {"states": states}} if self.heads else {}
        self.free.build((None, None, size), **given)
        if self.feedback:
            self.forced.build([(None, None, size), (None, None, self.output_dim)], **given)

    def places(self, code: Any, lengths: Any, steps: Any) -> Sequence:
        """What the layers read: code and place at each of so many steps, of which the first ones are valid."""
        step = ops.arange(0, steps, dtype="float32")[None, :]  # [1, U]
        count = ops.cast(lengths, "float32")[:, None]  # [B, 1]
        part = (step + 0.5) / ops.maximum(count, 1.0)  # [B, U]
        waves = [ops.cos(math.pi * k * part) for k in range(1, _HARMONICS + 1)]
        before, of_all = self.lengths.scaled(step + 1.0), self.lengths.scaled(count)
        both = [ops.broadcast_to(each, ops.shape(part)) for each in (before, of_all)]
        place = ops.cast(ops.stack([*waves, *both], axis=-1), self.compute_dtype)
        code = ops.cast(code, self.compute_dtype)[:, None, :]
        code = ops.broadcast_to(code, (*ops.shape(part), code.shape[-1]))
        first = ops.cast(step == 0, self.compute_dtype)[..., None] * ops.cast(self.start, self.compute_dtype)
        return Sequence(ops.concatenate([code, place], axis=-1) + first, step < count).mask_invalid()

    def call(
        self,
        code: Any,
        lengths: Any,
        steps: Any,
        states: Any = None,
        targets: Any = None,
        forcing: float = 0.0,
        training: bool = False,
    ) -> Any:
        """The sequences, [B, U, D], padded with what is no part of them.

        Args:
            code: [B, K].
            lengths: int32 [B].
            steps: U.
            states: a `Sequence` [B, T, H], what is attended to.
            targets: [B, U, D], what is fed back in the place of outputs.
            forcing: how often it is, from 0 to 1.
            training: whether dropout is active.
        """
        given: dict[str, Any] = {"training": training}
        if self.heads:
            given["context"] = {"states": states}
        x = self.places(code, lengths, steps)
        if not self.feedback or targets is None or not forcing:
            return self.free(x, **given).values
        targets = ops.cast(targets, self.compute_dtype)
        if forcing < 1:
            # Some of the targets are replaced by what the decoder makes where all are given: one more pass over all
            # steps at once. Source: Mihaylova and Martins, 2019, "Scheduled Sampling for Transformers".
            made = ops.stop_gradient(self.forced((x, Sequence(targets, x.mask)), **given).values)
            drawn = keras.random.uniform(ops.shape(targets)[:2], seed=self.seed_generator)
            targets = ops.where(drawn[..., None] < forcing, targets, made)
        return self.forced((x, Sequence(targets, x.mask)), **given).values
