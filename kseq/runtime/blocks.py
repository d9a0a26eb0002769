"""What every row of a batch of streams holds until its block is full, and how far it has come."""

from typing import Any

import numpy as np

from ..sequence import Sequence

# Blocks in one call of the step. A long chunk is a few calls, and few functions are ever compiled.
_CALL_BLOCKS = (256, 64, 16, 4, 1)
# A number of blocks, more than one, that comes so often in a row is one call from then on: it is worth a function of
# its own.
_ALIKE = 3


class Blocks:
    """Cuts the chunks of a batch of streams into calls of whole blocks, and the outputs of calls into those of streams.

    Rows that have come equally far are counted as one; from the first time that a row is treated by itself each row
    has its own counts.

    No list is ever written, and no array but for steps that no `position` counts as held: a position is a value.

    Attributes:
        pushed: steps received: one number, or int64 [B] where rows are apart.
        held: of these steps that are held, likewise: the first of arrays that may be longer. Not `pushed % block_size`
            where they were cut by another block.
        together: whether all rows have come equally far.
    """

    batch_size: int
    block_size: int
    latencies: list[int]
    together: bool
    _held: Any
    _made: list[Any]
    _returned: list[Any]
    pushed: Any
    held: Any

    def __init__(self, batch_size: Any, block_size: Any, latencies: Any) -> None:
        self.batch_size, self.block_size, self.latencies = batch_size, block_size, latencies
        self.reset()

    def reset(self) -> None:
        """Begin all rows anew."""
        self.together, self._held, self.held = True, None, 0
        self.pushed = 0
        self._made, self._returned = [0] * len(self.latencies), [0] * len(self.latencies)
        self._usual = 0, 0  # the number of blocks, more than one, that came last, and how often it came in a row

    @property
    def position(self) -> tuple[Any, ...]:
        """How far the streams have come, and what they hold: what it is set to later, they go back to."""
        return self.together, self._held, self.held, self.pushed, self._made, self._returned, self._usual

    @position.setter
    def position(self, position: Any) -> None:
        self.together, self._held, self.held, self.pushed, self._made, self._returned, self._usual = position

    def reset_rows(self, rows: Any) -> None:
        """Begin some rows, bool [B], anew."""
        self._part()
        self.pushed, self.held = np.where(rows, 0, self.pushed), np.where(rows, 0, self.held)
        self._made = [np.where(rows, 0, n) for n in self._made]
        self._returned = [np.where(rows, 0, n) for n in self._returned]

    def copy_rows(self, sources: Any, targets: Any) -> None:
        """Let rows hold what others hold, and be as far as they are.

        Args:
            sources: integers [N].
            targets: integers [N], each once: what row `sources[i]` is, row `targets[i]` becomes.
        """
        rows = np.arange(self.batch_size)
        rows[targets] = sources
        if not self.together:
            self.pushed, self.held = self.pushed[rows], self.held[rows]
            self._made, self._returned = [n[rows] for n in self._made], [n[rows] for n in self._returned]
        if self._held is not None:
            self._held = [Sequence(x.values[rows], None if x.mask is None else x.mask[rows]) for x in self._held]

    def take_back(self, steps: Any, ratios: Any) -> Any:
        """Be where the streams were before their last steps; return how many of these are in blocks that went through.

        Args:
            steps: one number, or int64 [B].
            ratios: of every output, to the inputs.

        Raises:
            ValueError: more steps than were pushed, or such as end within a block that went through.
        """
        if np.ndim(steps):
            self._part()
        held, left = self.held, self.pushed - steps
        self._check_left(steps, held, left)
        through = np.where(steps <= held, 0, steps - held)
        through = through if np.ndim(steps) or not self.together else int(through)
        if self.together and self._held is not None:
            kept = held - steps
            self._held = [_copied(x.slice_time(0, kept)) for x in self._held] if kept > 0 else None
        self.pushed, self.held = left, np.maximum(held - steps, 0) if np.ndim(left) else max(held - steps, 0)
        for number, (ratio, latency) in enumerate(zip(ratios, self.latencies, strict=True)):
            made = self._made[number] - through * ratio.numerator // ratio.denominator
            self._made = _replaced(self._made, number, made)
            returned = np.maximum(made - latency, 0)
            self._returned = _replaced(self._returned, number, int(returned) if self.together else returned)
        return through

    def _check_left(self, steps, held, left):
        wrong = np.broadcast_to(left < 0, self.batch_size)
        within = np.broadcast_to(((steps - held) % self.block_size != 0) & (steps > held), self.batch_size)
        for row in np.flatnonzero(wrong | within)[:1]:
            asked, pushed, kept = (int(np.broadcast_to(n, self.batch_size)[row]) for n in (steps, self.pushed, held))
            where = f"row {row} of the stream" if self.batch_size > 1 else "the stream"
            if wrong[row]:
                raise ValueError(f"`steps` must be {pushed} at most, which {where} was pushed; received {asked}")
            raise ValueError(
                f"`steps` must end between blocks of {self.block_size}, or within the {kept} that {where} holds; "
                f"received {asked} after {pushed} steps"
            )

    def _part(self):
        """Count each row by itself from here on."""
        if self.together:
            self.together = False
            self.pushed, self.held = np.full(self.batch_size, self.pushed), np.full(self.batch_size, self.held)
            self._made = [np.full(self.batch_size, n) for n in self._made]
            self._returned = [np.full(self.batch_size, n) for n in self._returned]

    def takes_at_once(self, steps: int) -> bool:
        """Whether so many steps more come to one call of the step at most, and what it gives belongs to the stream."""
        if not (self.together and steps):
            return False
        there = self.held + steps
        if there < self.block_size:
            return True
        if self._made[0] < self.latencies[0]:
            return False
        usual, alike = self._usual
        return there == self.block_size or (not self.held and alike == _ALIKE and steps == usual * self.block_size)

    def fill(self, values: Any, beside: Any) -> Any:
        """The block that valid steps fill, which is not counted yet; `None` where they do not, and are held.

        Args:
            values: [B, T, ...] of the first input, no more than the block has room for.
            beside: of every other input the values of a block, always the same.
        """
        held, steps = self.held, values.shape[1]
        block = self._held[0].values if held else values[:, :0]
        if block.shape[1] < self.block_size:
            old, block = block, np.empty((len(values), self.block_size, *values.shape[2:]), values.dtype)
            block[:, :held] = old[:, :held]
        block[:, held : held + steps] = values
        if held + steps == self.block_size:
            return block
        self._held = [Sequence(x) for x in (block, *beside)]
        self.held, self.pushed = held + steps, self.pushed + steps
        return None

    def pass_block(self, steps: int, outputs: int) -> None:
        """Count steps that filled what went right through, and nothing is held: all at once, whatever breaks in."""
        made, returned = [self._made[0] + outputs], [self._returned[0] + outputs]
        self._held, self.held, self.pushed, self._made, self._returned = None, 0, self.pushed + steps, made, returned

    def cut(self, inputs: Any, active: Any = None) -> Any:
        """Calls for a chunk: tuples (values, masks, active) of whole blocks; what is left over is held.

        Args:
            inputs: a `Sequence` [B, T, ...] for every input, in NumPy.
            active: bool [B] or `None`: rows that the chunk is for.
        """
        if active is not None:
            self._part()
        elif self.together:
            return self._cut_together(inputs)
        return self._cut_apart(inputs, np.ones(self.batch_size, bool) if active is None else active)

    def _cut_together(self, inputs):
        joined = inputs
        if self._held is not None:
            held = [x.slice_time(0, self.held) for x in self._held]
            joined = [_joined(pair) for pair in zip(held, inputs, strict=True)]
        steps, start, calls = joined[0].values.shape[1], 0, []
        for blocks in self._in_calls(steps // self.block_size):
            size = blocks * self.block_size
            calls.append((*_columns([x.slice_time(start, start + size) for x in joined]), None))
            start += size
        # A copy: the caller may write its next chunk into the same array.
        rest = [x.slice_time(start, steps) for x in joined]
        self._held, self.held = [_copied(x) for x in rest] if start < steps else None, steps - start
        self.pushed = self.pushed + inputs[0].values.shape[1]
        return calls

    def _in_calls(self, blocks) -> list[int]:
        """The numbers of blocks of the calls that make so many blocks."""
        if blocks < 2:
            return [1] * blocks
        usual, alike = self._usual
        alike = min(alike + 1, _ALIKE) if blocks == usual else 1
        self._usual = (blocks, alike) if blocks <= _CALL_BLOCKS[0] else (0, 0)
        if self._usual == (blocks, _ALIKE):
            return [blocks]
        found = []
        for size in _CALL_BLOCKS:
            found += [size] * (blocks // size)
            blocks %= size
        return found

    def _cut_apart(self, inputs, active):
        before, time = self.held, inputs[0].values.shape[1]
        held = self._held or [x.slice_time(0, 0) for x in inputs]
        steps = before + np.where(active, time, 0)  # of each row: what it holds and what is new
        longest = max(int(steps.max(initial=0)), 1)
        # Step `i` of a row is of what it holds where `i` is below `before`, and else of the chunk.
        at = np.arange(longest)[None, :]
        joined = [_row_by_row(old, new, before, at) for old, new in zip(held, inputs, strict=True)]
        calls, blocks = [], steps // self.block_size
        for i in range(int(blocks.max(initial=0))):
            part = slice(i * self.block_size, (i + 1) * self.block_size)
            calls.append((*_columns([x.slice_time(part.start, part.stop) for x in joined]), blocks > i))
        self.pushed = self.pushed + np.where(active, time, 0)
        left = blocks[:, None] * self.block_size + np.arange(self.block_size)[None, :]
        left = np.minimum(left, longest - 1)
        rows = np.arange(len(steps))[:, None]
        self._held = [Sequence(x.values[rows, left], x.mask[rows, left]) for x in joined]
        self.held = steps - blocks * self.block_size
        return calls

    def trim(self, number: Any, outputs: Any, limit: Any = None) -> Any:
        """The outputs of one output of calls that belong to the stream: warm-up and what lies beyond the end are not.

        Args:
            number: of the output.
            outputs: (values, mask or `None`, active or `None`) of every call.
            limit: outputs of the whole stream: an integer, one for each row, or `None` where it goes on.

        Returns:
            A `Sequence` where the rows are together, else a list of (values [U, ...], mask [U]), a row each.
        """
        if self.together:
            joined = _joined([Sequence(values, mask) for values, mask, _ in outputs])
            made = joined.values.shape[1]
            start, stop = self._span(self._made[number], self._returned[number], made, self.latencies[number], limit)
            self._count(number, made, stop - start)
            return joined if stop - start == made else joined.slice_time(start, stop)
        rows, counts, limits = [], [], [limit] * self.batch_size if np.ndim(limit) == 0 else limit
        for row in range(self.batch_size):
            own = [Sequence(v[row : row + 1], None if m is None else m[row : row + 1]) for v, m, a in outputs if a[row]]
            joined = _joined(own or [Sequence(outputs[0][0][:1, :0])])
            made, before = joined.values.shape[1], (self._made[number][row], self._returned[number][row])
            start, stop = self._span(*before, made, self.latencies[number], limits[row])
            counts.append((made, stop - start))
            cut = joined.slice_time(start, stop).with_mask()
            rows.append((cut.values[0], cut.mask[0]))
        self._count(number, *np.array(counts).T)
        return rows

    def _count(self, number, made, returned):
        """Count outputs of one output, for all rows together or int64 [B]."""
        self._made = _added(self._made, number, made)
        self._returned = _added(self._returned, number, returned)

    @staticmethod
    def _span(made_before, returned_before, made, latency, limit):
        """Of the outputs just made, those that are given: not the warm-up, and no more than `limit` in all."""
        start = min(max(latency - made_before, 0), made)
        return start, made if limit is None else min(start + max(limit - returned_before, 0), made)


def _added(counts, number, more):
    return [count + more if i == number else count for i, count in enumerate(counts)]


def _replaced(counts, number, count):
    return [count if i == number else other for i, other in enumerate(counts)]


def _copied(x) -> Sequence:
    return Sequence(x.values.copy(), None if x.mask is None else x.mask.copy())


def _joined(sequences) -> Sequence:
    return sequences[0] if len(sequences) == 1 else Sequence.concatenate(sequences)


def _columns(sequences):
    return tuple(x.values for x in sequences), tuple(x.mask for x in sequences)


def _row_by_row(old, new, before, at):
    """Of each row the steps that it holds, followed by those of the chunk; beyond them whatever there is."""
    old, new = old.with_mask(), new.with_mask()
    rows = np.arange(len(before))[:, None]
    is_old = at < before[:, None]
    parts = []
    for held, given in zip(old, new, strict=True):
        held = held.astype(given.dtype, copy=False)  # where chunks of no steps have said no dtype yet
        held = held if held.shape[1] else np.zeros((len(before), 1, *held.shape[2:]), held.dtype)
        given = given if given.shape[1] else np.zeros((len(before), 1, *given.shape[2:]), given.dtype)
        of_old = held[rows, np.minimum(at, held.shape[1] - 1)]
        of_new = given[rows, np.clip(at - before[:, None], 0, given.shape[1] - 1)]
        parts.append(np.where(is_old.reshape(is_old.shape + (1,) * (of_old.ndim - 2)), of_old, of_new))
    return Sequence(*parts)
