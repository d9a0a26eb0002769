"""`SelfAttention`: of each step to a window around it, or to all that came before."""

from ...registry import register
from ..base import Example
from .streamed import StreamedAttention


@register
class SelfAttention(StreamedAttention):
    """Multi-head attention of each step to the steps around it.  [B, T, C] -> [B, T, output_dim].

    A step sees itself, `max_past_horizon` steps before it (by default all of them) and `max_future_horizon` steps after
    it, as far as they are valid. Mask: unchanged. Timing: latency `max_future_horizon`. State: a cache of keys and
    values, written in place: a ring of the window's size, or of `max_length` steps where the past is unlimited. Layer
    mode takes time and memory that grow with the window, and where there is none keeps the weights of a part of the
    queries at a time. The weights are laid out as those of `keras.layers.MultiHeadAttention` and `GroupQueryAttention`.
    Source: Vaswani et al., 2017, "Attention Is All You Need"; Ainslie et al., 2023, "GQA"; Xiao et al., 2023,
    "Efficient Streaming Language Models with Attention Sinks" for `num_sink_steps`.

    Args:
        num_heads: heads of queries.
        key_dim: size of each head's queries and keys.
        max_past_horizon: steps before each that it sees, `None` for all.
        max_future_horizon: steps after each that it sees; `None` for all of them does not stream. Of several numbers,
            `[0, 4, 16]`, every call draws one while training, and otherwise the last holds: `kseq.at_horizon` gives the
            model with one of them, and its latency, and one set of weights serves all.
        block_size: steps of a block, which see one another; horizons then count blocks, and so does a stream.
        prefix_length: so many first valid steps of a sequence, or segment, see one another. The latency is at least one
            less.
        use_segment_ids: whether there is a second input, integers [B, T]: wherever the id of a valid step differs from
            the one before a segment begins. Steps see their own segment alone, and positions begin anew with it. Ids
            grow, but for padding of 0: where they have values, in calls and steps that are not compiled, such as go
            back are refused; elsewhere one that comes back is another segment.
        max_length: steps of a stream, where the past is unlimited.
        overflow: what a longer stream does: `"error"`, or `"slide"`, which sees the last `max_length` steps, in layer
            mode as well.
        num_sink_steps: so many first valid steps are seen however long ago they were.
        max_rollback: steps that a stream can be rolled back by, where the past is limited.
        cache_dtype: the dtype that keys and values are kept in, `"bfloat16"`, `"float16"` or `"int8"` (with a scale for
            each step and head); layer mode rounds alike.
        **kwargs: the options of all attention: see `kseq.layers.attention.Attention`.

    Raises:
        ValueError: sizes below 1, negative horizons, or options that exclude each other; ids of segments that go back.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.SelfAttention(num_heads=2, key_dim=4, max_past_horizon=3, max_future_horizon=1)
        >>> layer(np.zeros((1, 7, 6), "float32")).shape, layer.timing.output_latency
        ((1, 7, 6), 1)
    """

    @classmethod
    def examples(cls) -> list[Example]:
        small = {"num_heads": 2, "key_dim": 2, "max_past_horizon": 3}
        return [
            Example(small | {"max_future_horizon": 2, "use_bias": False, "output_dim": 4}),
            Example({"num_heads": 2, "key_dim": 2, "max_length": 32, "num_key_value_heads": 1}),
        ]
