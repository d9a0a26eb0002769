"""Layers whose output is a function of a window of inputs, or whose inputs spread over a window of outputs."""

from .base import WindowedLayer as WindowedLayer
from .convolution import Conv1D as Conv1D
from .convolution import DepthwiseConv1D as DepthwiseConv1D
from .pooling import AveragePooling1D as AveragePooling1D
from .pooling import MaxPooling1D as MaxPooling1D
from .transposed import TransposedWindowedLayer as TransposedWindowedLayer
