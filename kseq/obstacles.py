"""Why something does not stream: a row for each layer, and the error that carries them."""

from collections.abc import Iterable
from typing import Any, NamedTuple


class Obstacle(NamedTuple):
    """A layer that does not stream.

    Attributes:
        layer: its name.
        type: its class's name.
        reason: why.
        instead: what to use instead, or `None`.
    """

    layer: str
    type: str
    reason: str
    instead: str | None = None

    @property
    def advice(self) -> str:
        """The reason, and what to use instead."""
        return self.reason + (f"; use {self.instead}" if self.instead else "")

    def __str__(self) -> str:
        return f"{self.layer} ({self.type}): {self.advice}"


class NotStreamable(ValueError):
    """A model, or a layer, that has no step.

    Attributes:
        obstacles: an `Obstacle` for each layer that stands in the way.

    Example:
        >>> import kseq
        >>> layer = kseq.Conv1D(2, 3, padding="same", name="conv")
        >>> layer.build((None, None, 4))
        >>> try:
        ...     kseq.Stream(layer)
        ... except kseq.NotStreamable as error:
        ...     print(error.obstacles[0].layer, error.obstacles[0].type)
        conv Conv1D
    """

    obstacles: tuple[Obstacle, ...]

    def __init__(self, message: str, obstacles: Iterable[Obstacle]) -> None:
        super().__init__(message)
        self.obstacles = tuple(obstacles)

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.obstacles)
