"""Which records make which batch: a pure function of lengths, seed, epoch and configuration.

Nothing is computed for a whole epoch that a window of it does not need: positions of an epoch go to records by a
permutation that is evaluated where it is looked at, and batches are made window by window.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kseq import _ext

from ..permutation import permute

if TYPE_CHECKING:
    from .layout import BatchLayout
    from .options import Options

_PACKING_BINS = 64
_KEPT = 1 << 20  # records of a plan by tokens whose batches are kept, since they are made to be counted
_ROWS_MULTIPLE = 8  # rows of batches by tokens are a multiple of it where they can be, so that hosts can share them


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a plan depends on beside the lengths; see `Batches` for the meanings.

    Attributes:
        batch_size: rows of a batch, or None.
        max_tokens: cells of a batch, or None.
        rows_at: rows of a batch for each of `bounds`, or None.
        shuffle: True, "block" or False.
        bucket: whether records of similar length share batches.
        seed: integer.
        window: batches among which records are sorted by length.
        block_size: records of a block.
        blocks_in_flight: blocks whose records are mixed.
        bounds: padded lengths, ascending, or None for the longest of each batch.
        multiple_of: what padded lengths that are not among `bounds` are rounded up to.
        drop_remainder: whether the last, smaller batch is dropped.
        pack: whether several records share a row.
    """

    batch_size: int | None
    max_tokens: int | None
    rows_at: tuple[int, ...] | None
    shuffle: bool | str
    bucket: bool
    seed: int
    window: int
    block_size: int
    blocks_in_flight: int
    bounds: tuple[int, ...] | None
    multiple_of: int
    drop_remainder: bool
    pack: bool

    @classmethod
    def of(cls, options: Options, layout: BatchLayout, bounds: tuple[int, ...] | None) -> Settings:
        """The settings of `Options`, with the padded lengths."""
        names = [field.name for field in dataclasses.fields(cls)]
        found: dict[str, Any] = {name: getattr(options, name) for name in names if hasattr(options, name)}
        sorts = options.shuffle is not False if options.bucket is None else bool(options.bucket)
        found["bucket"] = layout.leader is not None and not options.pack and sorts
        found["rows_at"] = options.rows_at and tuple(options.rows_at.values())
        found["bounds"] = bounds
        return cls(**found)

    @property
    def by_length(self) -> bool:
        """Whether rows depend on the length, so that only the lengths tell how many batches there are."""
        return self.batch_size is None

    def rows_of(self, bound: int, longest: int) -> int:
        """Rows of a batch, by its padded length or, for -1, its longest record."""
        if self.rows_at is not None and self.bounds is not None:
            return self.rows_at[self.bounds.index(bound)]
        assert self.max_tokens is not None
        rows = self.max_tokens // max(bound, longest, 1)
        return rows // _ROWS_MULTIPLE * _ROWS_MULTIPLE if rows > _ROWS_MULTIPLE else rows


class BatchRows(typing.NamedTuple):
    """The rows of one batch.

    Attributes:
        ids: records, int64 [used], or None for `used` of them from `start`.
        start: the first record where `ids` is None.
        used: number of records.
        size: number of rows of the batch; the rows from `used` on are filled.
        bound: padded length, or -1 for that of the longest.
        ends: where each row's records end in `ids`, if rows hold several; then `used` counts rows.
    """

    ids: NDArray[np.int64] | None
    start: int
    used: int
    size: int
    bound: int
    ends: NDArray[np.int64] | None = None


_row = functools.partial(tuple.__new__, BatchRows)  # a third of the time of `BatchRows(...)`, once a batch


