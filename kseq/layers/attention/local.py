"""`LocalSelfAttention`, as `SelfAttention` with a window was called."""

from typing import Any, Unpack

from ...registry import register
from ..base import Example
from .base import AttentionOptions
from .positions import RotaryPosition
from .self_attention import SelfAttention


@register
class LocalSelfAttention(SelfAttention):
    """`kseq.SelfAttention` with a window, under its former name and with a former argument.

    Args:
        num_heads, key_dim, max_past_horizon, max_future_horizon: those of `kseq.SelfAttention`.
        rope_wavelength: that of `position=kseq.RotaryPosition(rope_wavelength)`, or `None`.
        **kwargs: the other options of attention.

    Example:
        >>> import kseq
        >>> kseq.LocalSelfAttention(2, 4, max_past_horizon=3, rope_wavelength=100.0).position
        RotaryPosition(max_wavelength=100.0)
    """

    rope_wavelength: float | None

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        max_past_horizon: int,
        max_future_horizon: int = 0,
        rope_wavelength: float | None = None,
        **kwargs: Unpack[AttentionOptions],
    ) -> None:
        options: Any = kwargs
        if rope_wavelength is not None:
            options["position"] = RotaryPosition(rope_wavelength)
        super().__init__(num_heads, key_dim, max_past_horizon, max_future_horizon, **options)
        self.rope_wavelength = rope_wavelength

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"num_heads": 2, "key_dim": 2, "max_past_horizon": 3, "rope_wavelength": 100.0})]
