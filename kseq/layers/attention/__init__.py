"""Attention."""

from .alignment import AdditiveAttention as AdditiveAttention
from .alignment import DynamicConvolutionAttention as DynamicConvolutionAttention
from .alignment import GmmAttention as GmmAttention
from .alignment import LocationSensitiveAttention as LocationSensitiveAttention
from .local import LocalSelfAttention as LocalSelfAttention
