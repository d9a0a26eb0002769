"""Layers that give the same numbers in other shapes: of channels, of a part of them, or of time and channels."""

from .channels import ExpandDims as ExpandDims
from .channels import Flatten as Flatten
from .channels import MoveAxis as MoveAxis
from .channels import Reshape as Reshape
from .channels import Squeeze as Squeeze
from .channels import SwapAxes as SwapAxes
from .channels import Transpose as Transpose
from .over_time import GlobalEinopsRearrange as GlobalEinopsRearrange
from .over_time import GlobalReshape as GlobalReshape
from .over_time import ReverseSequence as ReverseSequence
from .selection import EinopsRearrange as EinopsRearrange
from .selection import Slice as Slice
