"""Alignments that depend on those of the step before, by convolutions over the source's steps."""

from typing import Any

import keras
from keras import ops

from ....sequence import Sequence
from ...loops import scan
from .base import Alignment, weights_of


class RecurrentAlignment(Alignment):
    """An alignment whose weights follow from the last ones: a scan over the steps, whatever the length of the chunk.

    A subclass says what steps need of their queries, which is computed for all of a chunk at once (`project_query`),
    the logits of one step (`logits`), and what moves: tracks [B, tracks, H, S], the last weights first (`move`).
    """

    tracks: int = 1

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if keras.backend.backend() == "tensorflow":
            self.supports_jit = False  # XLA does not compile the gradient of Keras's scan there

    def project_query(self, values: Any) -> Any:
        """What steps need of their queries [B, T, C]: one array [B, T, N] of the compute dtype."""
        raise NotImplementedError

    def logits(self, query: Any, tracks: Any, source: dict[str, Any]) -> Any:
        """Logits [B, H, S] of one step, from what `project_query` says of it [B, N] and from the tracks so far."""
        raise NotImplementedError

    def move(self, weights: Any, tracks: Any) -> Any:
        """The tracks after a step of these weights [B, H, S]."""
        return weights[:, None]

    def begin(self, mask: Any) -> Any:
        """Each track is one at the first step of the source: what is read then is around there."""
        first = ops.arange(0, ops.shape(mask)[1]) == 0
        start = ops.cast(ops.logical_and(mask, first[None, :]), self.wide_dtype)[:, None, None, :]
        return {"tracks": ops.tile(start, (1, self.tracks, self.num_heads, 1))}

    def align(self, x: Sequence, source: dict[str, Any], alignment: Any) -> tuple[Any, Any]:
        query = self.project_query(x.values)
        given = (query,) if x.mask is None else (query, x.mask)

        def step(tracks, given):
            query, *valid = given
            logits = ops.cast(self.logits(query, tracks, source), self.wide_dtype)
            moved = self.move(weights_of(logits, source["mask"][:, None]), tracks)
            return ops.where(valid[0][:, None, None, None], moved, tracks) if valid else moved

        tracks = alignment["tracks"]
        if query.shape[1] == 1:
            tracks = step(tracks, [part[:, 0] for part in given])
            return tracks[:, :1], {"tracks": tracks}
        by_time = tuple(ops.swapaxes(part, 0, 1) for part in given)
        tracks, history = scan(lambda tracks, given: (step(tracks, given),) * 2, tracks, by_time)
        return ops.transpose(history[:, :, 0], (1, 0, 2, 3)), {"tracks": tracks}


def around(tracks: Any, left: int, right: int) -> Any:
    """Of every step of [..., S] itself and those around it, zero beyond both ends: [..., S, left + 1 + right]."""
    ends = [(0, 0)] * (len(tracks.shape) - 1)
    padded = ops.pad(tracks, [*ends, (left, right)])
    size = left + 1 + right
    # Slices, whose gradients are sums; that of a gather is a scatter.
    return ops.stack([padded[..., k : k + 1 - size or None] for k in range(size)], axis=-1)
