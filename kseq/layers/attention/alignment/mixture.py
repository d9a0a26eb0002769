"""Attention by a mixture of Gaussians over the positions of a source."""

import math
from typing import Any, Unpack

from keras import ops

from ....annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike
from ....arguments import as_size
from ....registry import register
from ....sequence import Sequence
from ...base import Example
from .base import Alignment


@register
class GmmAttention(Alignment):
    """Attention to a source by Gaussians over its positions.  [B, T, C] -> [B, T, num_heads, source channels].

    Each step says, by a hidden layer for every head, where the components are, how wide they are and how much each
    counts; what the source holds plays no part in it. With `monotonic` a step says how far the components move on from
    where they were. Positions count the valid steps of the source. The weights of its steps do not sum to one: they are
    the densities times the variances, by which a wide component counts more.

    Mask: unchanged; an invalid step moves nothing, and invalid steps of the source are as if absent. Timing: no
    latency; with `monotonic` a step depends on all before it.
    Source: Graves, 2013, "Generating Sequences With Recurrent Neural Networks"; Battenberg et al., 2020,
    "Location-Relative Attention Mechanisms for Robust Long-Form Speech Synthesis".

    Args:
        num_heads: attention heads.
        key_dim: size of each head's hidden layer.
        num_components: Gaussians of each head.
        monotonic: whether components move on from where the last step left them, and never back.
        init_offset_bias: added to what becomes the components' positions, or steps, by a softplus.
        init_scale_bias: added to what becomes the components' standard deviations by a softplus.
        max_offset: bound of positions, or of steps where `monotonic`; `None` for none.
        use_bias: whether the output of the hidden layer is projected with a bias.
        source: name of the source in the context, a sequence [B, S, source channels].
        return_attention_scores: whether the weights of the source's steps are a second output, [B, T, num_heads, S],
            zero at its invalid steps.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint:
            as in Keras.

    Raises:
        ValueError: sizes below 1, or a bound that is not positive.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.GmmAttention(num_heads=2, key_dim=4, num_components=3, monotonic=True)
        >>> layer(np.zeros((1, 7, 6), "float32"), context={"source": np.zeros((1, 5, 8), "float32")}).shape
        (1, 7, 2, 8)
    """

    hidden_kernel: Any
    kernel: Any
    bias: Any

    num_components: int

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        num_components: int,
        monotonic: bool = True,
        init_offset_bias: float = 0.0,
        init_scale_bias: float = 0.0,
        max_offset: float | None = None,
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
        self.num_components = as_size("num_components", num_components)
        if max_offset is not None and not max_offset > 0:
            raise ValueError(f"`max_offset` must be positive, or None for no bound; received {max_offset!r}")

    def build_heads(self, channels: int, source_channels: int) -> None:
        kinds = (self.num_components, 3)  # how much a component counts, where it is, how wide
        self.hidden_kernel = self.add_parameter("hidden_kernel", (channels, self.num_heads, self.key_dim), "kernel")
        self.kernel = self.add_parameter("kernel", (self.num_heads, self.key_dim, *kinds))
        self.bias = self.add_parameter("bias", (self.num_heads, *kinds)) if self.use_bias else None

    @property
    def moves(self) -> bool:
        return self.monotonic

    def begin(self, mask: Any) -> Any:
        if not self.monotonic:
            return ()
        return {"position": ops.zeros((ops.shape(mask)[0], self.num_heads, self.num_components), self.wide_dtype)}

    def align(self, x: Sequence, source: dict[str, Any], alignment: Any) -> tuple[Any, Any]:
        hidden = ops.relu(self.by_heads(x.values, self.hidden_kernel))
        said = ops.einsum("bthd,hdkn->bthkn", hidden, self.weight(self.kernel))
        if self.bias is not None:
            said = said + self.weight(self.bias)
        said = ops.cast(said, self.wide_dtype)
        prior = _shares(said[..., 0])
        center = self._offset(said[..., 1] + self.init_offset_bias)
        variance = ops.square(ops.softplus(said[..., 2] + self.init_scale_bias))
        if self.monotonic:
            center, alignment = _moved(center, x.mask, alignment["position"])
        return _densities(prior, center, variance, source["mask"]), alignment

    def _offset(self, x):
        if self.max_offset is None:
            return ops.softplus(x)
        return ops.softplus(x) - ops.softplus(x - self.max_offset)  # a straight line between, and flat outside

    @classmethod
    def examples(cls) -> list[Example]:
        small = {"num_heads": 2, "key_dim": 3, "num_components": 2}
        context = {"source": (5, 4)}
        return [
            Example(small, context=context),
            Example(small | {"max_offset": 1.5, "init_offset_bias": 0.5, "use_bias": False}, context=context),
            Example(small | {"monotonic": False, "source": "text", "num_heads": 1}, context={"text": (6, 2)}),
        ]


def _shares(logits):
    """The softmax; of one component without a look, of which Keras warns."""
    return ops.softmax(logits, axis=-1) if logits.shape[-1] > 1 else ops.ones_like(logits)


def _moved(steps, mask, position):
    """Positions [B, T, H, K] after every step, which are sums, and the last of them."""
    if mask is not None:
        steps = ops.where(mask[:, :, None, None], steps, ops.zeros_like(steps))
    center = position[:, None] + ops.cumsum(steps, axis=1)
    return center, {"position": center[:, -1]}


def _densities(prior, center, variance, mask):
    """The weights [B, T, H, S] of components [B, T, H, K]."""
    height = prior * ops.sqrt(2 * math.pi * variance + 1e-8)
    steps = ops.cast(ops.arange(0, ops.shape(mask)[1]), center.dtype)[:, None]
    away = ops.square(steps - center[:, :, :, None, :])  # [B, T, H, S, K]
    weights = ops.exp(-away / (2 * variance + 1e-9)[:, :, :, None, :])
    weights = ops.einsum("bthsk,bthk->bths", weights, height)
    return ops.where(mask[:, None, None, :], weights, ops.zeros_like(weights))
