"""Layers that change what they read by something else that is known: conditioning."""

from .context import Conditioning as Conditioning
from .context import FiLM as FiLM
from .context import UpsampleConditioning as UpsampleConditioning
from .noise import NoiseConditioning as NoiseConditioning
from .style import StyleTokens as StyleTokens
from .synchronous import SynchronousConditioning as SynchronousConditioning
