"""Models that leave Python: the step, or the whole computation, in the file formats of other runtimes."""

from ..runtime.whole import open_whole as open_whole
from .entry import export as export
