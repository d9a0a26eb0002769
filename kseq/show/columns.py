"""Where the spots of ranks stand from left to right: what is in line is drawn in line, and nothing overlaps."""

import itertools
from typing import Any

from .ranks import Ranks, Spot


def set_columns(ranks: Ranks, gap: float) -> float:
    """Give every spot its `x`, and return the width of all.

    Spots that one wire joins stand in one column, as far as columns do not cross (after U. Brandes and B. Koepf, 2001,
    "Fast and Simple Horizontal Coordinate Assignment"). Columns stand halfway between as far left and as far right as
    they can, so that what has room around it is in the middle.
    """
    column, shift = _columns(ranks)
    order: dict[Spot, list[tuple[Spot, float]]] = {root: [] for root in column.values()}
    for spots in ranks.spots:
        for one, other in itertools.pairwise(spots):
            apart = shift[one] + one.width + _gap(one, other, gap) - shift[other]
            order[column[one]].append((column[other], apart))
    sorted_roots = _sorted(order)
    left = {root: max(-shift[spot] for spot in column if column[spot] is root) for root in order}
    for root in sorted_roots:
        for other, apart in order[root]:
            left[other] = max(left[other], left[root] + apart)
    width = max((left[root] + shift[spot] + spot.width for spot, root in column.items()), default=0.0)
    right = {root: min(width - shift[s] - s.width for s in column if column[s] is root) for root in order}
    for root in reversed(sorted_roots):
        for other, apart in order[root]:
            right[root] = min(right[root], right[other] - apart)
    for spot, root in column.items():
        spot.x = (left[root] + right[root]) / 2 + shift[spot]
    _straighten(ranks, column, width, gap)
    return width


def _straighten(ranks, column, width, gap) -> None:
    """Move columns that one wire enters below where it begins, as far as there is room."""
    members: dict[Spot, list[Spot]] = {}
    for spot, root in column.items():
        members.setdefault(root, []).append(spot)
    beside = {pair for spots in ranks.spots for pair in itertools.pairwise(spots)}
    before = {other: one for one, other in beside}
    after = dict(beside)
    for steps in ranks.steps:
        for step in steps:
            lower, upper = step.lower, step.upper
            if column[lower] is not lower or upper.bus or lower.bus or sum(s.lower is lower for s in steps) > 1:
                continue
            room = [
                [(s.x - b.x - b.width - _gap(b, s, gap)) for s in members[lower] if (b := before.get(s))],
                [(a.x - s.x - s.width - _gap(s, a, gap)) for s in members[lower] if (a := after.get(s))],
            ]
            wanted = upper.x + upper.leave[step.value] - lower.x - lower.ends.get(step.value, lower.enter)
            # What stands alone must not leave the picture.
            least = -min([*room[0], min(s.x for s in members[lower])])
            most = min([*room[1], width - max(s.x + s.width for s in members[lower])])
            for spot in members[lower]:
                spot.x += max(least, min(wanted, most))


def _gap(one, other, gap) -> float:
    return gap if one.box and other.box else gap / 2


def _columns(ranks) -> tuple[dict[Spot, Spot], dict[Spot, float]]:
    """By spot the first of its column, and how far to the right of that it stands."""
    column = {spot: spot for spots in ranks.spots for spot in spots}
    shift = dict.fromkeys(column, 0.0)
    for above, below, steps in zip(ranks.spots, ranks.spots[1:], ranks.steps[1:], strict=False):
        upper, lower = ({spot: i for i, spot in enumerate(spots)} for spots in (above, below))
        taken: list[Any] = []
        for step in _by_importance(steps, upper, lower):
            u, v = upper[step.upper], lower[step.lower]
            if all((u < u2 and v < v2) or (u > u2 and v > v2) for u2, v2 in taken):
                taken.append((u, v))
                column[step.lower] = column[step.upper]
                enter = step.lower.ends.get(step.value, step.lower.enter)
                shift[step.lower] = shift[step.upper] + step.upper.leave[step.value] - enter
    return column, shift


def _by_importance(steps, upper, lower) -> list[Any]:
    """The steps that would best be straight first: of long wires, then between boxes, of each the middle one."""
    straight = [step for step in steps if not step.upper.bus and not step.lower.bus]
    read: dict[Spot, list[int]] = {}
    for step in straight:
        read.setdefault(step.lower, []).append(upper[step.upper])

    def importance(step):
        places = sorted(read[step.lower])
        off = abs(places.index(upper[step.upper]) - (len(places) - 1) // 2)
        boxes = (step.upper.box is not None) + (step.lower.box is not None)
        return {0: 0, 2: 1, 1: 2}[boxes], off, lower[step.lower], upper[step.upper]

    return sorted(straight, key=importance)


def _sorted(order) -> list[Spot]:
    """Columns, each after those to its left."""
    waits = dict.fromkeys(order, 0)
    for after in order.values():
        for other, _ in after:
            waits[other] += 1
    ready = [root for root, count in waits.items() if not count]
    for root in ready:  # which grows
        for other, _ in order[root]:
            waits[other] -= 1
            if not waits[other]:
                ready.append(other)
    return ready
