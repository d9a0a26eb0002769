"""Products of each step's channels with a matrix."""

import math
from collections.abc import Iterable
from typing import Any, Unpack

from keras import ops

from ...annotations import ActivationLike, ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ...sequence import SequenceSpec
from ..base import Example
from ..float64 import product
from ..quantization import Int8Weight, int8_matmul
from ..stepwise import StepwiseLayer, mixing_activation


@register
class Dense(Int8Weight, StepwiseLayer):
    """Matrix product over the last axis.  [B, T, ..., C] -> [B, T, ..., units].

    Mask: unchanged. Timing: none. The weights are those of `keras.layers.Dense`, also after `quantize("int8")`.

    Args:
        units: output channels.
        activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint: as in Keras.

    Raises:
        ValueError: `units` below 1 or values without a channel axis.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Dense(5)(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 5)
    """

    takes_complex = False

    units: int
    bias: Any

    int8_weight: tuple[str, int] = "kernel", 0

    def __init__(
        self,
        units: int,
        activation: ActivationLike = None,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.units = as_size("units", units)

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) < 3:
            raise ValueError(f"Dense takes values of rank 3 or more; received shape {tuple(input_shape)}")
        self.add_int8_weight((input_shape[-1], self.units))
        self.bias = self.add_parameter("bias", (self.units,)) if self.use_bias else None

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((*input_spec.shape[:-1], self.units), self.compute_dtype)

    @property
    def step_obstacle(self) -> str | None:
        return mixing_activation(self)

    def call_values(self, values: Any, training: bool = False) -> Any:
        if self.quantization_mode is None:
            y = product(values, self.weight(self.kernel))
        else:
            y = int8_matmul(values, self.kernel, self.weight(self.kernel_scale))
        return self.activation(y if self.bias is None else y + self.weight(self.bias))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"units": 4, "activation": "relu"}), Example({"units": 2, "use_bias": False}, (4, 12, 2, 3))]


@register
class DenseShaped(StepwiseLayer):
    """Product of all channels with a matrix, to channels of another shape.  [B, T, ...] -> [B, T, *output_shape].

    Mask: unchanged. Timing: none. The kernel [inputs, outputs] has all channels of a step as one axis, last axis
    fastest; a step without channel axes, or an empty `output_shape`, is one channel.

    Args:
        output_shape: shape of the outputs' channels, possibly `()`.
        activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint: as in Keras.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.DenseShaped((2, 3))(np.zeros((1, 7, 4), "float32")).shape
        (1, 7, 2, 3)
    """

    takes_complex = False

    output_shape: tuple[int, ...]
    kernel: Any
    bias: Any

    def __init__(
        self,
        output_shape: tuple[int, ...],
        activation: ActivationLike = None,
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        sizes = output_shape if isinstance(output_shape, Iterable) else (output_shape,)
        self.output_shape = tuple(as_size("output_shape", size) for size in sizes)

    def build(self, input_shape: Shape) -> None:
        self.kernel = self.add_parameter("kernel", (math.prod(input_shape[2:]), math.prod(self.output_shape)))
        self.bias = self.add_parameter("bias", self.output_shape) if self.use_bias else None

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec(self.output_shape, self.compute_dtype)

    @property
    def step_obstacle(self) -> str | None:
        return mixing_activation(self)

    def call_values(self, values: Any, training: bool = False) -> Any:
        batch_and_time = ops.shape(values)[:2]
        y = product(ops.reshape(values, (*batch_and_time, self.kernel.shape[0])), self.weight(self.kernel))
        y = ops.reshape(y, (*batch_and_time, *self.output_shape))
        return self.activation(y if self.bias is None else y + self.weight(self.bias))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"output_shape": (2, 3)}), Example({"output_shape": ()}, (4, 12, 2, 3))]
