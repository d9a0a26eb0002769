"""Attention."""

from .base import Attention as Attention
from .local import LocalSelfAttention as LocalSelfAttention
from .self_attention import SelfAttention as SelfAttention
from .positions import AlibiPosition as AlibiPosition
from .positions import RotaryPosition as RotaryPosition
from .positions import ShawPosition as ShawPosition
from .positions import T5Position as T5Position
from .positions import TransformerXLPosition as TransformerXLPosition
