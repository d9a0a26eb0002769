"""`timeline_svg`: the timing of a streaming model as a picture."""

import math
from typing import Any

from ..model_graph import in_words
from ..streaming import as_layer
from ..timing import Timing
from .axis import FOLD_TEXT, Axis
from .svg import BLUE, GREY, ORANGE, add, add_line, add_text, clean, cut, fit, picture, text_width

_LEFT, _RIGHT, _MARGIN = 104, 826, 74  # where the cells begin and, if they fit, end; the room to the right of them
_CROWD = 4  # outputs of one input step that can still be told apart
_INPUTS, _OUTPUTS, _CELL = 146, 226, 24  # top of either row, and its height
_LATENCY = _OUTPUTS + _CELL + 14  # of the interval of output latency
_LEGEND = _LATENCY + 60
_COLOURS = {"past": BLUE, "own": GREY, "future": ORANGE}
_STYLE = ".kseq-timeline{max-width:100%}"


def timeline_svg(model: Any) -> str:
    """Which inputs an output of a streaming model needs and when it comes out, as an SVG picture.

    Args:
        model: a kseq layer, a `keras.Sequential` or a functional model, built.

    Returns:
        The text of an SVG image that stands alone; the same for the same name and timing.

    Raises:
        ValueError: a model that is not built, or that cannot stream, with the reason.
        TypeError: neither a kseq layer nor a Keras model.

    Example:
        >>> import kseq
        >>> svg = timeline_svg(kseq.Conv1D(4, 3, padding="causal", name="conv"))
        >>> "past 2 · future 0" in svg
        True
    """
    layer = as_layer(model)
    if layer.step_obstacle is not None:
        raise ValueError(f"{in_words(model)} cannot stream, so it has no timeline: {layer.step_obstacle}")
    return timing_svg(layer.timing, model.name)


def timing_svg(timing: Timing, title: str) -> str:
    """The picture of `timeline_svg` for a timing.

    Args:
        timing: what to draw.
        title: the name of what has this timing.

    Returns:
        The text of an SVG image that stands alone.

    Example:
        >>> timing_svg(Timing(), "identity").startswith("<svg ")
        True
    """
    title, axis = clean(title), Axis(timing, _LEFT, _RIGHT)
    notes = _notes(timing, axis)
    description = ". ".join([f"An output of {title} {_needs(timing)}", *_facts(timing), *notes]) + "."
    svg = picture("kseq-timeline", f"Timeline of {title}", description, _STYLE)
    add_text(svg, 8, 24, cut(title, 700, 16, bold=True), font_size=16, font_weight="bold")
    add_text(svg, 8, 46, " · ".join(_facts(timing)))
    add_text(svg, 8, 66, f"The marked output {_needs(timing)}.")
    _draw_field(svg, timing, axis)
    _draw_inputs(svg, timing, axis)
    _draw_outputs(svg, timing, axis)
    _draw_folds(svg, timing, axis)
    _draw_blocks(svg, timing, axis)
    _draw_input_latency(svg, timing, axis)
    _draw_output_latency(svg, timing, axis)
    _draw_legend(svg, timing)
    for line, note in enumerate(notes, 1):
        add_text(svg, 8, _LEGEND + 8 + 18 * line, f"{note}.")
    return fit(svg, max(axis.right, _RIGHT) + _MARGIN, _LEGEND + 20 + 18 * len(notes))


def _place(timing, output) -> int:
    """The input step that an output step belongs to."""
    return math.floor(output / timing.ratio)


def _needs(timing) -> str:
    if timing.receptive_field is None:
        return "needs no input"
    lo, hi = timing.receptive_field
    if lo == hi:
        return f"needs input {_step(lo)}, counted from its own step"
    if math.isinf(lo) and math.isinf(hi):
        return "needs all past and all future inputs"
    start = "all past inputs" if math.isinf(lo) else f"inputs {_step(lo)}"
    end = "all future inputs" if math.isinf(hi) else _step(hi)
    return f"needs {start} to {end}, counted from its own step"


def _step(step) -> str:
    return f"{int(step):+,}".replace("-", "\N{MINUS SIGN}") if step else "0"


def _facts(timing) -> list[str]:
    past, future = (_steps_needed(timing, side) for side in ("past", "future"))
    return [
        f"block {timing.block_size:,}",
        f"ratio {timing.ratio} (outputs per input)",
        f"latency in {timing.input_latency:,}, out {timing.output_latency:,}",
        f"past {past}",
        f"future {future}",
    ]


def _steps_needed(timing, side) -> str:
    """Steps before or after its own that an output needs, as in `summary`."""
    if timing.receptive_field is None:
        return "none"
    steps = -timing.receptive_field[0] if side == "past" else timing.receptive_field[1]
    return "all" if math.isinf(steps) else f"{max(int(steps), 0):,}"


