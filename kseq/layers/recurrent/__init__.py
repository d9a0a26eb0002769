"""Recurrent layers."""

from .gated import GRU as GRU
from .gated import LSTM as LSTM
from .rg_lru import RGLRU as RGLRU
