"""Dynamic convolution attention: where it was, moved on by filters that the query makes."""

import math
from typing import Any, Unpack

from keras import ops

from ....annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike
from ....arguments import as_size
from ....registry import register
from ...base import Example
from .recurrent import RecurrentAlignment, around

# Where the prior has no weight, its logarithm is that of this: a query can insist on a longer step.
_LEAST = 1e-6


@register
class DynamicConvolutionAttention(RecurrentAlignment):
    """Attention to a source by where it was before.  [B, T, C] -> [B, T, num_heads, source channels].

    The last weights are seen by filters that are fixed and by filters that the query makes; what the source holds plays
    no part. A prior lets the weights move on by no steps or by up to `max_forward_step`, as a beta-binomial
    distribution says, and not back. The weights begin as one at the first step of the source.

    The logits are `score_kernel . tanh(static features + dynamic features + bias) + log(prior)`, features projected,
    and the prior at least 1e-6.

    Mask: unchanged; an invalid step moves nothing, invalid steps of the source are as if absent, and where it has no
    valid step the output is zero. Timing: no latency; a step depends on all before it.
    Source: Battenberg et al., 2020, "Location-Relative Attention Mechanisms for Robust Long-Form Speech Synthesis".

    Args:
        num_heads: attention heads.
        key_dim: size of each head's hidden layer.
        max_forward_step: the farthest that the prior lets a step move on; filters see as many steps on either side.
        prior_alpha, prior_beta: of the beta-binomial distribution, whose mean is `max_forward_step * prior_alpha /
            (prior_alpha + prior_beta)`.
        num_static_filters: fixed filters of each head.
        num_dynamic_filters: filters that the query makes for each head.
        dynamic_filter_hidden_dim: size of the hidden layer that makes them; by default `key_dim`.
        use_bias: whether that layer, and the one that the logits are made of, have a bias.
        source: name of the source in the context, a sequence [B, S, source channels].
        return_attention_scores: whether the weights of the source's steps are a second output, [B, T, num_heads, S],
            zero at its invalid steps.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            as in Keras.

    Raises:
        ValueError: sizes below 1, or `prior_alpha` or `prior_beta` that is not positive.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.DynamicConvolutionAttention(num_heads=1, key_dim=4, max_forward_step=3)
        >>> layer(np.zeros((1, 7, 6), "float32"), context={"source": np.zeros((1, 5, 8), "float32")}).shape
        (1, 7, 1, 8)
    """

    dynamic_filter_hidden_dim: int
    hidden_kernel: Any
    hidden_bias: Any
    filter_kernel: Any
    static_filters: Any
    location_kernel: Any
    bias: Any
    score_kernel: Any

    max_forward_step: int
    num_static_filters: int
    num_dynamic_filters: int

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        max_forward_step: int = 10,
        prior_alpha: float = 0.1,
        prior_beta: float = 0.9,
        num_static_filters: int = 8,
        num_dynamic_filters: int = 8,
        dynamic_filter_hidden_dim: int | None = None,
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
        for name in ("max_forward_step", "num_static_filters", "num_dynamic_filters"):
            setattr(self, name, as_size(name, getattr(self, name)))
        if dynamic_filter_hidden_dim is not None:
            self.dynamic_filter_hidden_dim = as_size("dynamic_filter_hidden_dim", dynamic_filter_hidden_dim)
        for name in ("prior_alpha", "prior_beta"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive; received {getattr(self, name)!r}")

    @property
    def _filter_size(self) -> int:
        return 2 * self.max_forward_step + 1

    def build_heads(self, channels: int, source_channels: int) -> None:
        heads, head = self.num_heads, (self.num_heads, self.key_dim)
        hidden = self.key_dim if self.dynamic_filter_hidden_dim is None else self.dynamic_filter_hidden_dim
        filters = self._filter_size * self.num_dynamic_filters
        self.hidden_kernel = self.add_parameter("hidden_kernel", (channels, heads, hidden), "kernel")
        self.hidden_bias = self.add_parameter("hidden_bias", (heads, hidden), "bias") if self.use_bias else None
        self.filter_kernel = self.add_parameter("filter_kernel", (heads, hidden, filters), "kernel")
        static = (self._filter_size, heads, self.num_static_filters)
        self.static_filters = self.add_parameter("static_filters", static, "kernel")
        features = (heads, self.num_static_filters + self.num_dynamic_filters, self.key_dim)
        self.location_kernel = self.add_parameter("location_kernel", features, "kernel")
        self.bias = self.add_parameter("bias", head) if self.use_bias else None
        self.score_kernel = self.add_parameter("score_kernel", head, "kernel")
        taps = beta_binomial(self.max_forward_step, self.prior_alpha, self.prior_beta)
        self._prior = [*reversed(taps), *[0.0] * self.max_forward_step]  # by the step that is seen, the last one first

    def project_query(self, values: Any) -> Any:
        """The filters of every step, [B, T, H * size * filters]."""
        hidden = ops.tanh(self.by_heads(values, self.hidden_kernel, self.hidden_bias))
        filters = ops.einsum("bthd,hdn->bthn", hidden, self.weight(self.filter_kernel))
        return ops.reshape(filters, (*ops.shape(filters)[:2], self.num_heads * filters.shape[-1]))

    def logits(self, query: Any, tracks: Any, source: dict[str, Any]) -> Any:
        filters = ops.reshape(query, (-1, self.num_heads, self._filter_size, self.num_dynamic_filters))
        seen = around(tracks[:, 0], self.max_forward_step, self.max_forward_step)  # [B, H, S, size]
        prior = ops.log(ops.maximum(ops.matmul(seen, ops.convert_to_tensor(self._prior, seen.dtype)), _LEAST))
        seen = ops.cast(seen, self.compute_dtype)
        static = ops.einsum("bhsk,khf->bhsf", seen, self.weight(self.static_filters))
        dynamic = ops.einsum("bhsk,bhkf->bhsf", seen, filters)
        features = ops.concatenate([static, dynamic], axis=-1)
        hidden = ops.einsum("bhsf,hfd->bhsd", features, self.weight(self.location_kernel))
        if self.bias is not None:
            hidden = hidden + self.weight(self.bias)[:, None]
        scores = ops.einsum("bhsd,hd->bhs", ops.tanh(hidden), self.weight(self.score_kernel))
        return ops.cast(scores, prior.dtype) + prior

    @classmethod
    def examples(cls) -> list[Example]:
        small = {"num_heads": 2, "key_dim": 3, "max_forward_step": 2, "num_static_filters": 2, "num_dynamic_filters": 3}
        other = {"num_heads": 1, "dynamic_filter_hidden_dim": 4, "use_bias": False, "source": "text"}
        return [
            Example(small, context={"source": (5, 4)}),
            Example(small | other | {"prior_alpha": 1.0, "prior_beta": 1.0}, context={"text": (6, 2)}),
        ]


def beta_binomial(n: int, alpha: float, beta: float) -> list[float]:
    """The probabilities of 0 to `n` successes in `n` trials, whose chance has the beta distribution of these numbers.

    Example:
        >>> [round(p, 3) for p in beta_binomial(3, 1.0, 1.0)]
        [0.25, 0.25, 0.25, 0.25]
    """

    def log_beta(a, b):
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    whole = log_beta(alpha, beta)
    return [math.comb(n, k) * math.exp(log_beta(k + alpha, n - k + beta) - whole) for k in range(n + 1)]
