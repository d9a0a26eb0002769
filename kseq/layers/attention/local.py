"""`LocalSelfAttention`, as `SelfAttention` with a window was called."""

from typing import Any, Unpack

from .base import AttentionOptions
from .self_attention import SelfAttention


def LocalSelfAttention(
    num_heads: int,
    key_dim: int,
    max_past_horizon: int,
    max_future_horizon: int = 0,
    rope_wavelength: float | None = None,
    **kwargs: Unpack[AttentionOptions],
) -> SelfAttention:
    """`kseq.SelfAttention` with a window, under its former name; specs and saved models may name it, too.

    Args:
        num_heads, key_dim, max_past_horizon, max_future_horizon: those of `kseq.SelfAttention`.
        rope_wavelength: longest wavelength of rotary positions, or `None` for no positions.
        **kwargs: the other options of attention.

    Example:
        >>> import kseq
        >>> kseq.LocalSelfAttention(2, 4, max_past_horizon=3).max_past_horizon
        3
    """
    options: Any = kwargs
    return SelfAttention(num_heads, key_dim, max_past_horizon, max_future_horizon, position=rope_wavelength, **options)
