"""The layers, a module or a package a family."""

from .activation import Activation as Activation
from .activation import Dropout as Dropout
from .attention import LocalSelfAttention as LocalSelfAttention
from .base import SequenceLayer as SequenceLayer
from .combinators import Parallel as Parallel
from .combinators import Repeat as Repeat
from .combinators import Residual as Residual
from .combinators import Serial as Serial
from .delay import Delay as Delay
from .delay import Lookahead as Lookahead
from .dense import Dense as Dense
from .dense import Embedding as Embedding
from .network import Network as Network
from .normalization import LayerNormalization as LayerNormalization
from .normalization import RMSNormalization as RMSNormalization
from .recurrent import GRU as GRU
from .recurrent import LSTM as LSTM
from .stepwise import StepwiseLayer as StepwiseLayer
from .windowed import AveragePooling1D as AveragePooling1D
from .windowed import Conv1D as Conv1D
from .windowed import DepthwiseConv1D as DepthwiseConv1D
from .windowed import MaxPooling1D as MaxPooling1D
from .windowed import TransposedWindowedLayer as TransposedWindowedLayer
from .windowed import WindowedLayer as WindowedLayer
