"""Biases by buckets of distances, as T5 has them."""

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
from .tables import clipped, fresh


@register_position
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class T5Position(Position):
    """Adds a learned bias by head and bucket of the distance, the buckets wider the larger it is.

    Half of the buckets are for the distances 0, 1, 2, ..., the others grow with its logarithm up to `max_distance`;
    all from there on share the last one, which in the authors' code begins a bucket earlier. Weight: `embeddings`
    [num_buckets, H].
    Source: Raffel et al., 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer".

    Args:
        num_buckets: number of buckets.
        max_distance: the distance from which on all share the last bucket.
        bidirectional: whether half of the buckets are for keys after the query; otherwise these have the bucket of
            distance 0.
        embeddings_initializer: of the table, as Keras has it.

    Raises:
        ValueError: less than 2 buckets, or 4 in two directions, or a `max_distance` that has a bucket of its own.

    Example:
        >>> import kseq
        >>> kseq.T5Position(num_buckets=6, max_distance=8).buckets()[::-1]
        [0, 1, 2, 3, 3, 4, 4, 4, 5]
    """

    num_buckets: int = 32
    max_distance: int = 128
    bidirectional: bool = False
    embeddings_initializer: InitializerLike = "uniform"

    uses_distance = True

    def __post_init__(self) -> None:
        self.settle(
            num_buckets=as_size("num_buckets", self.num_buckets, 4 if self.bidirectional else 2),
            max_distance=as_size("max_distance", self.max_distance),
            bidirectional=bool(self.bidirectional),
            embeddings_initializer=keras.initializers.get(self.embeddings_initializer),
        )
        if self.max_distance <= self._exact:
            raise ValueError(
                f"`max_distance` must be above {self._exact}, which has one of {self.num_buckets} buckets for itself; "
                f"received {self.max_distance}"
            )
        check_table("buckets of distances", 2 * self.max_distance, most=2**16)

    @property
    def _each_way(self):
        return self.num_buckets // 2 if self.bidirectional else self.num_buckets

    @property
    def _exact(self):
        """Distances that have a bucket of their own."""
        return self._each_way // 2

    @property
    def _reach(self):
        """Distances back and forward, in whose buckets those beyond are too."""
        return self.max_distance, self.max_distance if self.bidirectional else 0

    def buckets(self) -> list[int]:
        """The bucket of each distance, from the furthest back to the furthest forward that is not like all beyond."""
        return self._buckets.tolist()

    @functools.cached_property
    def _buckets(self):
        backward, forward = self._reach
        distance, count, exact = np.arange(-backward, forward + 1), self._each_way, self._exact
        steps = np.abs(distance) if self.bidirectional else np.maximum(-distance, 0)
        # In float32, with its epsilon, as who trained weights computed it: it decides where a bucket begins.
        grown = np.log(np.float32(steps / exact) + np.finfo(np.float32).eps)
        share = grown / np.float32(math.log(self.max_distance / exact))
        wide = exact + (share * np.float32(count - 1 - exact)).astype(np.int32)
        found = np.where(steps < exact, steps, np.where(steps < self.max_distance, wide, count - 1))
        return found + count * ((distance > 0) & self.bidirectional)

    def add_weights(self, layer: keras.layers.Layer, num_heads: int, key_dim: int) -> dict[str, keras.Variable]:
        shape = (self.num_buckets, num_heads)
        return {
            "embeddings": layer.add_weight(
                name="position_embeddings", shape=shape, initializer=fresh(self.embeddings_initializer)
            )
        }

    def bias(self, weights: dict[str, Any], query: Any, distance: Any) -> Any:
        by_distance = ops.take(weights["embeddings"], ops.convert_to_tensor(self._buckets, dtype="int32"), axis=0)
        found = ops.take(by_distance, clipped(distance, *self._reach), axis=0)  # [..., Q, K, H]
        last = len(found.shape) - 1  # axes by their numbers: of negative ones some exporters make no axis
        return ops.transpose(found, (*range(last - 2), last, last - 2, last - 1))
