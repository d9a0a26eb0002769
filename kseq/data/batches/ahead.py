"""Batches that a thread makes before they are asked for."""

from __future__ import annotations

import collections
import concurrent.futures
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .weighting import BatchReader


class Ahead:
    """Makes batches some at a time, and those that follow while these are used.

    Args:
        make: gives a list of batches, for (epoch, first batch, number of batches, reader).
        steps: gives the number of batches of an epoch.
        count: batches that are made at a time.
    """

    def __init__(
        self, make: Callable[[int, int, int, BatchReader], list[Any]], steps: Callable[[int], int], count: int
    ) -> None:
        self._make, self._steps, self._count = make, steps, count
        self._begin()

    def _begin(self):
        self._process, self._guard, self._thread = os.getpid(), threading.Lock(), None
        self._made = collections.OrderedDict()  # by (epoch, number, reader)

    def get(self, epoch: int, index: int, reader: BatchReader) -> Any:
        """A batch; None if it could not be made ahead: it is made, or refused, where it is needed."""
        if self._process != os.getpid():  # forked: the thread has stayed with the parent
            self._begin()
        number, place = divmod(index, self._count)
        with self._guard:
            found = self._begun(epoch, number, reader)
            if (number + 1) * self._count < self._steps(epoch):
                self._begun(epoch, number + 1, reader)
            while len(self._made) > 3:  # what is used, what follows, and what a second thread may still ask for
                self._made.popitem(last=False)[1].cancel()
        try:
            return found.result()[place]
        except Exception:
            return None

    def _begun(self, epoch: int, number: int, reader: BatchReader) -> concurrent.futures.Future[list[Any]]:
        key = epoch, number, reader
        if key not in self._made:
            if self._thread is None:
                self._thread = concurrent.futures.ThreadPoolExecutor(1, "kseq-batches")
            first = number * self._count
            count = min(self._count, self._steps(epoch) - first)
            self._made[key] = self._thread.submit(self._make, epoch, first, count, reader)
        self._made.move_to_end(key)
        return self._made[key]
