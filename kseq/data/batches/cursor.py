"""The place in the plan up to which batches were given."""


class Cursor:
    """A place (epoch, batch) that only moves on, whoever takes batches: a loop, threads, or Keras.

    Args:
        steps: gives the number of batches, at least 1, of an epoch.
        guard: a re-entrant lock.
        place: where to begin.
    """

    def __init__(self, steps, guard, place=(0, 0)):
        self._steps, self._guard, self.place = steps, guard, place
        self._last = None, 0  # the epoch that was read last, and its number of batches

    def take(self, epoch=None):
        """The place of the next batch, which nobody else gets; None if `epoch` is given and over."""
        with self._guard:
            place = self.place
            if epoch is not None and place[0] != epoch:
                return None
            if self._last[0] != place[0]:
                self._last = place[0], self._steps(place[0])
            following = place[1] + 1
            self.place = (place[0], following) if following < self._last[1] else (place[0] + 1, 0)
            return place

    def give_back(self, place):
        """Undo `take` for a batch that could not be made, unless others have gone on."""
        with self._guard:
            if self.place == self.after(place, 1):
                self.place = place

    def left(self) -> int:
        """Batches that are left of the epoch."""
        epoch, batch = self.place
        return self._steps(epoch) - batch

    def after(self, place, count):
        """The place `count` batches after a place. An epoch that is not entered is not looked at."""
        epoch, batch = place[0], place[1] + count
        while batch and batch >= (steps := self._steps(epoch)):
            epoch, batch = epoch + 1, batch - steps
        return epoch, batch
