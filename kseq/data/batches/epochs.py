"""The plans of a run's epochs: which records each takes, by a range of lengths that may change as training goes on."""

import collections
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from kseq.arguments import as_integer

from ..errors import EmptyStoreError
from ..store.protocol import Records
from .lengths import RowLengths
from .options import LengthRange, Options
from .plan import EpochPlan, Settings


class Epochs:
    """Plans by the number of the epoch; the last two are kept.

    Args:
        store: the store.
        settings: the `Settings` of the plans.
        lengths: the `RowLengths`.
        options: the `Options`, of which the range of lengths is taken.
    """

    def __init__(self, store: Records, settings: Settings, lengths: RowLengths, options: Options) -> None:
        self._store, self._settings, self._lengths = store, settings, lengths
        self._range: LengthRange | Callable[[int], LengthRange] | None = options.length_range
        self._schedule: Callable[[int], LengthRange] | None = options.length_schedule
        self._guard, self._plans = threading.RLock(), collections.OrderedDict()
        self._before = [0]  # batches before each epoch, as far as somebody needed to know

    @property
    def vary(self) -> bool:
        """Whether epochs may differ in how many batches they have."""
        return self._settings.by_length or self._settings.pack or callable(self._range) or self._schedule is not None

    @property
    def fill_rows(self) -> bool:
        """Whether there may be batches that are not full."""
        settings = self._settings
        if settings.by_length:
            return True
        if settings.drop_remainder:
            return False
        # The number of rows may differ from epoch to epoch.
        takes_all = self._range is None and self._schedule is None and not settings.pack
        return not takes_all or len(self._store) % (settings.batch_size or 1) != 0

    def other_bound(self, bound: int) -> int:
        """A padded length that a batch may have beside another; that itself if there is but one."""
        bounds = self._settings.bounds or ()
        return next((each for each in bounds if each > bound), bound + 1) if len(bounds) > 1 else bound

    def plan(self, epoch: int) -> EpochPlan:
        """The plan of an epoch.

        Raises:
            EmptyStoreError: no batch of the epoch has a record.
        """
        plan = self._plans.get(epoch)
        if plan is not None:
            return plan
        with self._guard:
            plan = self._plans.get(epoch)
            if plan is None:
                records = self._population(epoch)
                count = records if isinstance(records, int) else len(records)
                plan = EpochPlan(self._settings, epoch, records, self._lengths.of) if count else ()
                if len(plan) == 0:
                    raise EmptyStoreError(
                        f"epoch {epoch} has no batches: {count} records make no full batch", self._store.paths[0]
                    )
                self._plans[epoch] = plan
                while len(self._plans) > 2:  # the one that ends and the one that begins
                    self._plans.popitem(last=False)
            return plan

    def steps(self, epoch: int) -> int:
        """Batches of an epoch."""
        return len(self.plan(epoch))

    def describe(self) -> list[Any]:
        """What the plans depend on beside the store, as JSON values."""
        found = [*vars(self._settings).items(), _range_name(self._range), self._lengths.describe()]
        return found if self._schedule is None else [*found, _range_name(self._schedule)]

    def _population(self, epoch):
        given = self._range(epoch) if callable(self._range) else self._range
        if self._schedule is not None:
            given = self._schedule(self._batches_before(epoch))
        if given is None:
            return len(self._store)
        least, greatest = (as_integer("a length to take", n, 0) for n in given)
        lengths = self._lengths.of_leader(None)
        return np.flatnonzero((lengths >= least) & (lengths <= greatest))

    def _batches_before(self, epoch):
        while len(self._before) <= epoch:
            self._before.append(self._before[-1] + self.steps(len(self._before) - 1))
        return self._before[epoch]


# Epochs (or batches) at which a function is compared with another: those that most runs have, and some far ones.
_PROBED = (*range(64), *(1 << power for power in range(6, 20)))


def _range_name(length_range: LengthRange | Callable[[int], LengthRange] | None) -> list[Any] | None:
    """What a range of lengths is, by what it gives: two functions of one name may differ, and some have no name."""
    if not callable(length_range):
        return None if length_range is None else list(map(int, length_range))
    found = []
    for number in _PROBED:
        try:
            found.append(list(map(int, length_range(number))))
        except Exception:  # it ends before, like a table; what is wrong in an epoch is said there
            found.append(None)
    return found