class EpochPlan:
    """The batches of one epoch.

    Args:
        settings: the `Settings`.
        epoch: number of the epoch.
        records: the records to take, int64, or their number if they are all, from 0.
        lengths_of: gives the lengths of records, int64, for record numbers.
    """

    settings: Settings
    epoch: int

    def __init__(
        self,
        settings: Settings,
        epoch: int,
        records: int | NDArray[np.int64],
        lengths_of: Callable[[NDArray[Any]], NDArray[np.int64]],
    ) -> None:
        self.settings, self.epoch = settings, epoch
        self._records = None if isinstance(records, int) else records
        self.count: int = records if isinstance(records, int) else len(records)
        self._lengths_of = lengths_of
        # Rows of a batch and its padded length, where all have the same.
        self._size, self._bound = settings.batch_size or 1, settings.bounds[-1] if settings.bounds else -1
        self._kept: list[list[BatchRows]] | None = None
        # No padded length is known before a batch is made.
        self._unbound = settings.bounds is None and settings.multiple_of == 1
        # The first batch of the window that was used last, and its rows.
        self._held: tuple[int, list[BatchRows]] = (0, [])
        if settings.pack:
            self._pack()
        self._measure()

    def __len__(self) -> int:
        return self._first_batch[-1]

    def rows(self, batch: int) -> BatchRows:
        """The rows of a batch.

        Raises:
            IndexError: no such batch.
        """
        first, rows = self.window(batch)
        return rows[batch - first]

    def window(self, batch: int) -> tuple[int, list[BatchRows]]:
        """The first batch of the window that a batch lies in, and the rows of all its batches.

        Raises:
            IndexError: no such batch.
        """
        held = self._held
        if not 0 <= batch - held[0] < len(held[1]):
            if not 0 <= batch < len(self):
                raise IndexError(f"a batch must be in [0, {len(self)}); received {batch}")
            number = bisect.bisect_right(self._first_batch, batch) - 1
            # One assignment, so that threads see a window and its number together.
            held = self._held = self._first_batch[number], self._window(number)
        return held

    def _measure(self):
        """How the epoch is cut into windows, and the first batch of each."""
        s = self.settings
        size = self._size
        total = self._packed_rows if s.pack else self.count
        whole = total if s.by_length else total // size * size
        width = self._window_width()
        self._edges = [*range(0, whole, width), whole] if whole else [0]
        if whole < total and not s.drop_remainder:
            self._edges.append(total)  # the last batch is a window of its own
        windows = len(self._edges) - 1
        if s.by_length:
            made = map(self._window, range(windows))
            if self.count <= _KEPT:
                self._kept = list(made)
            counts = list(map(len, made if self._kept is None else self._kept))
        else:
            counts = [-(-(end - start) // size) for start, end in zip(self._edges, self._edges[1:], strict=False)]
        self._first_batch = list(itertools.accumulate(counts, initial=0))

    def _window_width(self):
        """Records of a window: a multiple of the batch."""
        s = self.settings
        if s.shuffle == "block" and not s.pack and s.blocks_in_flight > 1:
            return s.block_size * s.blocks_in_flight
        if s.shuffle == "block" and not s.pack:  # nothing is mixed: a window of whole blocks is for speed alone
            return s.block_size * max(s.window * self._size // s.block_size, 1)
        if not s.by_length:
            return self._size * s.window
        sample = np.linspace(0, self.count - 1, min(self.count, 1024)).astype(np.int64)
        lengths = self._lengths_of(self._take(sample))
        if s.rows_at and s.bounds:
            return max(int(s.window / (1 / np.asarray(s.rows_at))[np.searchsorted(s.bounds, lengths)].mean()), 1)
        assert s.max_tokens is not None
        return max(int(s.window * s.max_tokens / max(float(lengths.mean()), 1.0)), 1)

    def _window(self, number: int) -> list[BatchRows]:
        if self._kept is not None:
            return self._kept[number]
        s = self.settings
        start, end = self._edges[number], self._edges[number + 1]
        if s.pack:
            return self._packed_window(start, end)
        if not (s.by_length or s.bucket):
            run = self._run(start, end)
            if run is not None:
                return run
        ids = self._ids(start, end, number)
        if self._unbound and not (s.bucket or s.by_length):
            return [BatchRows(part, 0, len(part), self._size, -1) for part in _parts(ids, self._size)]
        lengths = self._lengths_of(ids)
        if s.bucket or s.by_length:
            order = _order(lengths)
            ids, lengths = ids[order], lengths[order]
        if s.by_length:
            rows = self._cut_by_length(ids, lengths)
            if s.drop_remainder and end == self._edges[-1]:
                rows = [each for each in rows if each.used == each.size]
        else:
            longest = np.maximum.reduceat(lengths, np.arange(0, len(ids), self._size))
            size, bounds, rest = self._size, self._bounds_of(longest), len(ids) % self._size
            pairs = zip(_parts(ids, size), bounds, strict=True)
            rows = [_row((part, 0, size, size, bound, None)) for part, bound in pairs]
            if rest:
                rows[-1] = rows[-1]._replace(used=rest)
        if s.shuffle and (s.bucket or s.by_length):
            order = permute(0, len(rows), len(rows), (s.seed, self.epoch, number, 2))
            rows = [rows[i] for i in order.tolist()]
        return rows

    def _run(self, start, end):
        """The batches of a window whose records follow one another on the disk, or None."""
        s = self.settings
        if self._records is not None or s.shuffle is True or (s.shuffle == "block" and s.blocks_in_flight > 1):
            return None
        positions = np.arange(start, end, self._size)
        firsts = positions if s.shuffle is False else self._blocks(positions)
        used = np.minimum(self._size, end - positions)
        if self._unbound:
            bounds = [-1] * len(firsts)
        else:
            ids = (firsts[:, None] + np.arange(self._size)).reshape(-1)[: int(used.sum())]
            longest = np.maximum.reduceat(self._lengths_of(ids), np.arange(0, len(ids), self._size))
            bounds = self._bounds_of(longest)
        size, rows = self._size, zip(firsts.tolist(), used.tolist(), bounds, strict=True)
        return [_row((None, first, n, size, bound, None)) for first, n, bound in rows]

    def _ids(self, start, end, number):
        """The records at positions of the epoch."""
        s = self.settings
        if s.shuffle is True:
            return self._take(permute(start, end - start, self.count, (s.seed, self.epoch)))
        positions = np.arange(start, end)
        if s.shuffle == "block":
            positions = self._blocks(positions)
            if s.blocks_in_flight > 1:
                positions = positions[permute(0, len(positions), len(positions), (s.seed, self.epoch, number, 1))]
        return self._take(positions)

    def _blocks(self, positions):
        """Positions with whole blocks permuted; what is left after the last whole block stays there."""
        s = self.settings
        blocks, first = self.count // s.block_size, int(positions[0]) // s.block_size
        last = min(int(positions[-1]) // s.block_size + 1, blocks)
        order = permute(first, max(last - first, 0), blocks, (s.seed, self.epoch))
        order = np.append(order, blocks)  # what is left after the last whole block
        return order[positions // s.block_size - first] * s.block_size + positions % s.block_size

    def _take(self, positions):
        return positions if self._records is None else self._records[positions]

    def _bounds_of(self, longest):
        bounds = self.settings.bounds
        if bounds is None:
            return [self._longest(each) for each in longest.tolist()]
        return np.asarray(bounds)[np.searchsorted(bounds, longest)].tolist()

    def _longest(self, longest):
        """The padded length of a batch by its longest record, where none is chosen; -1 if it is that record's."""
        multiple = self.settings.multiple_of
        return -1 if multiple == 1 else -(-longest // multiple) * multiple

    def _cut_by_length(self, ids, lengths):
        """Batches of as many rows as their length allows, the longest records first; only the last is smaller."""
        rows, end, lengths, bounds = [], len(ids), lengths.tolist(), self.settings.bounds
        while end:
            longest = lengths[end - 1]
            bound = bounds[bisect.bisect_left(bounds, longest)] if bounds else self._longest(longest)
            size = self.settings.rows_of(bound, longest)
            start = max(end - size, 0)
            rows.append(BatchRows(ids[start:end], 0, end - start, size, bound))
            end = start
        return rows

    def _pack(self):
        """Put all records of the epoch into rows."""
        ids = np.concatenate(
            [self._ids(start, min(start + (1 << 20), self.count), start) for start in range(0, self.count, 1 << 20)]
        )
        row = np.empty(len(ids), np.int64)
        self._packed_rows = _ext.pack(self._lengths_of(ids), self._bound, _PACKING_BINS, row)
        order = np.argsort(row, kind="stable")
        self._packed_ids = ids[order]
        self._packed_ends = np.cumsum(np.bincount(row, minlength=self._packed_rows))

    def _packed_window(self, start, end):
        rows = []
        for first in range(start, end, self._size):
            last = min(first + self._size, end)
            begin = int(self._packed_ends[first - 1]) if first else 0
            ends = self._packed_ends[first:last] - begin
            ids = self._packed_ids[begin : begin + int(ends[-1])]
            rows.append(BatchRows(ids, 0, last - first, self._size, self._bound, ends))
        return rows


def record_ids(rows: BatchRows) -> NDArray[np.int64]:
    """The records of `BatchRows`, int64 [used]."""
    return np.arange(rows.start, rows.start + rows.used) if rows.ids is None else rows.ids


def _order(lengths):
    order = np.empty(len(lengths), np.int64)
    return order if _ext.order_by_length(lengths, order) else np.argsort(lengths, kind="stable")


def _parts(ids, size):
    return [ids[start : start + size] for start in range(0, len(ids), size)]
