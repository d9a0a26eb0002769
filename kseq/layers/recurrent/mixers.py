"""What layers share that are a recurrence of matrices between projections."""

from typing import Any

from keras import ops

from ...arguments import as_number
from ...sequence import Sequence, SequenceSpec
from ..complex_values import real_dtype
from ..float64 import mean, product
from .recurrence import Recurrence


class MatrixMixer(Recurrence):
    """Projections, a recurrence of matrices whose state has one size whatever the length, norms of heads, a projection.

    The output has the channels of the input. Between the projections everything is float32 at least, as is the state.
    """

    input_rank: int | None = 3
    epsilon: float

    def read_epsilon(self) -> None:
        """Check what all constructors take. Heads of invalid steps may be all zeros, which zero would make NaN of."""
        self.epsilon = as_number("epsilon", self.epsilon, "positive", lambda epsilon: epsilon > 0)

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec(tuple(input_spec.shape), self.compute_dtype)

    @property
    def wide_dtype(self) -> str:
        """What is accumulated in: sums over many steps are too much for half precision."""
        return real_dtype(self.compute_dtype)

    def wide(self, x: Any) -> Any:
        return ops.cast(x, self.wide_dtype)

    def add_kernel(self, name: str, inputs: int, outputs: int) -> Any:
        """A matrix with the initialiser, regulariser and constraint of kernels."""
        return self.add_parameter(name, (inputs, outputs), "kernel")

    def add_wide(self, name: str, shape: Any, initializer: Any) -> Any:
        """A parameter that is used in float32 at least."""
        return self.add_parameter(name, shape, initializer=initializer, autocast=False)

    def project(self, values: Any, kernel: Any, bias: Any = None) -> Any:
        """Values [B, T, C] times a matrix, in the compute dtype."""
        y = product(ops.cast(values, self.compute_dtype), self.weight(kernel))
        return y if bias is None else y + self.weight(bias)

    def by_heads(self, values: Any, heads: int) -> Any:
        """Channels [B, T, H * D] as [B, T, H, D], to be accumulated."""
        batch, time = ops.shape(values)[:2]
        return ops.reshape(self.wide(values), (batch, time, heads, values.shape[-1] // heads))

    def joined(self, values: Any) -> Any:
        """The same backwards."""
        batch, time = ops.shape(values)[:2]
        return ops.reshape(values, (batch, time, values.shape[2] * values.shape[3]))

    def unit_mean_square(self, values: Any) -> Any:
        """Values whose squares are one on average over the last axis."""
        return values * ops.rsqrt(mean(ops.square(values)) + self.epsilon)

    def unit_variance(self, values: Any) -> Any:
        """Values with mean zero and variance one over the last axis."""
        values = values - mean(values)
        return self.unit_mean_square(values)


def where_valid(mask: Any, values: Any) -> Any:
    """Values [B, T, ...] with zeros at invalid steps."""
    return Sequence(values, mask).mask_invalid().values
