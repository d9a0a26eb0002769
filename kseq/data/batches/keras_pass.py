"""What Keras does to a `PyDataset`, and how `fit` follows the plan all the same.

Keras shuffles the order in which it asks for batches, asks for one to build a model and on tensorflow for two to look
at their shapes, asks ahead of their use, and remembers the number of batches that the first epoch had. So within a pass
the first question gets the next batch of the plan whatever its index is, what was only looked at does not count, and
the number of batches is a `StepCount`: it stands for the epoch that is read. So every epoch of `fit` is the next epoch
of the plan, however many batches it has, and the first one the rest of an epoch that was restored.

The events of a data set that tell where Keras is (`n`: reads `num_batches`, `B` and `E`: begins and ends an epoch):

- `n n B n n 0 n E` builds a model, `n n B n n 0 1 2 E` predicts (on tensorflow `n n n 0 1 B n n 0 1 2 E`): a pass that
  begins after `n` without an `E` between. It gives back what it took.
- `n n n E B n n 0 1 2 E B n n 0 1 2 E` fits or evaluates.
- `B n n 0 1 E B 2 E` fits with `steps_per_epoch`: a pass goes over several epochs of Keras's.
- `B n n 0` and then `n` or `E` after `n`: the pass was left. What it took stays taken.
"""

import contextlib
import operator
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import keras

from kseq.arguments import as_integer

from .cursor import Cursor
from .layout import BatchLayout
from .losses import KnownModel
from .options import Options


class StepCount:
    """A whole number that is asked for anew wherever it is used: Keras keeps it from one epoch to the next."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def __index__(self) -> int:
        return self._count()

    __int__ = __index__

    def __float__(self) -> float:
        return float(self._count())

    def __bool__(self) -> bool:
        return self._count() != 0

    def __repr__(self) -> str:
        return str(self._count())

    def __hash__(self) -> int:
        return hash(self._count())


def _add_operators():
    def add(name, swapped):
        operate = getattr(operator, name)

        def method(self, other):
            other = int(other) if isinstance(other, StepCount) else other
            return operate(other, int(self)) if swapped else operate(int(self), other)

        setattr(StepCount, f"__{'r' if swapped else ''}{name}__", method)

    for name in ("lt", "le", "eq", "ne", "gt", "ge"):
        add(name, False)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod"):
        add(name, False)
        add(name, True)


_add_operators()


class KerasPass:
    """The pass of Keras's over a data set that is open, if one is.

    Args:
        cursor: the `Cursor` that the batches are taken from.
        guard: its lock.
    """

    def __init__(self, cursor: Cursor, guard: AbstractContextManager[Any]) -> None:
        self._cursor, self._guard = cursor, guard
        self._given = None  # the place that each index got
        self._begun_at, self._length, self._looks_only = cursor.place, None, False
        self._aside = False
        # Whether the number of batches was read since the last other event, and since the last end of an epoch.
        self._reads = self._asked = False
        self._steps = StepCount(lambda: cursor.left() if self._length is None else self._length)

    def steps(self) -> StepCount:
        """The number of batches, for Keras."""
        with self._guard:
            self._reads = self._asked = True
            return self._steps

    def begin(self) -> None:
        """Keras begins an epoch."""
        with self._guard:
            if self._given is None or self._reads:
                self._given, self._looks_only = {}, self._asked
                self._begun_at, self._length = self._cursor.place, self._cursor.left()
            self._reads = False

    def end(self) -> None:
        """Keras ends an epoch, or what it was doing before."""
        with self._guard:
            if self._given is not None and self._looks_only:
                self._cursor.place, self._given = self._begun_at, None
            elif self._given is not None and (len(self._given) == self._length or self._reads):
                self._given = None
            self._reads = self._asked = False

    def leave(self) -> None:
        """Somebody goes to another place."""
        self._given = self._length = None

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """In this context questions are not Keras's."""
        with self._guard:
            self._aside = True
            try:
                yield
            finally:
                self._aside = False

    def place(self, index: int) -> tuple[int, int] | None:
        """The place of the batch that Keras asks for; None if it is within no pass."""
        with self._guard:
            if self._aside:
                return None
            if self._given and self._reads:
                self._given = None  # another pass, or a look at the data, has begun
            self._reads = False
            if self._given is None:
                return None
            if index not in self._given:
                self._given[index] = self._cursor.take()
            return self._given[index]


