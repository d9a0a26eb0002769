"""The place in the plan up to which batches were given."""

import collections
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

_STRETCH = 4096  # batches whose numbers lie ready


class Cursor:
    """A place (epoch, batch) that only moves on, whoever takes batches: a loop, threads, or Keras.

    The numbers of the batches that come next lie in a deque, from which any thread takes one in a single operation of
    Python's, without a lock.

    Args:
        steps: gives the number of batches, at least 1, of an epoch.
        guard: a re-entrant lock.
        place: where to begin.
    """

    def __init__(
        self, steps: Callable[[int], int], guard: AbstractContextManager[Any], place: tuple[int, int] = (0, 0)
    ) -> None:
        self._steps, self._guard, self._next = steps, guard, collections.deque()
        self.place = place

    @property
    def place(self) -> tuple[int, int]:
        """The epoch and batch that come next. An epoch that is not entered is not looked at."""
        with self._guard:
            batch = self._end - len(self._next)
            return (self._epoch + 1, 0) if batch == self._count else (self._epoch, batch)

    @place.setter
    def place(self, place: tuple[int, int]) -> None:
        with self._guard:
            self._next.clear()  # for those that still take from it
            self._next = collections.deque()
            (self._epoch, self._end), self._count = place, None

    def stretch(self, epoch: int | None = None) -> collections.deque[int] | None:
        """A deque of the batches that come next, whose `popleft` takes one; None if `epoch` is given and over."""
        with self._guard:
            return self._ready() if epoch is None or self.place[0] == epoch else None

    def _ready(self) -> collections.deque[int]:
        """The batches that come next, of which there is one at least."""
        here, first = self.place
        if not self._next:
            count = self._steps(here)
            if first >= count:
                raise IndexError(f"a batch must be in [0, {count}); received {first}")
            end = min(first + _STRETCH, count)
            self._epoch, self._count, self._end = here, count, end
            self._next = collections.deque(range(first, end))
        return self._next

    def take(self) -> tuple[int, int]:
        """The place of the next batch, which nobody else gets."""
        while True:
            with self._guard:
                stretch, epoch = self._ready(), self._epoch
            try:
                return epoch, stretch.popleft()
            except IndexError:  # others were faster
                continue

    def give_back(self, place: tuple[int, int]) -> None:
        """Undo `take` for a batch that could not be made, unless others have gone on."""
        with self._guard:
            if self.place == self.after(place, 1):
                self.place = place

    def left(self) -> int:
        """Batches that are left of the epoch."""
        epoch, batch = self.place
        return self._steps(epoch) - batch

    def after(self, place: tuple[int, int], count: int) -> tuple[int, int]:
        """The place `count` batches after a place."""
        epoch, batch = place[0], place[1] + count
        while batch and batch >= (steps := self._steps(epoch)):
            epoch, batch = epoch + 1, batch - steps
        return epoch, batch
