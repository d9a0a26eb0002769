"""What all recurrences share: any number of steps, of which each depends on all before it."""

import math

from ...timing import Timing
from ..base import SequenceLayer


class Recurrence(SequenceLayer):
    """A layer whose state sums up the whole past."""

    takes_complex = False
    takes_any_length = True

    @property
    def timing(self) -> Timing:
        return Timing(receptive_field_per_step=((-math.inf, 0),))
