"""Attention."""

from .base import Attention as Attention
from .local import LocalSelfAttention as LocalSelfAttention
from .self_attention import SelfAttention as SelfAttention
