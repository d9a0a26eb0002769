"""Location sensitive attention: additive attention that sees where it was."""

from typing import Any, Unpack

from keras import ops

from ....annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike
from ....arguments import as_size, check_choice
from ....registry import register
from ...base import Example
from .recurrent import RecurrentAlignment, around


@register
class LocationSensitiveAttention(RecurrentAlignment):
    """Additive attention to a source that also sees its last weights.  [B, T, C] -> [B, T, num_heads, source channels].

    To query and key are added features of the weights of the step before and of the sum of all weights so far: of each
    head a convolution of its own over the source's steps. Both begin as one at the first step of the source.

    Mask: unchanged; an invalid step moves nothing, invalid steps of the source are as if absent, and where it has no
    valid step the output is zero. Timing: no latency; a step depends on all before it.
    Source: Chorowski et al., 2015, "Attention-Based Models for Speech Recognition"; Shen et al., 2018, "Natural TTS
    Synthesis by Conditioning WaveNet on Mel Spectrogram Predictions" for the sum.

    Args:
        num_heads: attention heads.
        key_dim: size of each head's queries and keys.
        location_num_filters: features of each head's convolution.
        location_filter_size: steps of the source that a feature sees.
        location_filter_padding: "same", by which a step has features of those around it, or "valid", by which it has
            features of itself and those after it, and none where they reach beyond the end of the source.
        use_bias: whether keys have a bias.
        source: name of the source in the context, a sequence [B, S, source channels].
        return_attention_scores: whether the weights of the source's steps are a second output, [B, T, num_heads, S],
            zero at its invalid steps.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            as in Keras.

    Raises:
        ValueError: sizes below 1, or another padding.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.LocationSensitiveAttention(2, 4, location_num_filters=3, location_filter_size=5)
        >>> layer(np.zeros((1, 7, 6), "float32"), context={"source": np.zeros((1, 5, 8), "float32")}).shape
        (1, 7, 2, 8)
    """

    query_kernel: Any
    key_kernel: Any
    key_bias: Any
    filter_kernel: Any
    location_kernel: Any
    score_kernel: Any

    location_num_filters: int
    location_filter_size: int

    tracks = 2  # the last weights, and the sum of all

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        location_num_filters: int,
        location_filter_size: int,
        location_filter_padding: str = "same",
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
        self.location_num_filters = as_size("location_num_filters", location_num_filters)
        self.location_filter_size = as_size("location_filter_size", location_filter_size)
        check_choice("location_filter_padding", location_filter_padding, ("same", "valid"))

    def build_heads(self, channels: int, source_channels: int) -> None:
        head = (self.num_heads, self.key_dim)
        filters = (self.location_filter_size, self.tracks, self.num_heads, self.location_num_filters)
        self.query_kernel = self.add_parameter("query_kernel", (channels, *head), "kernel")
        self.key_kernel = self.add_parameter("key_kernel", (source_channels, *head), "kernel")
        self.key_bias = self.add_parameter("key_bias", head, "bias") if self.use_bias else None
        self.filter_kernel = self.add_parameter("filter_kernel", filters, "kernel")
        location = (self.num_heads, self.location_num_filters, self.key_dim)
        self.location_kernel = self.add_parameter("location_kernel", location, "kernel")
        self.score_kernel = self.add_parameter("score_kernel", head, "kernel")

    def project_source(self, values: Any) -> dict[str, Any]:
        keys = self.by_heads(values, self.key_kernel, self.key_bias)
        return {"keys": ops.transpose(keys, (0, 2, 1, 3))}  # [B, H, S, D]

    def project_query(self, values: Any) -> Any:
        return ops.matmul(values, ops.reshape(self.weight(self.query_kernel), (values.shape[-1], -1)))

    def logits(self, query: Any, tracks: Any, source: dict[str, Any]) -> Any:
        query = ops.reshape(query, (-1, self.num_heads, 1, self.key_dim))
        seen = ops.cast(self._seen(tracks, source["mask"]), self.compute_dtype)
        features = ops.einsum("bahsk,kahf->bhsf", seen, self.weight(self.filter_kernel))
        location = ops.einsum("bhsf,hfd->bhsd", features, self.weight(self.location_kernel))
        hidden = ops.tanh(query + source["keys"] + location)
        return ops.einsum("bhsd,hd->bhs", hidden, self.weight(self.score_kernel))

    def _seen(self, tracks, mask):
        """What the filters see of the tracks [B, A, H, S] at every step, [B, A, H, S, size]."""
        others = self.location_filter_size - 1
        if self.location_filter_padding == "same":
            return around(tracks, others // 2, others - others // 2)
        seen = around(tracks, 0, others)
        last = around(ops.cast(mask, tracks.dtype), 0, others)[..., -1]
        return seen * last[:, None, None, :, None]

    def move(self, weights: Any, tracks: Any) -> Any:
        return ops.stack([weights, tracks[:, 1] + weights], axis=1)

    @classmethod
    def examples(cls) -> list[Example]:
        small = {"num_heads": 2, "key_dim": 3, "location_num_filters": 2, "location_filter_size": 3}
        other = {"location_filter_size": 2, "location_filter_padding": "valid", "use_bias": False, "source": "text"}
        return [Example(small, context={"source": (5, 4)}), Example(small | other, context={"text": (6, 2)})]
