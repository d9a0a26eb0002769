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
    deviation: Any
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
        begin = np.zeros((input_shape[-1], 2))
        begin[-1, 0] = 1.0  # the code's last number is how long the input is
        self.straight.kernel.assign(begin)
        for name, initializer in (("mean", "zeros"), ("deviation", "ones"), ("longest", "zeros")):
            weight = self.add_weight(name=name, shape=(), initializer=initializer, trainable=False, dtype="float32")
            setattr(self, name, weight)

    def learn(self, lengths: Any) -> None:
        """Take from lengths how long sequences are, and the longest."""
        self.mean.assign(np.mean(lengths))
        self.deviation.assign(max(np.std(lengths), 1.0))
        self.longest.assign(np.max(lengths))

    def call(self, code: Any) -> tuple[Any, Any]:
        code = ops.cast(code, "float32")
        found = self.bent(self.hidden(code)) + self.straight(code)
        location = self.mean + self.deviation * found[:, 0]
        # From a thousandth of a step, at which a right length has all of the probability, to what says nothing.
        return location, self.deviation * ops.exp(ops.clip(found[:, 1], -6.0, 6.0))

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