def _notes(timing, axis) -> list[str]:
    phases, notes = timing.receptive_field_per_step, []
    if len(set(phases)) > 1:
        notes.append(f"Outputs of {len(phases):,} phases need different inputs; shown is the union of what they need")
    if timing.block_size > 1:
        notes.append(f"Outputs come out when their block of {timing.block_size:,} inputs is complete")
    if _per_box(timing) > 1:
        notes.append(f"A box stands for all outputs of its input, up to {_per_box(timing):,}")
    if axis.folds:
        notes.append("Steps between slanted lines are folded: as many as the number there says")
    return notes


def _per_box(timing) -> int:
    most = math.ceil(timing.ratio)
    return most if most > _CROWD else 1


def _draw_field(svg, timing, axis):
    """The fan from the needed inputs to the marked output, and that it goes on where it has no end."""
    if timing.receptive_field is None:
        return
    lo, hi = timing.receptive_field
    top, bottom = _INPUTS + _CELL, _OUTPUTS
    corners = (axis.x(lo), top), (axis.x(hi + 1), top), (_chosen(timing, axis), bottom)
    points = " ".join(f"{x:.7g},{y}" for x, y in corners)
    # Its edges are as readable as text; the area within is a hint.
    look = {"fill": "currentColor", "fill_opacity": 0.16, "stroke": "currentColor", "stroke_linejoin": "round"}
    add(svg, "polygon", class_="fan", points=points, **look)
    if math.isinf(lo):
        _draw_beyond(svg, "past", axis.left, -1)
    if math.isinf(hi):
        _draw_beyond(svg, "future", axis.right, 1)


def _draw_beyond(svg, side, x, sign):
    start, end, y = x + 4 * sign, x + 27 * sign, _INPUTS + _CELL / 2
    points = (start, y), (end, y), (end - 5 * sign, y - 4), (end, y), (end - 5 * sign, y + 4)
    add_line(svg, f"beyond {side}", points, stroke=_COLOURS[side])
    anchor = "end" if sign < 0 else "start"
    add_text(svg, x + 6 * sign, _INPUTS + _CELL + 18, f"all {side}", text_anchor=anchor)


def _draw_inputs(svg, timing, axis):
    lo, hi = timing.receptive_field or (math.inf, -math.inf)
    _row_name(svg, "inputs", _INPUTS)
    for cell in axis.cells:
        _draw_cell(svg, cell.x, _INPUTS, cell.width, _side(cell.first), lo <= cell.first <= hi)
    for cell in _numbered(axis):
        add_text(svg, cell.x + cell.width / 2, _INPUTS - 6, _step(cell.first), text_anchor="middle", font_size=11)


def _numbered(axis):
    """The cells whose number has room: first those that matter, then all or, where none is folded, each fifth."""
    taken = []

    def room(cell):
        reach = text_width(_step(cell.first), 11) / 2 + 4
        middle = cell.x + cell.width / 2
        if any(abs(middle - other) < reach + other_reach for other, other_reach in taken):
            return False
        taken.append((middle, reach))
        return True

    cells = axis.cells
    marks = [cell for cell in cells if cell.first in axis.marks]
    # Its own step first: all is counted from it.
    found = list(filter(room, sorted(marks, key=lambda cell: abs(cell.first))))
    others = [cell for cell in cells if cell not in found]
    every = all(text_width(_step(cell.first), 11) + 8 <= cell.width for cell in cells)
    fifths = not axis.folds
    return found + [cell for cell in others if (every or (fifths and cell.first % 5 == 0)) and room(cell)]


def _side(step):
    return "own" if step == 0 else "past" if step < 0 else "future"


def _draw_cell(svg, x, y, width, kind, needed, row="input"):
    """An input: filled where needed, and marked by shape too, with a stripe for future and a frame for own."""
    fill = _COLOURS[kind] if needed else "none"
    x, width = x + 1.5, width - 3
    _box(svg, f"{row} {kind} {'needed' if needed else 'unneeded'}", x, y, width, fill, 3 if kind == "own" else 1)
    if needed and kind == "future":
        add_line(svg, "stripe", [(x, y + _CELL), (x + width, y)], stroke="#fff", stroke_width=2)


def _draw_outputs(svg, timing, axis):
    _row_name(svg, "outputs", _OUTPUTS)
    for cell in axis.cells:
        boxes = _boxes(timing, cell.first)
        width = cell.width / max(len(boxes), 1)
        for i, output in enumerate(boxes):
            x, gap = cell.x + i * width, 1.5 if len(boxes) == 1 else 0.75
            chosen = output == 0
            kind = "output chosen" if chosen else "output"
            _box(svg, kind, x + gap, _OUTPUTS, width - 2 * gap, GREY if chosen else "none", 3 if chosen else 1)


def _boxes(timing, step) -> range:
    """The outputs that belong to an input step, or the first of them where they share a box."""
    outputs = _outputs_of(timing, step)
    return outputs[:1] if _per_box(timing) > 1 else outputs


def _outputs_of(timing, step) -> range:
    return range(math.ceil(step * timing.ratio), math.ceil((step + 1) * timing.ratio))


def _chosen(timing, axis) -> float:
    """Middle of the box of the marked output."""
    return axis.x(0) + axis.cell / len(_boxes(timing, 0)) / 2


