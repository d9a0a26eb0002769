"""Attention."""

from .local import LocalSelfAttention as LocalSelfAttention
