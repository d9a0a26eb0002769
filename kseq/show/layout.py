"""A drawing of boxes and wires: where each stands and by which corners it goes, with boxes within boxes."""

import dataclasses
import itertools
from collections.abc import Hashable
from typing import Any

from .boxes import Box, Wire
from .columns import set_columns
from .ranks import Ranks, Spot, ranked
from .svg import text_width

NAME, LINE = 13, 11  # font sizes: of names, which are bold, and of what else is said
SPACING, PAD = 15.0, 10.0  # between lines; around them
_GAP, _PASSING = 26.0, 10.0  # between boxes side by side; the place of a wire
_CHANNEL, _TRACK = 14.0, 9.0  # from a box to the first track between ranks, and from track to track
_STRAIGHT = 1e-3  # ends that are no further apart are in line
_PORT, _CORNER = 12.0, 14.0  # between wires that end at one box; from its sides to them

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Drawing:
    """Boxes with their places (left, top, width, height), the drawings within them, and the corners of wires.

    Of the drawing within a box, where wires leave it and, by the inputs that it shows, where they enter: from its left.
    """

    width: float
    height: float
    places: dict[Box, tuple[float, float, float, float]]
    within: dict[Box, "Drawing"]
    wires: list[tuple[Wire, Box, Box, list[Point]]]
    enter: tuple[float, ...] = ()
    leave: tuple[float, ...] = ()


def lay_out(boxes: tuple[Box, ...]) -> Drawing:
    """The drawing of boxes, each after those that it reads; the same for the same boxes.

    Boxes stand in ranks, below what they read; wires run in their own columns through the ranks that they pass, and
    turn between the ranks, so that they cross neither boxes nor texts.
    """
    within = {box: lay_out(box.inside) for box in boxes if box.inside}
    ranks = ranked(boxes, lambda box: _spot(box, within.get(box)), _PASSING)
    frame = boxes[0].kind == "entry" if boxes else False
    width = set_columns(ranks, _GAP)
    if frame:
        width = _framed(ranks, width)
    ports = _Ports(ranks)
    height = _set_rows(ranks, ports)
    wires = [
        (wire, ports.makers[wire.value], box, ports.corners(wire.value, ports.makers[wire.value], box))
        for box in boxes
        for wire in box.reads
    ]
    places = {box: (spot.x, spot.y, spot.width, spot.height) for box, spot in ranks.of.items()}
    return Drawing(width, height, places, within, wires, *_ends(ranks, boxes, ports, width) if frame else ())


def _spot(box, drawing) -> Spot:
    if box.kind in ("entry", "exit"):
        size = _text_size(box.lines) if box.lines else (0.0, 0.0)
        return Spot(box, None, *size, 0.0, dict.fromkeys(box.gives, 0.0), bus=True)
    width, height = _text_size(box.lines)
    if drawing is not None:
        leave = dict(zip(box.gives, drawing.leave, strict=True))
        middle, values = sum(drawing.enter) / len(drawing.enter), [wire.value for wire in box.reads]
        ends = dict(zip(values, drawing.enter, strict=True)) if len(values) == len(drawing.enter) > 1 else {}
        return Spot(box, None, drawing.width, drawing.height, middle, leave, ends)
    width = max(width, 2 * _CORNER + _PORT * max(len(box.reads), len(box.gives)))
    parts = len(box.gives) + 1
    return Spot(box, None, width, height, width / 2, {v: width * i / parts for i, v in enumerate(box.gives, 1)})


def _text_size(lines) -> Point:
    widths = [text_width(lines[0], NAME, bold=True), *(text_width(line, LINE) for line in lines[1:])]
    return max(widths) + 2 * PAD, SPACING * len(lines) + PAD


def _framed(ranks, width) -> float:
    """Move what is within a frame into it, whose entry and exit are as wide as it is."""
    (entry,), (end,) = ranks.spots[0], ranks.spots[-1]
    inner = [spot for spots in ranks.spots[1:-1] for spot in spots]
    left = min((spot.x for spot in inner), default=0.0)
    right = max((spot.x + spot.width for spot in inner), default=0.0)
    width = max(right - left + 2 * PAD, entry.width)
    for spot in inner:
        spot.x += (width - (right - left)) / 2 - left
    for spot in (entry, end):
        spot.x, spot.width = 0.0, width
    return width


