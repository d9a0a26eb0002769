"""`SynchronousAttention`: of each step to the steps around it in a source that flows along."""

from ...registry import register
from ..base import Example
from .streamed import StreamedAttention


@register
class SynchronousAttention(StreamedAttention):
    """Multi-head attention of each step to a source that flows along.  [B, T, C], [B, T, S] -> [B, T, output_dim].

    The second input, as long as the first, is what keys and values are made of: a step sees the source's step of the
    same time and those around it, as far as they are valid in the source. All else is as in `kseq.SelfAttention`, whose
    arguments it has; positions, prefixes and sink steps count the source's valid steps. Mask: that of the first input.
    Timing: latency `max_future_horizon`.

    Args:
        num_heads, key_dim, max_past_horizon, max_future_horizon, **kwargs: those of `kseq.SelfAttention`. With
            `use_segment_ids` the ids are the third input.

    Raises:
        ValueError: as `kseq.SelfAttention`, and inputs of unequal length.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.SynchronousAttention(num_heads=2, key_dim=4, max_past_horizon=3)
        >>> layer([np.zeros((1, 7, 6), "float32"), np.zeros((1, 7, 5), "float32")]).shape
        (1, 7, 6)
    """

    has_source = True

    @classmethod
    def examples(cls) -> list[Example]:
        return []  # it has several inputs
