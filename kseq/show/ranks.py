"""The layers of a drawing: boxes in ranks, long wires as slots of their own in the ranks they pass, in a good order."""

import dataclasses
import itertools
from collections.abc import Hashable
from typing import Any

from .boxes import Box

_SWEEPS = 6


@dataclasses.dataclass(eq=False)
class Slot:
    """A place in a rank: of a box, or of the wires of one value that pass; `bus` if wires may end anywhere along it.

    Attributes:
        x, width, height: of the place; x is its left edge, from the left of the level.
        enter: where a wire from above best ends, from x.
        leave: by value where its wires begin, from x.
        ends: by value where its wires must end, from x.
    """

    box: Box | None
    value: Hashable
    width: float
    height: float
    enter: float
    leave: dict[Hashable, float]
    ends: dict[Hashable, float] = dataclasses.field(default_factory=dict)
    bus: bool = False
    x: float = 0.0
    y: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """Part of a wire, from a slot to one in the next rank."""

    upper: Slot
    lower: Slot
    value: Hashable


@dataclasses.dataclass(frozen=True, eq=False)
class Ranks:
    """Slots by rank from left to right, and the steps to each rank from that above."""

    slots: list[list[Slot]]
    steps: list[list[Step]]
    of: dict[Box, Slot]
    passing: dict[Any, Slot]  # by value and rank

    def way(self, value: Hashable, maker: Slot, reader: Slot) -> list[Slot]:
        """The slots that a wire passes, with both its ends."""
        by_slot = {slot: rank for rank, slots in enumerate(self.slots) for slot in slots}
        between = range(by_slot[maker] + 1, by_slot[reader])
        return [maker, *(self.passing[value, rank] for rank in between), reader]


def ranked(boxes: tuple[Box, ...], slot_of: Any, passing_width: float) -> Ranks:
    """The ranks of boxes, each below those that it reads.

    Args:
        boxes: each after those that it reads.
        slot_of: makes the slot of a box.
        passing_width: of the slots of wires.
    """
    makers = {value: box for box in boxes for value in box.gives}
    rank = _ranks(boxes, makers)
    of: dict[Box, Slot] = {box: slot_of(box) for box in boxes}
    slots: list[list[Slot]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for box in boxes:
        slots[rank[box]].append(of[box])
    lowest: dict[Hashable, int] = {}
    for box in boxes:
        for wire in box.reads:
            lowest[wire.value] = max(lowest.get(wire.value, 0), rank[box])
    passing: dict[Any, Slot] = {}
    for value, last in lowest.items():
        for r in range(rank[makers[value]] + 1, last):
            half = passing_width / 2
            passing[value, r] = Slot(None, value, passing_width, 0.0, half, {value: half})
            slots[r].append(passing[value, r])
    steps: list[list[Step]] = [[] for _ in slots]
    for (value, r), slot in passing.items():
        steps[r].append(Step(passing.get((value, r - 1), of[makers[value]]), slot, value))
    for box in boxes:
        for wire in box.reads:
            r = rank[box]
            steps[r].append(Step(passing.get((wire.value, r - 1), of[makers[wire.value]]), of[box], wire.value))
    _put_in_order(slots, steps)
    return Ranks(slots, steps, of, passing)


def _ranks(boxes, makers) -> dict[Box, int]:
    rank: dict[Box, int] = {}
    within = any(box.kind == "entry" for box in boxes)
    for box in boxes:
        above = [rank[makers[wire.value]] for wire in box.reads]
        rank[box] = max(above, default=-1) + 1
        if within and box.kind != "entry":
            rank[box] = max(rank[box], 1)
    readers: dict[Box, list[Box]] = {box: [] for box in boxes}
    for box in boxes:
        for wire in box.reads:
            readers[makers[wire.value]].append(box)
    for box in reversed(boxes):
        # A delay is where it is waited for.
        if box.kind == "delay" and readers[box]:
            rank[box] = min(rank[reader] for reader in readers[box]) - 1
    last = max((r for box, r in rank.items() if box.kind != "exit"), default=-1)
    for box in boxes:
        if box.kind == "exit":
            rank[box] = last + 1
        elif box.kind == "output":
            rank[box] = last
    return rank


def _put_in_order(slots, steps) -> None:
    """Reorder the slots of each rank so that few wires cross; the best of what some sweeps find."""
    best, fewest = [list(rank) for rank in slots], _crossings(slots, steps)
    for sweep in range(_SWEEPS if fewest else 0):
        down = sweep % 2 == 0
        ranks = range(1, len(slots)) if down else range(len(slots) - 2, -1, -1)
        for r in ranks:
            ends: dict[Slot, list[int]] = {}
            fixed = slots[r - 1 if down else r + 1]
            place = {slot: i for i, slot in enumerate(fixed)}
            for step in steps[r if down else r + 1]:
                one, other = (step.lower, step.upper) if down else (step.upper, step.lower)
                if not other.bus:
                    ends.setdefault(one, []).append(place[other])
            # Those without neighbours keep to where they are.
            own = {slot: i * len(fixed) / len(slots[r]) for i, slot in enumerate(slots[r])}
            middle = {slot: sum(ends[slot]) / len(ends[slot]) if slot in ends else own[slot] for slot in slots[r]}
            slots[r].sort(key=lambda slot: middle[slot])
        found = _crossings(slots, steps)
        if found < fewest:
            best, fewest = [list(rank) for rank in slots], found
    slots[:] = best


def _crossings(slots, steps) -> int:
    count = 0
    for (above, below), between in zip(itertools.pairwise(slots), steps[1:], strict=True):
        upper, lower = ({slot: i for i, slot in enumerate(rank)} for rank in (above, below))
        ends = sorted((upper[s.upper], lower[s.lower]) for s in between if not s.upper.bus and not s.lower.bus)
        for i, (_, end) in enumerate(ends):
            count += sum(other < end for _, other in ends[i + 1 :])
    return count
