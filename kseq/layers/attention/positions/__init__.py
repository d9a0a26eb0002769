"""Position schemes of attention, a module each: how it knows where queries and keys are."""

from .alibi import AlibiPosition as AlibiPosition
from .rotary import RotaryPosition as RotaryPosition
from .shaw import ShawPosition as ShawPosition
from .t5 import T5Position as T5Position
from .transformer_xl import TransformerXLPosition as TransformerXLPosition
