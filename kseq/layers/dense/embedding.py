"""Embeddings: a learned vector per integer, and back from vectors to a number for each integer."""

from typing import Any, ClassVar, Unpack

import keras
from keras import ops

from ...annotations import ConstraintLike, EmbeddingOptions, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from ..float64 import product
from ..parameters import Only
from ..quantization import Int8Weight, int8_matmul, int8_rows
from ..stepwise import StepwiseLayer


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

    takes_complex = False

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


@register
class EmbeddingTranspose(StepwiseLayer):
    """Product with the vectors of an embedding, for logits.  [B, T, ..., output_dim] -> [B, T, ..., input_dim].

    The vectors are the embedding's own weights: what trains or loads the one trains and loads the other, in a model
    that is saved and loaded too. Mask: unchanged. Timing: none.
    Source: Press and Wolf, 2016, "Using the Output Embedding to Improve Language Models".

    Args:
        embedding: an `Embedding`, of kseq or of Keras; it is built if it is not.
        use_bias: whether a bias is added.
        logit_soft_cap: if given, outputs are bounded to it by a tanh.
        bias_initializer, bias_regularizer, bias_constraint: as in Keras.

    Raises:
        TypeError: something else than an embedding.
        ValueError: values whose last axis is not the vectors' size, or a soft cap that is not positive.

    Example:
        >>> import kseq, numpy as np
        >>> embedding = kseq.Embedding(10, 3)
        >>> kseq.EmbeddingTranspose(embedding)(embedding(np.array([[1, 2]], "int32"))).shape
        (1, 2, 10)
    """

    takes_complex = False

    bias: Any

    def __init__(
        self,
        embedding: keras.layers.Layer,
        use_bias: bool = True,
        logit_soft_cap: float | None = None,
        bias_initializer: InitializerLike = "zeros",
        bias_regularizer: RegularizerLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(embedding, (Embedding, keras.layers.Embedding)):
            raise TypeError(f"`embedding` must be an Embedding of kseq or of Keras; received {embedding!r}")
        if logit_soft_cap is not None and not logit_soft_cap > 0:
            raise ValueError(f"`logit_soft_cap` must be positive; received {logit_soft_cap}")
        self.keep(locals())

    @property
    def sublayers(self) -> tuple[keras.layers.Layer, ...]:
        """The embedding: a layer that may have a place of its own in the model."""
        return (self.embedding,)

    def build(self, input_shape: Shape) -> None:
        self._check_size(input_shape)
        if not self.embedding.built:
            self.embedding.build((None, None))
        self.bias = self.add_parameter("bias", (self.embedding.input_dim,)) if self.use_bias else None

    def _check_size(self, shape):
        size = self.embedding.output_dim
        if len(shape) < 3 or shape[-1] != size:
            raise ValueError(f"{self._named} takes values [B, T, ..., {size}]; received shape {tuple(shape)}")

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        self._check_size((None, None, *input_spec.shape))
        return SequenceSpec((*input_spec.shape[:-1], self.embedding.input_dim), self.compute_dtype)

    def call_values(self, values: Any, training: bool = False) -> Any:
        untied = getattr(self.embedding, "reverse_embeddings", None)
        if untied is not None:
            y = product(values, self.weight(untied))
        elif self.embedding.quantization_mode is None:
            y = product(values, ops.transpose(self.weight(self.embedding.embeddings)))
        else:
            scale = self.weight(self.embedding.embeddings_scale)
            y = int8_matmul(values, ops.transpose(self.embedding.embeddings), scale)
        y = y if self.bias is None else y + self.weight(self.bias)
        cap = self.logit_soft_cap
        return y if cap is None else cap * ops.tanh(y / cap)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"embedding": Embedding(5, 3)}),
            Example({"embedding": Embedding(5, 3), "use_bias": False, "logit_soft_cap": 2.0}),
        ]


@register
class ReversibleEmbedding(Embedding):
    """A learned vector per integer, and with `reverse=True` logits of vectors.  int [B, T] -> [B, T, output_dim].

    Called with `reverse=True` it maps [B, T, ..., output_dim] to [B, T, ..., input_dim]: that is a layer of its own,
    `reversed()`, which is what models and streams have in the place of such a call. Mask: unchanged, or with
    `mask_zero` also invalid where the index is 0; unchanged in reverse. Timing: none. The weights are those of
    `keras.layers.ReversibleEmbedding`.

    Args:
        input_dim: number of vectors.
        output_dim: their size.
        tie_weights: whether the vectors are also the weights in reverse.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: as in Keras.
        mask_zero: whether index 0 stands for padding.
        reverse_dtype: dtype in which logits are computed, by default the layer's.
        logit_soft_cap: if given, logits are bounded to it by a tanh.

    Raises:
        ValueError: sizes below 1, or `mask_zero` with more than one index a step.
        TypeError: values that are not integers.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.ReversibleEmbedding(10, 3)
        >>> layer(layer(np.array([[1, 2]], "int32")), reverse=True).shape
        (1, 2, 10)
    """

    reverse_embeddings: Any

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        tie_weights: bool = True,
        embeddings_initializer: InitializerLike = "uniform",
        embeddings_regularizer: RegularizerLike = None,
        embeddings_constraint: ConstraintLike = None,
        mask_zero: bool = False,
        reverse_dtype: str | None = None,
        logit_soft_cap: float | None = None,
        **kwargs: Unpack[EmbeddingOptions],
    ) -> None:
        given = locals()
        super().__init__(input_dim, output_dim, mask_zero=mask_zero, **kwargs)
        self.keep(given)
        self._reversed = _Kept()

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        shape = self.output_dim, self.input_dim
        untied = None if self.tie_weights else self.add_parameter("reverse_embeddings", shape, "embeddings")
        self.reverse_embeddings = untied

    def reversed(self) -> EmbeddingTranspose:
        """The layer that gives logits, always the same one."""
        if self._reversed.layer is None:
            dtype = self.dtype_policy if self.reverse_dtype is None else self.reverse_dtype
            options = {"name": f"{self.name}_reversed", "dtype": dtype}
            self._reversed.layer = EmbeddingTranspose(self, False, self.logit_soft_cap, **options)
        return self._reversed.layer

    def __call__(self, x: Any, *args: Any, reverse: bool = False, **kwargs: Any) -> Any:
        """Vectors of integers, or with `reverse` logits of vectors."""
        return (self.reversed() if reverse else super()).__call__(x, *args, **kwargs)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"input_dim": 7, "output_dim": 3, "tie_weights": False}, (4, 12), "int32"),
            Example({"input_dim": 7, "output_dim": 3, "mask_zero": True}, (4, 12), "int32"),
        ]


class _Kept:
    """A layer that is made of another one, where Keras, which would go around in a circle, does not look for it."""

    layer: EmbeddingTranspose | None = None
