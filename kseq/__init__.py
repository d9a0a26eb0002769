"""kseq: write an ordinary Keras model, train it on whole sequences, stream it block by block with the same numbers."""

import importlib
import typing

from . import backend

backend.choose()

from . import masks as masks  # noqa: E402
from . import padding as padding  # noqa: E402
from . import ragged as ragged  # noqa: E402
from . import testing as testing  # noqa: E402
from .layers import GRU as GRU  # noqa: E402
from .layers import LSTM as LSTM  # noqa: E402
from .layers import Activation as Activation  # noqa: E402
from .layers import AveragePooling1D as AveragePooling1D  # noqa: E402
from .layers import Conv1D as Conv1D  # noqa: E402
from .layers import Delay as Delay  # noqa: E402
from .layers import Dense as Dense  # noqa: E402
from .layers import DepthwiseConv1D as DepthwiseConv1D  # noqa: E402
from .layers import Dropout as Dropout  # noqa: E402
from .layers import Embedding as Embedding  # noqa: E402
from .layers import LayerNormalization as LayerNormalization  # noqa: E402
from .layers import LocalSelfAttention as LocalSelfAttention  # noqa: E402
from .layers import Lookahead as Lookahead  # noqa: E402
from .layers import MaxPooling1D as MaxPooling1D  # noqa: E402
from .layers import Parallel as Parallel  # noqa: E402
from .layers import Repeat as Repeat  # noqa: E402
from .layers import Residual as Residual  # noqa: E402
from .layers import RMSNormalization as RMSNormalization  # noqa: E402
from .layers import SequenceLayer as SequenceLayer  # noqa: E402
from .layers import Serial as Serial  # noqa: E402
from .layers import TransposedWindowedLayer as TransposedWindowedLayer  # noqa: E402
from .layers import WindowedLayer as WindowedLayer  # noqa: E402
from .obstacles import NotStreamable as NotStreamable  # noqa: E402
from .ragged import Ragged as Ragged  # noqa: E402
from .ragged import flatten as flatten  # noqa: E402
from .ragged import pad as pad  # noqa: E402
from .ragged import unpad as unpad  # noqa: E402
from .registry import adapts as adapts  # noqa: E402
from .registry import register as register  # noqa: E402
from .registry import register_factory as register_factory  # noqa: E402
from .registry import registered_layers as registered_layers  # noqa: E402
from .sequence import Sequence as Sequence  # noqa: E402
from .sequence import SequenceSpec as SequenceSpec  # noqa: E402
from .show import summary as summary  # noqa: E402
from .streaming import StepFunction as StepFunction  # noqa: E402
from .streaming import Stream as Stream  # noqa: E402
from .timing import Timing as Timing  # noqa: E402
from .version import __version__ as __version__  # noqa: E402
from .window import Window as Window  # noqa: E402

if typing.TYPE_CHECKING:
    from . import data as data
    from . import spec as spec
    from .spec import SpecError as SpecError
    from .spec import dump_spec as dump_spec
    from .spec import load_spec as load_spec


_ON_USE = ("SpecError", "data", "dump_spec", "load_spec", "spec")


def __getattr__(name):
    # On use: they load the YAML reader and Arrow.
    if name not in _ON_USE:
        raise AttributeError(f"module 'kseq' has no attribute {name!r}")
    if name in ("data", "spec"):
        return importlib.import_module(f"kseq.{name}")
    return getattr(importlib.import_module("kseq.spec"), name)


def __dir__():
    return sorted({*globals(), *_ON_USE})
