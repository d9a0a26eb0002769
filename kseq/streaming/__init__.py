"""Streaming: any Keras model of streamable layers, block by block."""

from .adapters import pointwise as pointwise
from .graph import as_layer as as_layer
from .horizon import at_horizon as at_horizon
from .step import StepFunction as StepFunction
from .stream import Stream as Stream
from .streamable import streamable as streamable
from .traceable import traceable as traceable
