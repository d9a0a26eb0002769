"""Additive attention: what a source holds, compared with a query by a hidden layer."""

from typing import Any, Unpack

from keras import ops

from ....annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike
from ....registry import register
from ....sequence import Sequence
from ...base import Example
from ..in_blocks import Keys, Queries, in_parts
from ..visibility import Steps
from .base import Alignment, weights_of


@register
class AdditiveAttention(Alignment):
    """Bahdanau's attention to a source given as context.  [B, T, C] -> [B, T, num_heads, source channels].

    The weights of the source's steps are a softmax of `score_kernel . tanh(query + key)` in each head, query and key
    projected. `keras.layers.AdditiveAttention` is another layer: it projects nothing, and values are an input of it.

    Mask: unchanged; invalid steps of the source are as if absent, and where it has no valid step the output is zero.
    Timing: none.
    Source: Bahdanau et al., 2014, "Neural Machine Translation by Jointly Learning to Align and Translate".

    Args:
        num_heads: attention heads.
        key_dim: size of each head's queries and keys.
        use_bias: whether keys have a bias.
        source: name of the source in the context, a sequence [B, S, source channels].
        return_attention_scores: whether the weights of the source's steps are a second output, [B, T, num_heads, S],
            zero at its invalid steps.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            as in Keras.

    Raises:
        ValueError: sizes below 1.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.AdditiveAttention(num_heads=2, key_dim=4)
        >>> layer(np.zeros((1, 7, 6), "float32"), context={"source": np.zeros((1, 5, 8), "float32")}).shape
        (1, 7, 2, 8)
    """

    query_kernel: Any
    key_kernel: Any
    key_bias: Any
    score_kernel: Any

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        use_bias: bool = True,
        source: str = "source",
        return_attention_scores: bool = False,
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
        self.read_heads()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        if "num_heads" not in config:
            raise ValueError(
                "the configuration of a kseq.AdditiveAttention must have `num_heads` and `key_dim`; received "
                f"{sorted(config)}: keras.layers.AdditiveAttention is another layer, whose query and value are both "
                "inputs and which has no weights for them"
            )
        return super().from_config(config)

    def build_heads(self, channels: int, source_channels: int) -> None:
        head = (self.num_heads, self.key_dim)
        self.query_kernel = self.add_parameter("query_kernel", (channels, *head), "kernel")
        self.key_kernel = self.add_parameter("key_kernel", (source_channels, *head), "kernel")
        self.key_bias = self.add_parameter("key_bias", head, "bias") if self.use_bias else None
        self.score_kernel = self.add_parameter("score_kernel", head, "kernel")

    @property
    def moves(self) -> bool:
        return False

    def project_source(self, values: Any) -> dict[str, Any]:
        keys = self.by_heads(values, self.key_kernel, self.key_bias)
        return {"keys": ops.transpose(keys, (0, 2, 1, 3))}  # [B, H, S, D]

    def align(self, x: Sequence, source: dict[str, Any], alignment: Any) -> tuple[Any, Any]:
        query = ops.transpose(self.by_heads(x.values, self.query_kernel), (0, 2, 1, 3))  # [B, H, T, D]
        steps = Steps(None, source["mask"])
        keys = Keys(source["keys"], source["keys"], steps)
        weights = in_parts(self._weights, Queries(query, Steps(None)), keys, None, self.variables)
        return ops.transpose(weights, (0, 2, 1, 3)), alignment

    def _weights(self, queries, keys):
        hidden = ops.tanh(queries.query[:, :, :, None] + keys.key[:, :, None])  # [B, H, T, S, D]
        logits = ops.einsum("bhtsd,hd->bhts", hidden, self.weight(self.score_kernel))
        return weights_of(ops.cast(logits, self.wide_dtype), keys.steps.valid[:, None, None, :])

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"num_heads": 2, "key_dim": 3}, context={"source": (5, 4)}),
            Example({"num_heads": 1, "key_dim": 2, "use_bias": False, "source": "text"}, context={"text": (6, 2)}),
        ]
