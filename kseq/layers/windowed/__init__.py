"""Layers whose output is a function of a window of inputs, or whose inputs spread over a window of outputs."""

from .average_pooling import AveragePooling1D as AveragePooling1D
from .average_pooling import AveragePooling2D as AveragePooling2D
from .average_pooling import AveragePooling3D as AveragePooling3D
from .convolution import Conv1D as Conv1D
from .convolution import Conv2D as Conv2D
from .convolution import Conv3D as Conv3D
from .depthwise import DepthwiseConv1D as DepthwiseConv1D
from .depthwise import DepthwiseConv2D as DepthwiseConv2D
from .lightweight import NormalizedDepthwiseConv1D as NormalizedDepthwiseConv1D
from .pooling import MaxPooling1D as MaxPooling1D
from .pooling import MaxPooling2D as MaxPooling2D
from .pooling import MaxPooling3D as MaxPooling3D
from .pooling import MinPooling1D as MinPooling1D
from .pooling import MinPooling2D as MinPooling2D
from .pooling import MinPooling3D as MinPooling3D
from .separable import SeparableConv1D as SeparableConv1D
from .separable import SeparableConv2D as SeparableConv2D
from .transposed import Conv1DTranspose as Conv1DTranspose
from .transposed import Conv2DTranspose as Conv2DTranspose
from .transposed import Conv3DTranspose as Conv3DTranspose
