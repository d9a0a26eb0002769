"""What pointwise layers share: a function of the values, the channels and the dtype that it gives."""

from typing import Any

import keras
from keras import ops

from ...annotations import Shape
from ...sequence import SequenceSpec
from ..stepwise import StepwiseLayer


class PointwiseLayer(StepwiseLayer):
    """A layer without memory that says which channels and which dtype it makes of its input's."""

    takes_complex = False

    def output_channels(self, channels: Shape) -> Shape:
        """The channel shape of the output; by default the input's."""
        return channels

    def output_dtype(self, dtype: str) -> str:
        """The dtype of the output, of that of the input after the cast; by default the same."""
        return dtype

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        spec = self.cast_spec(input_spec)
        return SequenceSpec(tuple(self.output_channels(tuple(spec.shape))), self.output_dtype(spec.dtype))

    def as_float(self, values: Any) -> Any:
        """Values as floats, integers in the compute dtype."""
        return ops.cast(values, self.float_of(dtype_of(values)))

    def float_of(self, dtype: str) -> str:
        """The dtype of what is made of floats, or of integers as floats."""
        return dtype if keras.backend.is_float_dtype(dtype) else self.compute_dtype


class RealFunction(PointwiseLayer):
    """A function of real numbers, value by value: integers become floats."""

    def output_dtype(self, dtype: str) -> str:
        return self.float_of(dtype)

    def call_values(self, values: Any, training: bool = False) -> Any:
        return self.function(self.as_float(values))

    def function(self, x: Any) -> Any:
        """What the layer makes of floats."""
        raise NotImplementedError


class Unchanged(PointwiseLayer):
    """A layer that gives its input."""

    takes_complex = True
    invalid_value: float | None = None

    def call_values(self, values: Any, training: bool = False) -> Any:
        return values


def dtype_of(values: Any) -> str:
    """The name of a tensor's dtype."""
    return keras.backend.standardize_dtype(values.dtype)
