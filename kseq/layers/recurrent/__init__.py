"""Recurrent layers."""

from .gated import GRU as GRU
from .gated import LSTM as LSTM
from .minimal import MinGRU as MinGRU
from .minimal import MinLSTM as MinLSTM
from .rg_lru import RGLRU as RGLRU
from .s4d import S4D as S4D
from .s5 import S5 as S5
