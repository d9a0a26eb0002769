"""Keras's own layers and operations as layers that step: the adapters, by family, and how one is found.

`kseq.adapts` registers an adapter; importing this package registers those of Keras's layers.
"""

from . import attention as attention
from . import ends as ends
from . import merging as merging
from . import plain_attention as plain_attention
from . import preprocessing as preprocessing
from . import recurrent as recurrent
from . import shapes as shapes
from . import spectral as spectral
from . import spectrogram as spectrogram
from . import stepwise as stepwise
from . import windows as windows
from .attention import source_of as source_of
from .call_site import BY_DEFAULT as BY_DEFAULT
from .call_site import CallSite as CallSite
from .call_site import StreamOptions as StreamOptions
from .ends import PADDING as PADDING
from .ends import ends_of as ends_of
from .finding import Unadapted as Unadapted
from .finding import adapt as adapt
from .keras_masks import MaskOf as MaskOf
from .keras_masks import MaskRule as MaskRule
from .keras_masks import mask_rule_of as mask_rule_of
from .operation import Held as Held
from .operation import InputSlot as InputSlot
from .operation import Operation as Operation
from .recurrent import states_of as states_of
from .stepwise import check_training as check_training
from .stepwise import pointwise as pointwise
from .windows import takes_zeros as takes_zeros
