"""Recurrent layers."""

from .conv_lstm import ConvLSTM1D as ConvLSTM1D
from .conv_lstm import ConvLSTM2D as ConvLSTM2D
from .gru import GRU as GRU
from .lstm import LSTM as LSTM
from .mamba import Mamba2 as Mamba2
from .simple_rnn import SimpleRNN as SimpleRNN
from .gated import GRU as GRU
from .gated import LSTM as LSTM
from .rg_lru import RGLRU as RGLRU
from .rnn import RNN as RNN
from .simple_rnn import SimpleRNN as SimpleRNN
from .zoneout import ZoneoutCell as ZoneoutCell
from .delta_net import GatedDeltaNet as GatedDeltaNet
from .gated import GRU as GRU
from .gated import LSTM as LSTM
from .linear_attention import GatedLinearAttention as GatedLinearAttention
from .linear_attention import Retention as Retention
from .mamba import Mamba2 as Mamba2
from .mlstm import MLSTM as MLSTM
