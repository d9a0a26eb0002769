"""What is wrong with a model's masks: `kseq.masks.check` finds every layer that loses them or lets padding leak."""

from .report import MaskFault as MaskFault
from .report import MaskReport as MaskReport
from .report import OutputCheck as OutputCheck
from .report import Unchecked as Unchecked
