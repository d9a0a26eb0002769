"""`StyleTokens`: what a few learned vectors say of each step."""

import math
from typing import Any, Unpack

from keras import ops

from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ...sequence import SequenceSpec
from ..base import Example
from ..complex_values import real_dtype
from ..float64 import product
from ..stepwise import StepwiseLayer


@register
class StyleTokens(StepwiseLayer):
    """Each step as a mixture of learned tokens, one for each head.  [B, T, C] -> [B, T, num_heads * key_dim].

    Attention of each step to a bank of tokens that belong to the layer: their tanh is projected to keys and values, and
    the heads' mixtures of values stand one after the other. Of an embedding of a reference it makes one of its style,
    on which others are conditioned. Mask: unchanged. Timing: none.
    Source: Wang et al., 2018, "Style Tokens: Unsupervised Style Modeling, Control and Transfer in End-to-End Speech
    Synthesis".

    Args:
        num_tokens: tokens in the bank.
        num_heads: attention heads.
        key_dim: size of each head's queries, keys and values.
        token_dim: size of the tokens, by default `num_heads * key_dim`.
        embeddings_initializer, kernel_initializer, embeddings_regularizer, kernel_regularizer, embeddings_constraint,
            kernel_constraint: as in Keras; the tokens are the embeddings.

    Raises:
        ValueError: sizes below 1, or values of another rank.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.StyleTokens(10, num_heads=2, key_dim=4)(np.zeros((1, 1, 6), "float32")).shape
        (1, 1, 8)
    """

    embeddings: Any
    query_kernel: Any
    key_kernel: Any
    value_kernel: Any

    input_rank: int | None = 3
    takes_complex = False

    num_tokens: int
    num_heads: int
    key_dim: int
    token_dim: int | None

    def __init__(
        self,
        num_tokens: int,
        num_heads: int,
        key_dim: int,
        token_dim: int | None = None,
        embeddings_initializer: InitializerLike = "uniform",
        kernel_initializer: InitializerLike = "glorot_uniform",
        embeddings_regularizer: RegularizerLike = None,
        kernel_regularizer: RegularizerLike = None,
        embeddings_constraint: ConstraintLike = None,
        kernel_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.num_tokens = as_size("num_tokens", num_tokens)
        self.num_heads, self.key_dim = as_size("num_heads", num_heads), as_size("key_dim", key_dim)
        self.token_dim = None if token_dim is None else as_size("token_dim", token_dim)

    def build(self, input_shape: Shape) -> None:
        units = self.num_heads * self.key_dim
        size = units if self.token_dim is None else self.token_dim
        self.embeddings = self.add_parameter("embeddings", (self.num_tokens, size))
        self.query_kernel = self.add_parameter("query_kernel", (input_shape[-1], units), "kernel")
        self.key_kernel = self.add_parameter("key_kernel", (size, units), "kernel")
        self.value_kernel = self.add_parameter("value_kernel", (size, units), "kernel")

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((self.num_heads * self.key_dim,), self.compute_dtype)

    def call_values(self, values: Any, training: bool = False) -> Any:
        heads = self.num_heads, self.key_dim
        tokens = ops.tanh(self.weight(self.embeddings))
        key, value = (
            ops.reshape(product(tokens, self.weight(kernel)), (-1, *heads))
            for kernel in (self.key_kernel, self.value_kernel)
        )
        batch_and_time = ops.shape(values)[:2]
        query = ops.reshape(product(values, self.weight(self.query_kernel)), (*batch_and_time, *heads))
        logits = ops.einsum("bthd,nhd->bthn", query, key) / math.sqrt(self.key_dim)
        logits = ops.cast(logits, real_dtype(self.compute_dtype))
        weights = ops.cast(ops.softmax(logits, axis=-1), self.compute_dtype)
        mixed = ops.einsum("bthn,nhd->bthd", weights, value)
        return ops.reshape(mixed, (*batch_and_time, self.num_heads * self.key_dim))

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"num_tokens": 4, "num_heads": 2, "key_dim": 3}),
            Example({"num_tokens": 3, "num_heads": 1, "key_dim": 2, "token_dim": 5}),
        ]
