"""Recurrent layers."""

from .delta_net import GatedDeltaNet as GatedDeltaNet
from .gated import GRU as GRU
from .gated import LSTM as LSTM
from .linear_attention import GatedLinearAttention as GatedLinearAttention
from .linear_attention import Retention as Retention
from .mamba import Mamba2 as Mamba2
from .mlstm import MLSTM as MLSTM