def _ends(ranks, boxes, ports, width) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Where wires enter a frame and where they leave it: above its inputs, or at best straight above what it gives."""
    leave = tuple(ports.x_of[ranks.of[boxes[-1]], wire.value] for wire in boxes[-1].reads) or (width / 2,)
    inputs = tuple(spot.x + spot.enter for box, spot in ranks.of.items() if box.kind == "input")
    return inputs or leave[:1], leave


class _Ports:
    """Where each step of a wire begins and ends, from left to right, and on which track between ranks it turns."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.makers = {value: box for box in ranks.of for value in box.gives}
        self.x_of: dict[Any, float] = {}  # by (lower spot, value) where the step ends
        self.tracks: list[dict[Any, int]] = [{}]  # for each rank by (upper spot, value)
        self.turn_y: dict[Any, float] = {}  # by (upper spot, value)
        for steps in ranks.steps[1:]:
            self._set_ends(steps)
            self.tracks.append(_tracks(self._nets(steps)))

    def start(self, step: Any) -> float:
        """Where a step begins: from a bus, right above its end."""
        upper = step.upper
        return self.x_of[step.lower, step.value] if upper.bus else upper.x + upper.leave[step.value]

    def _set_ends(self, steps):
        starts = {(s.upper, s.value): s.upper.x + s.upper.leave[s.value] for s in steps if not s.upper.bus}
        by_lower: dict[Spot, list[Any]] = {}
        for step in steps:
            by_lower.setdefault(step.lower, []).append(step)
        for lower, found in by_lower.items():
            middle = lower.x + lower.enter
            found.sort(key=lambda step: starts.get((step.upper, step.value), middle))
            keys = [(step.upper, step.value) for step in found]
            begun = [starts.get(key, middle) for key in keys]
            if lower.box is None:
                ends = [middle] * len(found)
            elif lower.bus:
                ends = begun
            elif lower.ends:
                ends = [lower.x + lower.ends[step.value] for step in found]
            else:
                ends = _ends_at(lower, begun, [x for key, x in starts.items() if key not in keys])
            self.x_of |= {(lower, step.value): x for step, x in zip(found, ends, strict=True)}

    def _nets(self, steps):
        """By (upper spot, value) where wires that must turn begin and where they end."""
        nets: dict[Any, tuple[float, list[float]]] = {}
        for step in steps:
            start = self.start(step)
            nets.setdefault((step.upper, step.value), (start, []))[1].append(self.x_of[step.lower, step.value])
        return {key: net for key, net in nets.items() if any(abs(end - net[0]) > _STRAIGHT for end in net[1])}

    def corners(self, value: Hashable, maker: Box, reader: Box) -> list[Point]:
        """The corners of a wire from the lower edge of its maker to the upper edge of its reader."""
        way = self.ranks.way(value, self.ranks.of[maker], self.ranks.of[reader])
        first = way[0]
        x = self.x_of[way[1], value] if first.bus else first.x + first.leave[value]
        points = [(x, first.y + first.height)]
        for upper, lower in itertools.pairwise(way):
            end = self.x_of[lower, value]
            if abs(end - x) > _STRAIGHT:
                y = self.turn_y[upper, value]
                points += [(x, y), (end, y)]
                x = end
        return [*points, (x, way[-1].y)]


def _ends_at(spot, starts, others) -> list[float]:
    """Where wires that begin at `starts`, from left to right, end at a box: in line, or on the side they come from."""
    low, high, middle = spot.x + _CORNER, spot.x + spot.width - _CORNER, spot.x + spot.enter
    above = [x for x in starts if low <= x <= high]
    ends, left = [], sum(x < low for x in starts)
    for i, x in enumerate(starts):
        if x < low:
            x = min([*above, middle]) - _PORT * (left - i if above else left - i - 1)
        elif x > high:
            x = max([*above, middle]) + _PORT * (i + 1 - left - len(above) if above else i - left)
        if x not in starts and any(abs(x - other) < 4 for other in others):
            x += _PORT / 2  # beside where another wire begins right above
        ends.append(x)
    # Apart from each other, and within the box.
    apart = min(_PORT, (high - low) / max(len(starts) - 1, 1))
    for i in range(1, len(ends)):
        ends[i] = max(ends[i], ends[i - 1] + apart)
    limit = high
    for i in reversed(range(len(ends))):
        ends[i] = limit = min(ends[i], limit)
        limit -= apart
    limit = low
    for i in range(len(ends)):
        ends[i] = limit = max(ends[i], limit)
        limit += apart
    return ends


def _tracks(nets) -> dict[Any, int]:
    """A track for each wire that turns, so that none lies on another: it is below those that begin where it ends."""
    after: dict[Any, list[Any]] = {key: [] for key in nets}
    for key, (_, ends) in nets.items():
        for other, (start, _) in nets.items():
            if other != key and any(abs(end - start) < 4 for end in ends):
                after[key].append(other)
    tracks: dict[Any, int] = {}
    used: list[list[tuple[float, float]]] = []
    # Wires to the right from the right, those to the left from the left, each below the one before: few cross so.
    to_right = {key: max(ends) > start for key, (start, ends) in nets.items()}
    left = sorted(nets, key=lambda key: -nets[key][0] if to_right[key] else nets[key][0])
    highest = {True: 0, False: 0}
    while left:
        # Where they wait for each other in a circle, the first goes first.
        key = next((k for k in left if all(other in tracks for other in after[k])), left[0])
        left.remove(key)
        start, ends = nets[key]
        low, high = min(start, *ends) - 4, max(start, *ends) + 4
        track = max([highest[to_right[key]], *(tracks[other] + 1 for other in after[key] if other in tracks)])
        while track < len(used) and any(low < right and first < high for first, right in used[track]):
            track += 1
        used += [[] for _ in range(track + 1 - len(used))]
        used[track].append((low, high))
        tracks[key] = highest[to_right[key]] = track
    return tracks


def _set_rows(ranks, ports) -> float:
    """Give every spot its `y` and every turn its height, and return the height of all."""
    y = 0.0
    for r, spots in enumerate(ranks.spots):
        if r:
            tracks = ports.tracks[r]
            for key, track in tracks.items():
                ports.turn_y[key] = y + _CHANNEL + track * _TRACK
            y += 2 * _CHANNEL + max(tracks.values(), default=0) * _TRACK
        for spot in spots:
            spot.y = y
        y += max(spot.height for spot in spots)
    return y
