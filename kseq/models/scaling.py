"""What is learned of the data before training, and kept as weights: how large values are, and how long sequences."""

from typing import Any

import keras
import numpy as np
from keras import ops

from ..annotations import Shape
from ..layers.base import SequenceLayer
from ..layers.counting import count
from ..sequence import Sequence, SequenceSpec
from .rows import Rows


@keras.saving.register_keras_serializable("kseq.models")
class Scaling(SequenceLayer):
    """Takes each channel's mean away, and divides by its standard deviation.  [B, T, C] -> [B, T, C].

    Both are weights that no gradient changes, of `learn`; before it, 0 and 1. Mask: unchanged. Timing: none.

    Example:
        >>> layer = Scaling()
        >>> layer.build((None, None, 1))
        >>> layer.learn([np.array([[1.0], [3.0]])])
        >>> np.asarray(layer(np.array([[[3.0]]], "float32"))).tolist()
        [[[1.0]]]
    """

    mean: Any
    deviation: Any

    input_rank: int | None = 3
    takes_complex = False
    takes_any_length = True

    def build(self, input_shape: Shape) -> None:
        shape = (input_shape[-1],)
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", trainable=False)
        self.deviation = self.add_weight(name="deviation", shape=shape, initializer="ones", trainable=False)

    def learn(self, rows: Rows) -> None:
        """Take mean and deviation from rows; a channel that never changes has a deviation of 1."""
        values = np.concatenate(rows).astype(np.float64)
        # In parts of the largest, whose square may be too large a number, or too small a one.
        largest = np.maximum(np.abs(values).max(axis=0), 1e-30)
        values /= largest
        deviation = values.std(axis=0)
        self.mean.assign(values.mean(axis=0) * largest)
        # What is left of a constant by rounding is no deviation.
        constant = deviation <= 8 * np.finfo(rows[0].dtype).eps
        self.deviation.assign(np.where(constant, 1.0, deviation * largest))

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        return x.apply(lambda values: (values - self._like(self.mean, values)) / self._like(self.deviation, values)), ()

    def inverse(self, values: Any) -> Any:
        """Values as the data has them."""
        return values * ops.cast(self.deviation, values.dtype) + ops.cast(self.mean, values.dtype)

    def _like(self, weight, values):
        return ops.cast(weight, values.dtype)

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: Any = None) -> Any:
        return ()


@keras.saving.register_keras_serializable("kseq.models")
class WithCount(SequenceLayer):
    """Puts the number of steps so far beside the channels, as the data's lengths scale it.  [B, T, C] -> [B, T, C + 1].

    A code can so say how long its sequence is, which a recurrence would have to learn to count. Mask: unchanged; valid
    steps are counted. Timing: none. State: the count.

    Example:
        >>> layer = WithCount()
        >>> np.asarray(layer(np.zeros((1, 3, 1), "float32")))[0].tolist()
        [[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]]
    """

    mean: Any
    deviation: Any

    input_rank: int | None = 3
    takes_complex = False
    takes_any_length = True

    def build(self, input_shape: Shape) -> None:
        self.mean = self.add_weight(name="mean", shape=(), initializer="zeros", trainable=False)
        self.deviation = self.add_weight(name="deviation", shape=(), initializer="ones", trainable=False)

    def learn(self, lengths: Any) -> None:
        """Take mean and deviation from lengths."""
        self.mean.assign(np.mean(lengths))
        self.deviation.assign(np.std(lengths) or 1.0)

    def scaled(self, steps: Any) -> Any:
        """Numbers of steps, float32, as they stand beside the channels."""
        # Differences of large numbers, which half precision would round.
        steps, mean, deviation = (ops.cast(part, "float32") for part in (steps, self.mean, self.deviation))
        return (steps - mean) / deviation

    @property
    def counts_steps(self) -> bool:
        return True

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        spec = self.cast_spec(input_spec)
        return SequenceSpec((spec.shape[0] + 1,), spec.dtype)

    def initial_state(self, batch_size: int, input_spec: SequenceSpec, context: Any = None) -> Any:
        return {"count": ops.zeros((batch_size,), dtype="int32")}

    def call_step(self, x: Sequence, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        shape = ops.shape(x.values)
        place, after = count(x.mask, shape[1], state["count"], "valid")
        steps = ops.cast(self.scaled(place + 1), x.values.dtype)
        return Sequence(ops.concatenate([x.values, steps[..., None]], axis=-1), x.mask), {"count": after}


@keras.saving.register_keras_serializable("kseq.models")
class BackwardEnd(SequenceLayer):
    """Puts at every step, in the place of the second half of the channels, that half of the first step.

    [B, T, 2 C] -> [B, T, 2 C]. After a bidirectional layer the last step then has what either direction has in its end.
    """

    input_rank: int | None = 3

    @property
    def step_obstacle(self) -> str | None:
        return "it reads the end of a layer that runs backwards, which is known when the sequence has ended"

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        return at_both_ends(x)


def at_both_ends(x: Sequence) -> Sequence:
    """What a bidirectional layer gives, with the end of its backward half at every step."""
    half = x.values.shape[-1] // 2
    end = ops.broadcast_to(x.values[:, :1, half:], ops.shape(x.values[..., half:]))
    return Sequence(ops.concatenate([x.values[..., :half], end], axis=-1), x.mask)
