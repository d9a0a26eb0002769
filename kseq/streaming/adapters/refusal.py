"""Why an adapter refuses a layer, with what to use instead."""

from typing import Any


class Refusal(ValueError):
    """A layer that does not stream as it is.

    Attributes:
        reason: why.
        instead: what to use instead, or `None`.
    """

    reason: Any
    instead: Any

    def __init__(self, reason: Any, instead: Any = None) -> None:
        super().__init__(reason)
        self.reason, self.instead = reason, instead
