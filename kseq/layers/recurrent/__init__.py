"""Recurrent layers."""

from .conv_lstm import ConvLSTM1D as ConvLSTM1D
from .conv_lstm import ConvLSTM2D as ConvLSTM2D
from .gru import GRU as GRU
from .lstm import LSTM as LSTM
from .rnn import RNN as RNN
from .simple_rnn import SimpleRNN as SimpleRNN
from .zoneout import ZoneoutCell as ZoneoutCell
