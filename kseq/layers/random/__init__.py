"""Layers that draw random numbers."""

from .deterministic import DeterministicDropout as DeterministicDropout
from .dropout import Dropout as Dropout
from .dropout import SpatialDropout1D as SpatialDropout1D
from .noise import GaussianDropout as GaussianDropout
from .noise import GaussianNoise as GaussianNoise
from .noise import Noise as Noise
