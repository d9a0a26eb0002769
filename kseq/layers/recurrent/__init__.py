"""Recurrent layers."""

from .gru import GRU as GRU
from .lstm import LSTM as LSTM
from .simple_rnn import SimpleRNN as SimpleRNN
