"""Streaming: any Keras model of streamable layers, block by block."""

from .adapters import pointwise as pointwise
from .declared import traceable as traceable
from .graph import as_layer as as_layer
from .horizon import at_horizon as at_horizon
from .model_layer import streamable as streamable
from .step import StepFunction as StepFunction
from .stream import Stream as Stream
