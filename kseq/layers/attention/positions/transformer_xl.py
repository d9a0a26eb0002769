"""Relative positions as sines of the distance, as Transformer-XL has them."""

import dataclasses
import functools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from ....annotations import InitializerLike
from ....arguments import as_size, check_table
from ....registry import register_position
from ...position_scheme import Position
from .tables import clipped, fresh, reach, select


@register_position
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TransformerXLPosition(Position):
    """Adds the product of a query with a projection of sines and cosines of the distance, and two learned biases.

    A query `q` and a key `k` at a distance have `(q + u) k + (q + v) W s` in common, queries scaled first, where `s`
    are sines, then cosines of how many steps the key is before the query. Weights: `kernel` W [position_bias_dim, H, D]
    and, with `use_bias`, `u` and `v` [H, D].
    Source: Dai et al., 2019, "Transformer-XL: Attentive Language Models beyond a Fixed-Length Context".

    Args:
        max_backward: the largest distance back that is told from those beyond.
        max_forward: the largest distance forward.
        position_bias_dim: size of `s`; an odd number leaves its last element zero.
        use_bias: whether there are `u` and `v`.
        kernel_initializer, bias_initializer: of W, and of `u` and `v`, as Keras has them.

    Raises:
        ValueError: distances that are no integers, negative, or more than 65536, or a size below 1.

    Example:
        >>> import kseq
        >>> kseq.TransformerXLPosition(max_backward=8, position_bias_dim=16)
        TransformerXLPosition(max_backward=8, position_bias_dim=16)
    """

    max_backward: int
    max_forward: int = 0
    position_bias_dim: int = 64
    use_bias: bool = True
    kernel_initializer: InitializerLike = "glorot_uniform"
    bias_initializer: InitializerLike = "zeros"

    uses_distance = True

    def __post_init__(self) -> None:
        self.settle(
            **reach(self.max_backward, self.max_forward),
            position_bias_dim=as_size("position_bias_dim", self.position_bias_dim),
            use_bias=bool(self.use_bias),
            kernel_initializer=keras.initializers.get(self.kernel_initializer),
            bias_initializer=keras.initializers.get(self.bias_initializer),
        )
        check_table("sines of distances", self._rows, self.position_bias_dim)

    @property
    def _rows(self):
        return self.max_backward + 1 + self.max_forward

    @functools.cached_property
    def _sines(self):
        """For each distance from the furthest back on [R, position_bias_dim]: a constant, as sines take time."""
        pairs = self.position_bias_dim // 2
        speeds = 10000.0 ** (-np.arange(pairs) / max(pairs - 1, 1))
        angles = np.arange(self.max_backward, -self.max_forward - 1, -1)[:, None] * speeds
        return np.concatenate([np.sin(angles), np.cos(angles), np.zeros((self._rows, self.position_bias_dim % 2))], -1)

    def add_weights(self, layer: keras.layers.Layer, num_heads: int, key_dim: int) -> dict[str, keras.Variable]:
        heads = (num_heads, key_dim)
        weights = {"kernel": ((self.position_bias_dim, *heads), self.kernel_initializer)}
        if self.use_bias:
            weights |= dict.fromkeys(("u", "v"), (heads, self.bias_initializer))
        return {
            name: layer.add_weight(name=f"position_{name}", shape=shape, initializer=fresh(initializer))
            for name, (shape, initializer) in weights.items()
        }

    def content_query(self, weights: dict[str, Any], query: Any) -> Any:
        return query + weights["u"][:, None, :] if self.use_bias else query

    def bias(self, weights: dict[str, Any], query: Any, distance: Any) -> Any:
        query = query + weights["v"][:, None, :] if self.use_bias else query
        kernel = weights["kernel"]
        sines = ops.convert_to_tensor(self._sines, dtype=query.dtype)
        # (q W) s or q (W s), the same: few queries, as in a step, are projected in the place of many distances.
        if _count(query) < self._rows:
            found = ops.einsum("...hqe,re->...hqr", ops.einsum("...hqd,ehd->...hqe", query, kernel), sines)
        else:
            found = ops.einsum("...hqd,rhd->...hqr", query, ops.einsum("re,ehd->rhd", sines, kernel))
        return select(found, clipped(distance, self.max_backward, self.max_forward))


def _count(query):
    """How many queries [..., H, Q, D] there are, or infinity where that is not known."""
    sizes = [*query.shape[:-3], query.shape[-2]]
    return math.prod(sizes) if all(isinstance(size, int) for size in sizes) else math.inf