def _output_x(timing, axis, output) -> float:
    """Middle of an output, whose step has a cell."""
    step = _place(timing, output)
    outputs = _outputs_of(timing, step)
    return axis.x(step) + (output - outputs[0] + 0.5) * axis.cell / len(outputs)


def _draw_folds(svg, timing, axis):
    """The breaks in both rows: slanted lines around the count, and the colour of the inputs that are folded."""
    lo, hi = timing.receptive_field or (math.inf, -math.inf)
    for fold in axis.folds:
        side, needed = _side(fold.first), lo <= fold.first and fold.last <= hi
        kind = f"{side} {'needed' if needed else 'unneeded'}"
        group = add(svg, "g", class_=f"fold {kind}")
        for y in (_INPUTS, _OUTPUTS):
            for x in (fold.x + 6, fold.right - 6):
                add_line(group, "break", [(x + 4, y - 1), (x - 4, y + _CELL + 1)])
        for y in (_INPUTS, _INPUTS + _CELL) if needed else ():
            slant = 4 if y == _INPUTS else -4
            ends = (fold.x + 6 + slant, y), (fold.right - 6 + slant, y)
            add_line(group, "folded", ends, stroke=_COLOURS[side], stroke_width=3)
        middle = (fold.x + fold.right) / 2
        add_text(group, middle, _INPUTS + _CELL / 2 + 4, fold.label, text_anchor="middle", font_size=FOLD_TEXT)


def _draw_blocks(svg, timing, axis):
    """A line in front of every block, between the numbers and what is below; blocks of one are the cells themselves."""
    size = timing.block_size
    for step in sorted({step for cell in axis.cells for step in (cell.first, cell.last + 1)}) if size > 1 else ():
        if step % size == 0:
            _block_line(svg, "block", axis.x(step), _INPUTS - 2, _OUTPUTS + _CELL + 2)


def _draw_input_latency(svg, timing, axis):
    latency = timing.input_latency
    start, end = axis.x(1), axis.x(1 + latency)
    rest = "inputs to push after the last one" if latency else "nothing to push after the last input"
    _draw_interval(
        svg, axis, "input-latency", start, end, _INPUTS - 30, _INPUTS - 41, f"input latency {latency:,}: {rest}"
    )


def _draw_output_latency(svg, timing, axis):
    latency = timing.output_latency
    start, end = (_output_x(timing, axis, output) for output in (0, latency))
    rest = "comes out that many outputs later" if latency else "comes out in its place"
    y = _LATENCY
    _draw_interval(svg, axis, "output-latency", start, end, y, y + 20, f"output latency {latency:,}: {rest}")


def _draw_interval(svg, axis, kind, start, end, y, text_y, text):
    """A line from `start` to `end` with a stop at either, broken where it passes a fold, and what it says."""
    if end > start:
        group = add(svg, "g", class_=kind)
        for stop in (start, end):
            add_line(group, "stop", [(stop, y - 5), (stop, y + 5)])
        breaks = [(fold.x + fold.right) / 2 for fold in axis.folds if start < fold.right and fold.x < end]
        edges = [start, *(x + gap for x in breaks for gap in (-3, 3)), end]
        for left, right in zip(edges[::2], edges[1::2], strict=True):
            add_line(group, "length", [(left, y), (right, y)])
        for x in (x + gap for x in breaks for gap in (-3, 3)):
            add_line(group, "break", [(x + 2, y - 5), (x - 2, y + 5)])
    fits = start + text_width(text) <= max(axis.right, _RIGHT) + _MARGIN
    add_text(svg, start if fits else end, text_y, text, text_anchor="start" if fits else "end")


def _draw_legend(svg, timing):
    own = timing.receptive_field is not None and timing.receptive_field[0] <= 0 <= timing.receptive_field[1]
    past, future = (f"{side}: {_steps_needed(timing, side)}" for side in ("past", "future"))
    items = ("past", True, past), ("own", own, "own step" if own else "own step, not needed"), ("future", True, future)
    for i, (kind, needed, name) in enumerate(items):
        _draw_cell(svg, 8 + 215 * i, _LEGEND - 17, 27, kind, needed, row="legend")
        add_text(svg, 42 + 215 * i, _LEGEND, name)
    if timing.block_size > 1:
        _block_line(svg, "block-legend", 660, _LEGEND - 17, _LEGEND + 7)
        add_text(svg, 672, _LEGEND, f"block: {timing.block_size:,} inputs")


def _block_line(svg, kind, x, top, bottom):
    add_line(svg, kind, [(x, top), (x, bottom)], stroke_dasharray="4 3")


def _box(svg, kind, x, y, width, fill, border):
    place = {"x": float(x), "y": y, "width": float(width), "height": _CELL}
    add(svg, "rect", class_=kind, fill=fill, stroke="currentColor", stroke_width=border, **place)


def _row_name(svg, name, y):
    add_text(svg, 8, y + _CELL / 2 + 4, name)
