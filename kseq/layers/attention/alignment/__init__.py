"""Attention to a source that is given as context, by alignments that move along it."""

from .additive import AdditiveAttention as AdditiveAttention
from .dynamic import DynamicConvolutionAttention as DynamicConvolutionAttention
from .location import LocationSensitiveAttention as LocationSensitiveAttention
from .mixture import GmmAttention as GmmAttention
