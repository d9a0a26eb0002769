"""Keras models with kseq's layers in the places of Keras's."""

from .converting import convert as convert
from .outcome import ConversionReport as ConversionReport
from .outcome import Converted as Converted
