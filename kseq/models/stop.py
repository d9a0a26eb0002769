"""The stop head: how long a sequence is, as a distribution that its code gives."""

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("kseq.models")
class StopHead(keras.layers.Layer):
    """The distribution of a sequence's length, given its code.  [B, code] -> location [B], scale [B], in steps.

    A length `n` has the probability that a logistic variable of this location and scale lies within half a step of it:
    so lengths that are nearly right cost little, and the sharper a right one is the less. What a decoder would learn by
    a stop token, the probability that a sequence ends after `n` steps if it is so long, follows from it; but no value
    of the signal is taken for an end. Accumulated in float32.
    Source: Salimans et al., 2017, "PixelCNN++", for the discretised logistic distribution.

    Args:
        units: of the hidden layer.

    Example:
        >>> head = StopHead()
        >>> location, scale = head(np.zeros((2, 4), "float32"))
        >>> head.predicted(location).shape
        (2,)
    """

    mean: Any
    slope: Any
    rest: Any
    longest: Any

    def __init__(self, units: int = 32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        # In float32 always: a length of some hundreds of steps needs its last digit.
        self.hidden = keras.layers.Dense(units, "tanh", name="hidden", dtype="float32")
        self.bent = keras.layers.Dense(2, kernel_initializer="zeros", name="bent", dtype="float32")
        self.straight = keras.layers.Dense(
            2, kernel_initializer="zeros", use_bias=False, name="straight", dtype="float32"
        )

    def build(self, input_shape: Any) -> None:
        self.hidden.build(input_shape)
        self.bent.build((*input_shape[:-1], self.units))
        self.straight.build(input_shape)
        for name in ("mean", "slope", "rest", "longest"):
            weight = self.add_weight(name=name, shape=(), initializer="zeros", trainable=False, dtype="float32")
            setattr(self, name, weight)

    def learn(self, lengths: Any, numbers: Any) -> None:
        """Take from lengths how they follow from the codes' last numbers, how far that is off, and the longest.

        Where nothing is left that rounding does not mend, as in a reconstruction, nothing of it is trained: steps of
        training would only make long sequences inexact.
        """
        lengths, numbers = np.asarray(lengths, np.float64), np.asarray(numbers, np.float64)
        flat = numbers - numbers.mean()
        slope = flat @ lengths / max(flat @ flat, 1e-12)
        off = lengths - lengths.mean() - slope * flat
        self.slope.assign(slope)
        self.mean.assign(lengths.mean() - slope * numbers.mean())
        self.rest.assign(0.0 if np.abs(off).max() < 0.45 else max(off.std(), 1.0))
        self.longest.assign(np.max(lengths))

    def call(self, code: Any) -> tuple[Any, Any]:
        code = ops.cast(code, "float32")
        found = self.bent(self.hidden(code)) + self.straight(code)
        location = self.mean + self.slope * code[:, -1] + self.rest * found[:, 0]
        # From a thousandth of a step, at which a right length has all of the probability, to what says nothing.
        return location, ops.maximum(self.rest, 1.0) * ops.exp(ops.clip(found[:, 1], -6.0, 6.0))

    def loss(self, location: Any, scale: Any, lengths: Any) -> Any:
        """The negative logarithm of the probability of lengths, float32 [B]."""
        off, width = (ops.cast(lengths, "float32") - location) / scale, 0.5 / scale
        # Of a difference of two logistic functions, without the difference.
        above, below = ops.log_sigmoid(off + width), ops.log_sigmoid(width - off)
        return -(above + below + ops.log(-ops.expm1(-2.0 * width)))

    def hazard(self, location: Any, scale: Any, steps: Any) -> Any:
        """The probability that a sequence ends after so many steps, if it has as many."""
        off, width = (ops.cast(steps, "float32") - location) / scale, 0.5 / scale
        # (F(n + w) - F(n - w)) / (1 - F(n - w)), of F the logistic function.
        return ops.sigmoid(off + width) * -ops.expm1(-2.0 * width)

    def predicted(self, location: Any, limit: Any = None) -> Any:
        """The most likely lengths, int32, from 1 to a limit."""
        most = 1e9 if limit is None else ops.cast(limit, "float32")
        return ops.cast(ops.clip(ops.round(location), 1.0, most), "int32")

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0],), (input_shape[0],)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"units": self.units}
