"""The layers of a drawing: boxes in ranks, long wires as spots of their own in the ranks they pass, in a good order."""

import dataclasses
import itertools
from collections.abc import Hashable
from typing import Any

from .boxes import Box

_SWEEPS = 6


@dataclasses.dataclass(eq=False)
class Spot:
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
    """Part of a wire, from a spot to one in the next rank."""

    upper: Spot
    lower: Spot
    value: Hashable


@dataclasses.dataclass(frozen=True, eq=False)
class Ranks:
    """Spots by rank from left to right, and the steps to each rank from that above."""

    spots: list[list[Spot]]
    steps: list[list[Step]]
    of: dict[Box, Spot]
    passing: dict[Any, Spot]  # by value and rank

    def way(self, value: Hashable, maker: Spot, reader: Spot) -> list[Spot]:
        """The spots that a wire passes, with both its ends."""
        by_spot = {spot: rank for rank, spots in enumerate(self.spots) for spot in spots}
        between = range(by_spot[maker] + 1, by_spot[reader])
        return [maker, *(self.passing[value, rank] for rank in between), reader]


def ranked(boxes: tuple[Box, ...], spot_of: Any, passing_width: float) -> Ranks:
    """The ranks of boxes, each below those that it reads.

    Args:
        boxes: each after those that it reads.
        spot_of: makes the spot of a box.
        passing_width: of the spots of wires.
    """
    makers = {value: box for box in boxes for value in box.gives}
    rank = _ranks(boxes, makers)
    of: dict[Box, Spot] = {box: spot_of(box) for box in boxes}
    spots: list[list[Spot]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for box in boxes:
        spots[rank[box]].append(of[box])
    lowest: dict[Hashable, int] = {}
    for box in boxes:
        for wire in box.reads:
            lowest[wire.value] = max(lowest.get(wire.value, 0), rank[box])
    passing: dict[Any, Spot] = {}
    for value, last in lowest.items():
        for r in range(rank[makers[value]] + 1, last):
            half = passing_width / 2
            passing[value, r] = Spot(None, value, passing_width, 0.0, half, {value: half})
            spots[r].append(passing[value, r])
    steps: list[list[Step]] = [[] for _ in spots]
    for (value, r), spot in passing.items():
        steps[r].append(Step(passing.get((value, r - 1), of[makers[value]]), spot, value))
    for box in boxes:
        for wire in box.reads:
            r = rank[box]
            steps[r].append(Step(passing.get((wire.value, r - 1), of[makers[wire.value]]), of[box], wire.value))
    _put_in_order(spots, steps)
    return Ranks(spots, steps, of, passing)


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


def _put_in_order(spots, steps) -> None:
    """Reorder the spots of each rank so that few wires cross; the best of what some sweeps find."""
    best, fewest = [list(rank) for rank in spots], _crossings(spots, steps)
    for sweep in range(_SWEEPS if fewest else 0):
        down = sweep % 2 == 0
        ranks = range(1, len(spots)) if down else range(len(spots) - 2, -1, -1)
        for r in ranks:
            ends: dict[Spot, list[int]] = {}
            fixed = spots[r - 1 if down else r + 1]
            place = {spot: i for i, spot in enumerate(fixed)}
            for step in steps[r if down else r + 1]:
                one, other = (step.lower, step.upper) if down else (step.upper, step.lower)
                if not other.bus:
                    ends.setdefault(one, []).append(place[other])
            # Those without neighbours keep to where they are.
            own = {spot: i * len(fixed) / len(spots[r]) for i, spot in enumerate(spots[r])}
            middle = {spot: sum(ends[spot]) / len(ends[spot]) if spot in ends else own[spot] for spot in spots[r]}
            spots[r].sort(key=lambda spot: middle[spot])
        found = _crossings(spots, steps)
        if found < fewest:
            best, fewest = [list(rank) for rank in spots], found
    spots[:] = best


def _crossings(spots, steps) -> int:
    count = 0
    for (above, below), between in zip(itertools.pairwise(spots), steps[1:], strict=True):
        upper, lower = ({spot: i for i, spot in enumerate(rank)} for rank in (above, below))
        ends = sorted((upper[s.upper], lower[s.lower]) for s in between if not s.upper.bus and not s.lower.bus)
        for i, (_, end) in enumerate(ends):
            count += sum(other < end for _, other in ends[i + 1 :])
    return count
