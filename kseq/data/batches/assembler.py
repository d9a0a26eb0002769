"""From the rows of a plan to the arrays of a batch."""

import bisect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import RecordError
from .layout import BatchLayout
from .lengths import RowLengths
from .options import Options
from .packing import packed_arrays
from .plan import BatchRows, record_ids
from .weighting import BatchReader, Weighting, Whole


class Assembler:
    """Puts batches together.

    Args:
        layout: the `BatchLayout`.
        lengths: the `RowLengths`.
        options: the `Options`.
        filled: whether rows may be filled up, so that every batch has weights.
    """

    def __init__(self, layout: BatchLayout, lengths: RowLengths, options: Options, filled: bool) -> None:
        self._layout, self._lengths = layout, lengths
        self._weighting = Weighting(layout, lengths, options.side == "left")
        self._pack, self._weigh_rows = options.pack, filled
        # Keras too is given batches whose rows are filled up where there are many that are not full: with a shape of
        # its own each would be compiled. Without targets nothing could say to it that a row is filled.
        self._fills = options.batch_size is None and layout.targets is not None
        self.own: BatchReader = BatchReader(False, options.scaled)
        # "max" and a multiple: every batch's lengths are looked at before it is made.
        self._looks = options.multiple_of > 1 and -1 in self._lengths.padded(1).values()
        groups = layout.groups
        whole = len(groups) == 1 and groups[0].places is None
        self._plain = whole and all(slot.plain for slot in layout.slots)
        simple = whole and not any(slot.text or slot.cast for slot in layout.slots)
        self._direct: Any = groups[0].chunks.table.batch if simple else None
        # For each bound the padded lengths, as the kernel wants them.
        self._targets_of: dict[int, list[tuple[int, ...]]] = {}

    def batch(
        self, rows: BatchRows, shard: tuple[int, int] = (0, 1), reader: BatchReader | None = None
    ) -> tuple[Any, ...]:
        """The batch of a plan's `BatchRows`, or the part of it that host `shard[0]` of `shard[1]` takes.

        Keras takes a smaller last batch as it is, where hosts do not share it: so its metrics count no filled row, and
        it predicts none. What is filled all the same has no part in its mean.
        """
        reader = reader or self.own
        fills = not reader.keras or self._fills or shard[1] > 1
        if rows.used < rows.size and not fills:
            rows = rows._replace(size=rows.used)
        whole = Whole(rows, shard[1], reader)
        if self._pack:
            rows, arrays = self._packed(rows, shard)
        elif shard[1] > 1:
            rows, lengths = self._part(rows, shard)
            arrays = self._arrays(rows, self._by_group(lengths))
        else:
            arrays = self._arrays(rows)
        inputs = self._layout.inputs.build(arrays)
        targets, rule, ruled = self._layout.targets, self._layout.rule, self._layout.ruled
        if targets is None:
            return (inputs,)
        weighed = (self._weigh_rows and fills) or self._layout.weights is not None
        output_mask = None
        if rule is not None and ruled is not None:
            output_mask = np.asarray(rule(arrays[ruled.mask_at]))
        if self._layout.labels:
            return self._with_labels(targets.slots[0], inputs, arrays, output_mask, rows, whole, weighed)
        weights = self._weighting.of_targets(arrays, rows, whole, weighed, output_mask)
        found = targets.build(arrays)
        return (inputs, found) if weights is None else (inputs, found, weights)

    def batches(self, window: Sequence[BatchRows], shard: tuple[int, int]) -> Iterator[tuple[Any, ...]]:
        """An iterator over the batches of a plan's window: what `batch` gives, without detours that never are needed.

        A batch of short records takes microseconds, of which every step in Python is a part.
        """
        layout = self._layout
        weighed = layout.targets is not None and (
            layout.rule is not None or self._weigh_rows or layout.weights is not None or layout.targets.ragged
        )
        if self._direct is None or self._pack or self._looks or shard[1] > 1 or weighed:
            return (self.batch(rows, shard) for rows in window)
        return (self._viewed if self._plain and window[0].ids is None else self._gathered)(window, shard)

    def _with_labels(self, slot, inputs, arrays, output_mask, rows, whole, weighed):
        labels = {
            "labels": arrays[slot.at],
            "label_lengths": arrays[slot.mask_at].sum(1, dtype=np.int32),
            "output_mask": output_mask,
            "output_lengths": output_mask.sum(1, dtype=np.int32),
        }
        return (inputs, labels, self._weighting.of_rows(arrays, rows, whole)) if weighed else (inputs, labels)

    def _gathered(self, window, shard):
        finish, jobs = self._finisher(), self._layout.groups[0].jobs
        padded, table_batch = self._targets_of, self._direct
        for rows in window:
            ids, start, used, size, bound, _ = rows
            lengths = padded.get(bound)
            arrays = 0 if used < size or lengths is None else table_batch(jobs, ids, start, size, lengths[0])
            # What the kernel has refused `batch` raises an error for.
            yield self.batch(rows, shard) if type(arrays) is int else finish(arrays)

    def _viewed(self, window, shard):
        """Batches whose records lie together on the disk, as views: those that follow one another are cut at once."""
        finish, chunks = self._finisher(), self._layout.groups[0].chunks
        columns, first_rows = [chunks.values[slot.number] for slot in self._layout.slots], chunks.first_rows
        at, count = 0, len(window)
        while at < count:
            _, start, used, size, _, _ = window[at]
            chunk = bisect.bisect_right(first_rows, start) - 1
            room = (first_rows[chunk + 1] - start) // size
            if used < size or not room:  # filled, or in two chunks
                yield self.batch(window[at], shard)
                at += 1
                continue
            end = at + 1
            while end < count and end - at < room and window[end][1:3] == (start + size * (end - at), size):
                end += 1
            first, last = start - first_rows[chunk], start - first_rows[chunk] + size * (end - at)
            arrays = [parts[chunk][first:last] for parts in columns]
            if end == at + 1:
                yield finish(arrays)
            else:
                cut = [array.reshape(end - at, size, *array.shape[1:]) for array in arrays]
                yield from map(finish, zip(*cut, strict=True))
            at = end

    def _finisher(self):
        """A function from arrays to the batch, where it has no weights."""
        inputs, targets = self._layout.inputs.builder(), self._layout.targets and self._layout.targets.builder()
        if targets is None:
            return lambda arrays: (inputs(arrays),)
        return lambda arrays: (inputs(arrays), targets(arrays))

    # Arrays: for every field its values, and after those of a sequence its mask, at the places that its slot knows.

    def _arrays(self, rows, targets=None):
        ids, start, used, size, bound, _ = rows
        if used < size and (ids is None or len(ids) < size):
            ids = np.arange(start, start + used) if ids is None else ids
            ids = np.concatenate([ids, np.repeat(ids[:1], size - used)])
        if ids is None and self._plain:
            found = self._views(start, size)
            if found is not None:
                return found
        if targets is None and self._looks:
            targets = self._by_group(self._lengths.padded(bound, record_ids(rows)))
        if targets is None:
            targets = self._targets_of.get(bound)
        if targets is None:
            targets = self._targets_of[bound] = self._by_group(self._lengths.padded(bound))
        if self._direct is not None:
            arrays = self._direct(self._layout.groups[0].jobs, ids, start, size, targets[0])
            if type(arrays) is not int:
                return arrays
        return self._arrays_by_group(ids, start, size, targets)

    def _arrays_by_group(self, ids, start, size, targets):
        """Fields of several stores or views, texts, and those that the kernel does not convert."""
        found = []
        for (chunks, places, slots, jobs), lengths in zip(self._layout.groups, targets, strict=True):
            own = ids
            if places is not None:
                own = places[start : start + size] if ids is None else places[ids]
            arrays = chunks.table.batch(jobs, own, start, size, lengths)
            if type(arrays) is int:
                self._refuse(slots, own, start, arrays, lengths)
            arrays = iter(arrays)
            for slot in slots:
                if slot.text:
                    found.append(slot.texts(range(start, start + size) if own is None else own.tolist()))
                    continue
                values, mask = next(arrays), next(arrays) if slot.ragged else None
                found.append(values if slot.cast is None else slot.widened(values, mask))
                if slot.ragged:
                    found.append(mask)
        return found

    def _views(self, start, size):
        """Rows of arrays that lie together on the disk, without a copy; None if a chunk ends among them."""
        chunks = self._layout.groups[0].chunks
        chunk = bisect.bisect_right(chunks.first_rows, start) - 1
        first, end = chunks.first_rows[chunk], chunks.first_rows[chunk + 1]
        if start + size > end:
            return None
        start -= first
        return [chunks.values[slot.number][chunk][start : start + size] for slot in self._layout.slots]

    def _by_group(self, lengths):
        return [
            tuple(lengths.get(slot.name, -1) for slot in group.slots if not slot.text) for group in self._layout.groups
        ]

    def _packed(self, rows, shard):
        """Rows that hold several records each, and their arrays, of one host."""
        arrays = packed_arrays(self._layout, rows)
        if shard[1] > 1:
            size = rows.size // shard[1]
            arrays = [array[shard[0] * size : (shard[0] + 1) * size] for array in arrays]
            rows = rows._replace(size=size, used=min(max(rows.used - shard[0] * size, 0), size))
        return rows, arrays

    def _part(self, rows, shard):
        """The rows of one host, filled, and the padded length of each sequence, which all hosts share."""
        ids = record_ids(rows)
        lengths = self._lengths.padded(rows.bound, ids)
        leader = self._layout.leader
        bound = rows.bound if leader is None else lengths.get(leader, rows.bound)
        ids = np.concatenate([ids, np.repeat(ids[:1], rows.size - rows.used)])
        size = rows.size // shard[1]
        first = shard[0] * size
        used = min(max(rows.used - first, 0), size)
        return rows._replace(ids=ids[first : first + size], used=used, size=size, bound=bound), lengths

    def _refuse(self, slots, ids, start, bad, lengths):
        """Raise the error for the row that the table refused."""
        row = start + bad if ids is None else int(ids[bad])
        for slot, length in zip((slot for slot in slots if not slot.text), lengths, strict=True):
            place = slot.chunks.table.locate(slot.number, row)
            if place is None:
                raise slot.chunks.lying(slot.number, row)
            steps = place[2] + self._layout.added.get(slot.name, 0)
            if slot.ragged and 0 <= length < steps:
                raise RecordError(
                    f"the length must be at most {length}, to which is padded; received {steps}", row, slot.name
                )
        raise RecordError("the record could not be read", row)
