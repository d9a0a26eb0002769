"""The length that a record has in a batch: what the leading sequence must be padded to so that all its fields fit."""

import numpy as np

from .bounds import choose_ratio, leader_length

_BLOCK = 1 << 20  # records that are looked at together: no more memory than that for any store
_SAMPLE = 100_000


class RowLengths:
    """Lengths by record number.

    Args:
        store: the `Store`.
        assembly: the `Assembly`, which says what leads, what follows and what is appended.
    """

    def __init__(self, store, assembly):
        self._store, self._leader, self._limit = store, assembly.leader, None
        self._extra = {name: int(name in assembly.eos) for name in assembly.sequences}
        for name in assembly.followers:
            if assembly.ratios.get(name) is None:
                sample = np.unique(np.linspace(0, len(store) - 1, min(len(store), _SAMPLE)).astype(np.int64))
                assembly.ratios[name] = choose_ratio(self.of_leader(sample), self._of(name, sample))
        self._ratios = {name: assembly.ratios[name] for name in assembly.followers}

    def limit(self, most):
        """Count longer records as this long, because they are truncated."""
        self._limit = most

    def of_leader(self, ids):
        """Lengths of the leading sequence, int64, of some records or, for None, of all."""
        lengths = self._of(self._leader, ids)
        return lengths if self._limit is None else np.minimum(lengths, self._limit)

    def of(self, ids):
        """The length that the leader must be padded to for a record, int64."""
        lengths = self.of_leader(ids)
        for name, ratio in self._ratios.items():
            lengths = np.maximum(lengths, leader_length(self._of(name, ids), ratio))
        return lengths

    def counts(self):
        """How many records of the store have each length: int64 [longest + 1]."""
        total = np.zeros(1, np.int64)
        for ids in self._blocks():
            counts = np.bincount(self.of(ids))
            size = max(len(total), len(counts))
            total = np.pad(total, (0, size - len(total))) + np.pad(counts, (0, size - len(counts)))
        return total

    def first_longer(self, most):
        """The first record that is longer than `most`, or None."""
        for ids in self._blocks():
            longer = np.flatnonzero(self.of(ids) > most)
            if len(longer):
                return int(ids[longer[0]])
        return None

    def describe(self):
        """What the lengths depend on beside the store, as JSON values."""
        return [self._leader, self._extra, {name: list(ratio) for name, ratio in self._ratios.items()}, self._limit]

    def _blocks(self):
        count = len(self._store)
        return (np.arange(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))

    def _of(self, name, ids):
        return self._store.field_lengths(name, ids) + self._extra[name]
