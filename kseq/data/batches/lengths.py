"""How long records are, and how long the sequences of a batch become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .bounds import choose_ratio, follower_length, given_bounds, leader_length

if TYPE_CHECKING:
    from .layout import BatchLayout
    from .options import Options

_BLOCK = 1 << 20  # records that are looked at together: no more memory than that for any store
_SAMPLE = 100_000


class RowLengths:
    """The length that a record has in a batch: what the leader must be padded to so that all its fields fit.

    Args:
        layout: the `BatchLayout`.
        options: the `Options`.
    """

    def __init__(self, layout: BatchLayout, options: Options) -> None:
        self._layout, self._multiple = layout, options.multiple_of
        given = given_bounds(options, layout.leader)
        # Records that are truncated count as long as what is left of them.
        self._limit = given[-1] if given and options.truncate else None
        self._ratios = {}
        for name in layout.followers:
            ratio = options.length_ratios.get(name)
            if ratio is None:
                count = len(layout.store)
                sample = np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64))
                ratio = choose_ratio(self.of_leader(sample), self.steps(name, sample))
            self._ratios[name] = ratio

    def steps(self, name: str, ids: NDArray[Any] | None) -> NDArray[np.int64]:
        """Steps of a sequence of some records or, for None, of all, with what is put before and after them: int64."""
        return self._layout.store.field_lengths(name, ids) + self._layout.added[name]

    def of_leader(self, ids: NDArray[Any] | None) -> NDArray[np.int64]:
        """Lengths of the leading sequence, int64."""
        leader = self._layout.leader
        assert leader is not None
        lengths = self.steps(leader, ids)
        return lengths if self._limit is None else np.minimum(lengths, self._limit)

    def of(self, ids: NDArray[Any]) -> NDArray[np.int64]:
        """The length that the leader must be padded to for each record, int64."""
        lengths = self.of_leader(ids)
        for name, ratio in self._ratios.items():
            lengths = np.maximum(lengths, leader_length(self.steps(name, ids), ratio))
        return lengths

    def counts(self) -> NDArray[np.int64]:
        """How many records of the store have each length: int64 [longest + 1]."""
        total = np.zeros(1, np.int64)
        for ids in self._blocks():
            counts = np.bincount(self.of(ids))
            size = max(len(total), len(counts))
            total = np.pad(total, (0, size - len(total))) + np.pad(counts, (0, size - len(counts)))
        return total

    def first_longer(self, most: int) -> int | None:
        """The first record that is longer than `most`, or None."""
        for ids in self._blocks():
            longer = np.flatnonzero(self.of(ids) > most)
            if len(longer):
                return int(ids[longer[0]])
        return None

    def padded(self, bound: int, ids: NDArray[Any] | None = None) -> dict[str, int]:
        """The padded length of each sequence in a batch, by name; -1 for that of the longest row.

        Args:
            bound: that of the leader, or -1.
            ids: records: all of the batch, to have numbers in the place of -1.
        """
        layout = self._layout
        if bound < 0 and ids is not None and layout.leader is not None:
            bound = self._up(int(self.of_leader(ids).max(initial=0)))
        lengths = {}
        for name in layout.sequences:
            if name == layout.leader:
                lengths[name] = bound
            elif name in layout.framed:
                lengths[name] = -1 if bound < 0 else self.framed(bound)
            elif name in self._ratios:
                lengths[name] = -1 if bound < 0 else self._up(follower_length(bound, self._ratios[name]))
            else:
                lengths[name] = layout.fixed.get(name, -1)
        if ids is not None:
            for name, length in lengths.items():
                lengths[name] = self._up(int(self.steps(name, ids).max(initial=0))) if length < 0 else length
        return lengths

    def framed(self, length: int) -> int:
        """Steps of the model's output for a padded length."""
        rule = self._layout.rule
        assert rule is not None
        return np.asarray(rule(np.ones((1, length), bool))).shape[1]

    def describe(self) -> list[Any]:
        """What the lengths depend on beside the store, as JSON values."""
        ratios = {name: list(ratio) for name, ratio in self._ratios.items()}
        return [self._layout.leader, self._layout.added, ratios, self._limit, self._multiple]

    def _up(self, length):
        return -(-length // self._multiple) * self._multiple

    def _blocks(self):
        count = len(self._layout.store)
        return (np.arange(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))