class KerasDataset(keras.utils.PyDataset):
    """A data set that follows a plan though Keras asks as it does.

    Who inherits it has the `BatchLayout` and `Options` (`_layout`, `_options`), `steps(epoch)`, and makes batches for
    Keras in `_get(epoch, index)` and `_other_length()`.

    Attributes:
        cursor: the place up to which batches were given.
    """

    _layout: BatchLayout
    _options: Options

    def steps(self, epoch: int) -> int:
        """Batches of any epoch."""
        raise NotImplementedError

    def _get(self, epoch: int, index: int) -> Any:
        """The batch at a place, for Keras."""
        raise NotImplementedError

    def _other_length(self) -> Any:
        """Batch 1, padded to another length than batch 0."""
        raise NotImplementedError

    def _begin(self, place: tuple[int, int]) -> None:
        self._guard = threading.RLock()
        self.cursor: Cursor = Cursor(self.steps, self._guard, place)
        self._keras, self._model = KerasPass(self.cursor, self._guard), KnownModel(self._layout, self._options)

    @property
    def epoch(self) -> int:
        """The epoch that is read; may be set, to its beginning."""
        return self.cursor.place[0]

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.place = epoch, 0

    @property
    def place(self) -> tuple[int, int]:
        """The epoch and the number of the batch that comes next; may be set."""
        return self.cursor.place

    @place.setter
    def place(self, place: tuple[int, int]) -> None:
        epoch, batch = place
        place = as_integer("epoch", epoch, 0), as_integer("batch", batch, 0)
        with self._guard:
            self.cursor.place = place
            self._keras.leave()

    def take(self) -> tuple[int, int]:
        """Go on by one batch: its place, for `batch`, which no other thread gets."""
        return self.cursor.take()

    def __len__(self) -> int:
        """Batches of the epoch."""
        return self.steps(self.epoch)

    def __getitem__(self, index: int) -> Any:
        """The batch at `index` of the epoch; within `fit`, `evaluate` and `predict` the next one (see `batch`)."""
        index = as_integer("a batch", index)
        place = self._keras.place(index)
        if place is None:
            count = len(self)
            if not -count <= index < count:
                raise IndexError(f"a batch must be in [-{count}, {count}); received {index}")
            if index == 1 and keras.backend.backend() == "tensorflow":  # with batch 0 it tells which axes are fixed
                return self._other_length()
            place = self.epoch, index % count
        return self._get(*place)

    @property
    def num_batches(self) -> StepCount:
        """Batches of the epoch, as a number that goes with the epoch. For Keras; use `len` or `steps`."""
        return self._keras.steps()

    def on_epoch_begin(self) -> None:
        """Called by Keras."""
        self._model.asks(self._look)
        self._keras.begin()

    def on_epoch_end(self) -> None:
        """Called by Keras."""
        self._keras.end()

    def _look(self):
        with self._keras.aside():
            return self[0][0]

    # Keras's own workers: processes would each follow a plan of their own, and what threads have made ahead in the pass
    # in which Keras only looks it gives out in the next one.

    @property
    def workers(self) -> int:
        """For Keras, always 1: `prefetch` of `Batches` lets a thread of ours make batches ahead."""
        return 1

    @workers.setter
    def workers(self, workers: int) -> None:
        as_integer("workers", workers, 0)

    @property
    def use_multiprocessing(self) -> bool:
        """False: batches are made in this process."""
        return False

    @use_multiprocessing.setter
    def use_multiprocessing(self, value: bool) -> None:
        if value:
            raise ValueError(
                "use_multiprocessing must be False: a process of its own would not know which batches others were "
                "given, and records would come twice or not at all; pass prefetch to batches() instead"
            )
