"""`Adapted`: a layer that stands for one of Keras's, with its variables."""

from typing import Any

from ...layers.base import SequenceLayer


class Adapted(SequenceLayer):
    """A layer in the place of a Keras layer or operation.

    Attributes:
        adapted: what it stands for, which has the variables.
    """

    adapted: Any

    def origin(self) -> Any:
        return self.adapted
