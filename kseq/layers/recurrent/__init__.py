"""Recurrent layers."""

from .conv_lstm import ConvLSTM1D as ConvLSTM1D
from .conv_lstm import ConvLSTM2D as ConvLSTM2D
from .delta_net import GatedDeltaNet as GatedDeltaNet
from .gru import GRU as GRU
from .linear_attention import GatedLinearAttention as GatedLinearAttention
from .linear_attention import Retention as Retention
from .lstm import LSTM as LSTM
from .mamba import Mamba2 as Mamba2
from .minimal import MinGRU as MinGRU
from .minimal import MinLSTM as MinLSTM
from .mlstm import MLSTM as MLSTM
from .rg_lru import RGLRU as RGLRU
from .rnn import RNN as RNN
from .s4d import S4D as S4D
from .s5 import S5 as S5
from .simple_rnn import SimpleRNN as SimpleRNN
from .zoneout import ZoneoutCell as ZoneoutCell
