"""What streams without Keras: blocks, rows, forms of chunks, saved bytes, over a step that anything may run."""

from .base import BaseStream as BaseStream
from .exported import ExportedStream as ExportedStream
from .whole import open_whole as open_whole
