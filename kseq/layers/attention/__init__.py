"""Attention."""

from .base import Attention as Attention
from .cross_attention import CrossAttention as CrossAttention
from .alignment import AdditiveAttention as AdditiveAttention
from .alignment import DynamicConvolutionAttention as DynamicConvolutionAttention
from .alignment import GmmAttention as GmmAttention
from .alignment import LocationSensitiveAttention as LocationSensitiveAttention
from .local import LocalSelfAttention as LocalSelfAttention
from .positions import AlibiPosition as AlibiPosition
from .positions import RotaryPosition as RotaryPosition
from .positions import ShawPosition as ShawPosition
from .positions import T5Position as T5Position
from .positions import TransformerXLPosition as TransformerXLPosition
from .self_attention import SelfAttention as SelfAttention
from .synchronous import SynchronousAttention as SynchronousAttention
