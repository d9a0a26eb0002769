"""Layers that look at one step at a time through a weight: Dense and Embedding."""

from typing import Any, ClassVar, Unpack

import keras
from keras import ops

from ..annotations import (
    ActivationLike,
    ConstraintLike,
    EmbeddingOptions,
    InitializerLike,
    LayerOptions,
    RegularizerLike,
    Shape,
)
from ..arguments import as_size
from ..registry import register
from ..sequence import Sequence, SequenceSpec
from .base import Example
from .parameters import Only
from .quantization import Int8Weight, int8_matmul, int8_rows
from .stepwise import StepwiseLayer, mixing_activation


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
            y = ops.matmul(values, self.weight(self.kernel))
        else:
            y = int8_matmul(values, self.kernel, self.weight(self.kernel_scale))
        return self.activation(y if self.bias is None else y + self.weight(self.bias))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"units": 4, "activation": "relu"}), Example({"units": 2, "use_bias": False}, (4, 12, 2, 3))]


@register
class Embedding(Int8Weight, StepwiseLayer):
    """A learned vector per integer.  int [B, T, ...] -> [B, T, ..., output_dim].

    Mask: unchanged, or with `mask_zero` also invalid where the index is 0. Timing: none. Indices must be from 0 to
    `input_dim - 1`. The weights are those of `keras.layers.Embedding`, also after `quantize("int8")`.

    Args:
        input_dim: number of vectors.
        output_dim: their size.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: as in Keras.
        mask_zero: whether index 0 stands for padding. Masks on the host, as of `kseq.masks`, know no indices and leave
            this out.

    Raises:
        ValueError: sizes below 1, or `mask_zero` with more than one index a step.
        TypeError: values that are not integers.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Embedding(10, 3)(np.array([[1, 2]], "int32")).shape
        (1, 2, 3)
    """

    input_dim: int
    output_dim: int

    int8_weight: tuple[str, int] = "embeddings", -1
    takes_any_channels = True
    fixed_arguments: ClassVar[dict[str, Only]] = {"weights": Only((None,), "`set_weights` of a built layer takes them")}

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: InitializerLike = "uniform",
        embeddings_regularizer: RegularizerLike = None,
        embeddings_constraint: ConstraintLike = None,
        mask_zero: bool = False,
        **kwargs: Unpack[EmbeddingOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.input_dim = as_size("input_dim", input_dim)
        self.output_dim = as_size("output_dim", output_dim)

    def build(self, input_shape: Shape) -> None:
        self.add_int8_weight((self.input_dim, self.output_dim))

    @property
    def creates_mask(self) -> bool:
        return self.mask_zero

    @property
    def mask_reads_values(self) -> bool:
        return self.mask_zero

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((*input_spec.shape, self.output_dim), self.compute_dtype)

    def call_layer(self, x: Sequence, *, training: bool = False) -> Sequence:
        y = super().call_layer(x, training=training)
        if not self.mask_zero:
            return y
        if len(x.values.shape) != 2:
            raise ValueError(f"Embedding with `mask_zero` takes values [B, T]; received shape {tuple(x.values.shape)}")
        named = ops.not_equal(x.values, 0)
        return Sequence(y.values, named if x.mask is None else ops.logical_and(x.mask, named))

    def call_values(self, values: Any, training: bool = False) -> Any:
        dtype = keras.backend.standardize_dtype(values.dtype)
        if not keras.backend.is_int_dtype(dtype):
            raise TypeError(f"Embedding takes integers; received {dtype}")
        if self.quantization_mode is None:
            return ops.take(self.weight(self.embeddings), values, axis=0)
        return int8_rows(values, self.embeddings, self.weight(self.embeddings_scale))

    @classmethod
    def examples(cls) -> list[Example]:
        sizes, indices = {"input_dim": 7, "output_dim": 3}, ((4, 12), "int32")
        return [Example(sizes, *indices), Example(sizes | {"mask_zero": True}, *indices)]
