"""Models that leave Python: the step, or the whole computation, in the file formats of other runtimes."""

from .entry import export as export
