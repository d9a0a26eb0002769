"""Recurrent layers."""

from .gated import GRU as GRU
from .gated import LSTM as LSTM
from .mamba import Mamba2 as Mamba2
