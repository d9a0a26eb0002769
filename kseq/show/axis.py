"""The axis of a timeline: which input steps are drawn, and which long stretches of them are folded into a break."""

import dataclasses
import math
from typing import Any

from ..timing import Timing
from .svg import text_width

FOLD_TEXT = 10  # font size
_FEWEST, _MOST = 20, 40  # cells that are drawn where nothing is folded
_ENDLESS, _ENDLESS_FOLDED = 14, 5  # steps to draw of a side without end
_AROUND = 2  # steps to draw on either side of one that matters
_SHORTEST_FOLD = 4
_NARROWEST = 14.0  # a cell, where something is folded


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Steps `first` to `last` in one column of the picture: one, or those that are folded."""

    first: int
    last: int
    x: float = 0.0
    width: float = 0.0

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    @property
    def folded(self) -> bool:
        return self.count > 1

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def label(self) -> str:
        """What a fold says."""
        return f"{self.count:,} steps"


class Axis:
    """The input steps of a timeline, counted from the marked output's own, which is the first of a block.

    All steps between `first` and `last` are there, each in a cell or in a fold; what matters is in cells: the ends of
    what the output needs, of its block and of the latencies, with some steps around.

    Attributes:
        stretches: from left to right.
        marks: the steps that matter.
    """

    marks: list[int]
    first: int
    last: int
    stretches: tuple[Stretch, ...]

    def __init__(self, timing: Timing, left: float, right: float) -> None:
        lo, hi = timing.receptive_field or (0, 0)
        marks = {0, max(timing.input_latency, 0), math.floor(timing.output_latency / timing.ratio)}
        marks |= {int(end) for end in (lo, hi) if not math.isinf(end)}
        if timing.block_size > 1:
            marks.add(timing.block_size)
        self.marks = sorted(marks)
        past, future = ([_AROUND, _ENDLESS][math.isinf(end)] for end in (lo, hi))
        self.first, self.last = self.marks[0] - past, self.marks[-1] + future
        if self.last - self.first < _MOST:
            spare = max(_FEWEST - 1 - (self.last - self.first), 0)
            self.first, self.last = self.first - spare // 2, self.last + spare - spare // 2
            found = [Stretch(step, step) for step in range(self.first, self.last + 1)]
        else:
            past, future = ([_AROUND, _ENDLESS_FOLDED][math.isinf(end)] for end in (lo, hi))
            self.first, self.last = self.marks[0] - past, self.marks[-1] + future
            found = list(_folded(self.marks, self.first, self.last))
        self.stretches = tuple(_placed(found, left, right))

    @property
    def cells(self) -> list[Stretch]:
        return [part for part in self.stretches if not part.folded]

    @property
    def folds(self) -> list[Stretch]:
        return [part for part in self.stretches if part.folded]

    @property
    def left(self) -> float:
        return self.stretches[0].x

    @property
    def right(self) -> float:
        return self.stretches[-1].right

    @property
    def cell(self) -> float:
        """Width of a cell."""
        return self.cells[0].width

    def shows(self, step: int) -> bool:
        """Whether a step has a cell."""
        return any(part.first == step for part in self.cells)

    def x(self, step: Any) -> float:
        """Left edge of a step, which is the right edge of that before it; a step outside ends at an end of the axis."""
        if step <= self.first:
            return self.left
        for part in self.stretches:
            if part.first == step:
                return part.x
            if part.last >= step - 1:
                return part.right  # within a fold only where it begins
        return self.right


def _folded(marks, first, last):
    """A cell for each step near one that matters, and folds of the many in between."""
    step = first
    for mark in marks:
        near = mark - _AROUND
        if near - step >= _SHORTEST_FOLD and step > first:
            yield Stretch(step, near - 1)
            step = near
        end = min(mark + _AROUND, last) if mark != marks[-1] else last
        while step <= end:
            yield Stretch(step, step)
            step += 1


def _placed(stretches, left, right):
    """The stretches side by side from `left` to `right`, or beyond it where there is too much to say."""
    widths = [text_width(part.label, FOLD_TEXT) + 18 if part.folded else 0.0 for part in stretches]
    cells = sum(not part.folded for part in stretches)
    cell = (right - left - sum(widths)) / cells
    if len(stretches) > cells:
        cell = max(cell, _NARROWEST)
    for part, width in zip(stretches, widths, strict=True):
        yield dataclasses.replace(part, x=left, width=width or cell)
        left += width or cell
