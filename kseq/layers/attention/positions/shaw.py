"""Relative positions as vectors that queries are compared with."""

import dataclasses
from typing import Any

import keras
from keras import ops

from ....annotations import InitializerLike
from ....registry import register_position
from ...position_scheme import Position
from .tables import clipped, fresh, reach, select


@register_position
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ShawPosition(Position):
    """Adds the product of a query with a learned vector of the distance, one for each head.

    Weight: `embeddings` [max_backward + 1 + max_forward, H, D]; distances beyond have the vectors at its ends.
    Source: Shaw et al., 2018, "Self-Attention with Relative Position Representations".

    Args:
        max_backward: distances back that have a vector of their own.
        max_forward: distances forward that have one.
        scaled_query: whether the query is scaled first, as it is in the paper.
        embeddings_initializer: of the vectors, as Keras has it.

    Raises:
        ValueError: distances that are no integers, negative, or more than 65536.

    Example:
        >>> import kseq
        >>> kseq.ShawPosition(max_backward=3, max_forward=2)
        ShawPosition(max_backward=3, max_forward=2)
    """

    max_backward: int
    max_forward: int = 0
    scaled_query: bool = False
    embeddings_initializer: InitializerLike = "uniform"

    uses_distance = True

    def __post_init__(self) -> None:
        self.settle(
            **reach(self.max_backward, self.max_forward),
            scaled_query=bool(self.scaled_query),
            embeddings_initializer=keras.initializers.get(self.embeddings_initializer),
        )

    def add_weights(self, layer: keras.layers.Layer, num_heads: int, key_dim: int) -> dict[str, keras.Variable]:
        shape = (self.max_backward + 1 + self.max_forward, num_heads, key_dim)
        return {
            "embeddings": layer.add_weight(
                name="position_embeddings", shape=shape, initializer=fresh(self.embeddings_initializer)
            )
        }

    def bias(self, weights: dict[str, Any], query: Any, distance: Any) -> Any:
        found = ops.einsum("...hqd,rhd->...hqr", query, weights["embeddings"])
        return select(found, clipped(distance, self.max_backward, self.max_forward))
