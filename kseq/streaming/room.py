"""How many steps the rows of a stream still take, known without a look at their state as long as there are enough."""

from typing import Any

import numpy as np

from ..layers.limits import Limit, check_overfull, check_room, in_numpy, least


class Room:
    """Counts what is fed against what a state was seen to take; the state is looked at again where that is too little.

    Attributes:
        left: steps that every row takes at least, int64 [B], or `None` where it is not known; a value, never written.
    """

    left: Any

    def __init__(self) -> None:
        self.left = None

    def forget(self) -> None:
        """Know nothing of a state that has changed by other than steps."""
        self.left = None

    def feed(self, steps: Any, limits: Any, what: str, at: Any) -> bool:
        """Count steps that are to be fed; says whether a layer that counts valid ones alone may get too many.

        Args:
            steps: one number, or int64 [B].
            limits: gives the `Limit`s of the state when it is called.
            what: is fed, in words.
            at: steps that were fed before, a number or [B].

        Raises:
            ValueError: more than a row takes.
        """
        if self.left is None or np.any(steps > self.left):
            found: list[Limit] = limits()
            check_room(found, steps, what, at)
            self.left = np.asarray(in_numpy(least(found)), np.int64)
        self.left = self.left - steps
        return bool(np.any(self.left < 0))

    def check(self, limits: list[Limit], before: list[Limit], what: str) -> None:
        """Refuse what a state turns out to have taken more valid steps of than it may.

        Args:
            limits: of the state after it was fed.
            before: of the state that was fed.
            what: was fed, in words.

        Raises:
            ValueError: a row that has too many, by the layer's name, with what to change.
        """
        check_overfull(limits, before, what)
