"""Layers made of layers, each aligning latencies by itself."""

from .autoregressive import Autoregressive as Autoregressive
from .bidirectional import Bidirectional as Bidirectional
from .blockwise import Blockwise as Blockwise
from .branches import Parallel as Parallel
from .branches import ParallelChannels as ParallelChannels
from .branches import Residual as Residual
from .branches import Skip as Skip
from .checkpoint import CheckpointGradient as CheckpointGradient
from .repeat import Repeat as Repeat
from .serial import Serial as Serial
