"""Rows from their prompts to their ends: what is asked for, what has stopped, and who leaves the batch."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from .prompts import Generated
from .stops import Stops

# How long a call may take where somebody waits for each of its steps, in seconds.
_SHOWN_AFTER = 0.03
# Steps of a call where there are several rows: after each of them some may leave.
TOGETHER = 32
# Steps that are still to be made at least where rows leave the batch, since the smaller one may have to be compiled.
_WORTH_LEAVING = 32


class Driver:
    """Makes the new steps of all rows.

    Args:
        rows: what makes them, `loop.SampledRows` or `speculative.SpeculativeRows`.
        most: steps that each row may make, int64 [B].
        stops: what ends a row earlier.
    """

    def __init__(self, rows: Any, most: np.ndarray, stops: Stops) -> None:
        self._rows, self._most, self._stops = rows, most, stops
        self._made: list[np.ndarray] = [rows.x[n].reshape(-1, *rows.x.shape[2:])[:0] for n in range(len(most))]
        self._reasons: list[str | None] = ["length" if count < 1 else None for count in most]
        self._errors: dict[int, str] = {}
        # The row that each one of the batch is; some may be there twice.
        self._numbers = np.arange(len(most))

    def run(self, shown: bool) -> Iterator[list[np.ndarray]]:
        """The new steps of all rows, call by call.

        Args:
            shown: whether somebody waits for them: calls then are short.
        """
        steps = 8 if shown else TOGETHER if len(self._most) > 1 else 2**30
        while live := [n for n, reason in enumerate(self._reasons) if reason is None]:
            self._leave(live)
            left = max(int(self._most[n]) - len(self._made[n]) for n in live)
            done = np.array([self._reasons[n] is not None for n in self._numbers])
            began, compiled = time.perf_counter(), self._rows.compilations
            found = self._rows.advance(min(steps, left), done)
            new = [made[:0] for made in self._made]
            for n in live:
                new[n] = self._take(n, *found[int(np.flatnonzero(self._numbers == n)[0])])
            if shown and self._rows.compilations == compiled:
                made = max(map(len, new))
                steps = int(np.clip(_SHOWN_AFTER * made / max(time.perf_counter() - began, 1e-9), 1, 2**30))
            yield new

    def _take(self, n, steps, failed):
        """Note what a row has made; return what is its own of it."""
        known = len(self._made[n])
        most = int(self._most[n])
        made = np.concatenate([self._made[n], steps[: most - known]])
        end = self._stops.first(made, known)
        if end is not None:
            made, self._reasons[n] = made[:end], "stop"
        elif len(made) >= most:
            self._reasons[n] = "length"
        elif failed:
            self._reasons[n] = "error"
            self._errors[n] = f"the model's output after {len(made)} new steps is not finite, or not valid"
        self._made[n] = made
        return made[known:]

    def _leave(self, live):
        """Let rows that have ended leave the batch."""
        places = staying(self._numbers, live, max(int(self._most[n]) - len(self._made[n]) for n in live))
        if places is not None:
            self._rows.keep(places)
            self._numbers = self._numbers[places]

    def result(self) -> Generated:
        """What all rows have made."""
        return Generated(self._made, [str(reason) for reason in self._reasons], self._errors)


def staying(numbers: np.ndarray, live: Any, left: int) -> np.ndarray | None:
    """Places in a batch of those who stay where the others leave, some twice; `None` where it is not halved.

    Args:
        numbers: the row that each one of the batch is.
        live: rows that go on.
        left: steps that they may still make.
    """
    size = len(numbers)
    if 2 * len(live) > size or left < _WORTH_LEAVING:
        return None
    while 2 * len(live) <= size:
        size = (size + 1) // 2
    places = [int(np.flatnonzero(numbers == n)[0]) for n in live]
    return np.array(places + places[:1] * (size - len(live)))
