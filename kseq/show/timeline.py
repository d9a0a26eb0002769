"""`timeline_svg`: the timing of a streaming model as a picture."""

import dataclasses
import math
import re
import xml.etree.ElementTree as ET
from typing import Any

from ..model_graph import in_words
from ..printable import printable
from ..streaming import as_layer
from ..timing import Timing

_WIDTH, _LEFT, _RIGHT = 900, 100, 860  # of the picture, and where the cells begin and end
_FEWEST, _MOST = 20, 40  # cells
_ENDLESS = 14  # steps to draw of a side without end
_CROWD = 4  # outputs of one input step that can still be told apart
_INPUTS, _OUTPUTS, _CELL = 146, 226, 24  # top of either row, and its height
_ARROW = _OUTPUTS + _CELL + 16
_LEGEND = _ARROW + 54

# Greys that are readable (4.5) on their own background, and nearly so (3.5) where the page is of the other kind.
_GREY, _GREY_ON_DARK = "#767676", "#868686"
_PAST, _FUTURE = "#3b7dd8", "#d0670a"
_STYLE = (
    f".kseq-timeline{{max-width:100%}}@media (prefers-color-scheme:dark){{.kseq-timeline{{color:{_GREY_ON_DARK}}}}}"
)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
    title, notes = printable(_NOT_XML.sub("\ufffd", title), keep=""), _notes(timing)
    height = _LEGEND + 20 + 18 * len(notes)
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "kseq-timeline", "role": "img"})
    svg.attrib |= {"viewBox": f"0 0 {_WIDTH} {height}", "width": str(_WIDTH), "height": str(height), "color": _GREY}
    svg.attrib |= {"font-family": "system-ui, sans-serif", "font-size": "12", "fill": "none"}
    _add(svg, "title", f"Timeline of {title}")
    _add(svg, "desc", ". ".join([f"An output of {title} {_needs(timing)}", *_facts(timing), *notes]) + ".")
    _add(svg, "style", _STYLE)

    window = _window(timing)
    _text(svg, 8, 24, title if len(title) <= 50 else f"{title[:49]}…", font_size=16, font_weight="bold")
    _text(svg, 8, 46, " · ".join(_facts(timing)))
    _text(svg, 8, 66, f"The marked output {_needs(timing)}.")
    _draw_field(svg, timing, window)
    _draw_inputs(svg, timing, window)
    _draw_outputs(svg, timing, window)
    _draw_blocks(svg, timing, window)
    _draw_input_latency(svg, timing, window)
    _draw_output_latency(svg, timing, window)
    _draw_legend(svg, timing)
    for line, note in enumerate(notes, 1):
        _text(svg, 8, _LEGEND + 8 + 18 * line, f"{note}.")
    return ET.tostring(svg, encoding="unicode")


@dataclasses.dataclass(frozen=True)
class _Span:
    """The input steps that are drawn, counted from the marked output's own, which is the first of a block."""

    first: int
    last: int

    @property
    def steps(self) -> Any:
        return range(self.first, self.last + 1)

    @property
    def cell(self) -> float:
        return (_RIGHT - _LEFT) / len(self.steps)

    def x(self, step: Any) -> float:
        """Left edge of a step; a step outside ends at the edge of the window."""
        return _LEFT + (min(max(step, self.first), self.last + 1) - self.first) * self.cell


def _window(timing) -> _Span:
    lo, hi = timing.receptive_field or (0, 0)
    after = max(timing.input_latency, _place(timing, timing.output_latency))
    past = 2 + _drawn(-lo)
    future = 2 + max(_drawn(hi), after)
    if past + future >= _MOST:
        past = min(past, max(_MOST // 2 - 1, _MOST - 1 - future))
        future = min(future, _MOST - 1 - past)
    spare = max(_FEWEST - 1 - past - future, 0)
    return _Span(-past - spare // 2, future + spare - spare // 2)


def _drawn(steps) -> int:
    return _ENDLESS if math.isinf(steps) else max(int(steps), 0)


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


def _notes(timing) -> list[str]:
    phases, notes = timing.receptive_field_per_step, []
    if len(set(phases)) > 1:
        notes.append(f"Outputs of {len(phases):,} phases need different inputs; shown is the union of what they need")
    if timing.block_size > 1:
        notes.append(f"Outputs come out when their block of {timing.block_size:,} inputs is complete")
    if _per_box(timing) > 1:
        notes.append(f"A box stands for all outputs of its input, up to {_per_box(timing):,}")
    return notes


def _per_box(timing) -> int:
    most = math.ceil(timing.ratio)
    return most if most > _CROWD else 1


def _draw_field(svg, timing, window):
    """The fan from the needed inputs to the marked output, and what lies beyond the window."""
    if timing.receptive_field is None:
        return
    lo, hi = timing.receptive_field
    middle, top, bottom = _output_x(timing, window, 0), _INPUTS + _CELL, _OUTPUTS
    points = (window.x(lo), top), (window.x(hi + 1), top), (middle, bottom)
    _add(svg, "polygon", class_="fan", points=" ".join(f"{x:g},{y}" for x, y in points), fill=_GREY, opacity=0.18)
    if lo < window.first:
        _draw_beyond(svg, timing, "past", lo, _LEFT, -1)
    if hi > window.last:
        _draw_beyond(svg, timing, "future", hi, _RIGHT, 1)


def _draw_beyond(svg, timing, side, end, x, sign):
    colour, y = {"past": _PAST, "future": _FUTURE}[side], _INPUTS + _CELL / 2
    if math.isinf(end):
        _draw_arrow(svg, x + 5 * sign, x + 26 * sign, y, class_=f"beyond {side}", stroke=colour)
    else:
        dots = {"stroke_width": 4, "stroke_dasharray": "0 8", "stroke_linecap": "round"}
        ends = {"x1": x + 7 * sign, "x2": x + 27 * sign, "y1": y, "y2": y}
        _add(svg, "line", class_=f"beyond {side}", stroke=colour, **ends, **dots)
    label = f"all {side}" if math.isinf(end) else f"{side}: {_steps_needed(timing, side)} steps"
    _text(svg, x - 6 * sign, _OUTPUTS - 12, label, text_anchor="start" if sign < 0 else "end")


def _draw_inputs(svg, timing, window):
    lo, hi = timing.receptive_field or (math.inf, -math.inf)
    _row_name(svg, "inputs", _INPUTS)
    every = 1 if len(window.steps) == _FEWEST else 5
    for step in window.steps:
        kind = "own" if step == 0 else "past" if step < 0 else "future"
        _draw_cell(svg, window.x(step), _INPUTS, window.cell, kind, lo <= step <= hi)
        if step % every == 0:
            _text(svg, window.x(step + 0.5), _INPUTS - 6, _step(step), text_anchor="middle", font_size=11)


def _draw_cell(svg, x, y, width, kind, needed, row="input"):
    """An input: filled where needed, and marked by shape too, with a stripe for future and a frame for own."""
    fill = {"past": _PAST, "own": _GREY, "future": _FUTURE}[kind] if needed else "none"
    x, width = x + 1.5, width - 3
    _box(svg, f"{row} {kind} {'needed' if needed else 'unneeded'}", x, y, width, fill, 3 if kind == "own" else 1)
    if needed and kind == "future":
        stripe = {"x1": f"{x:g}", "y1": y + _CELL, "x2": f"{x + width:g}", "y2": y}
        _add(svg, "line", stroke="#fff", stroke_width=2, **stripe)


def _draw_outputs(svg, timing, window):
    _row_name(svg, "outputs", _OUTPUTS)
    for step in window.steps:
        boxes = list(_boxes(timing, step))
        width = window.cell / max(len(boxes), 1)
        for i, output in enumerate(boxes):
            x, gap = window.x(step) + i * width, 1.5 if len(boxes) == 1 else 0.75
            chosen = output == 0
            kind = "output chosen" if chosen else "output"
            _box(svg, kind, x + gap, _OUTPUTS, width - 2 * gap, _GREY if chosen else "none", 3 if chosen else 1)


def _boxes(timing, step) -> range:
    """The outputs that belong to an input step, or the first of them where they share a box."""
    outputs = range(math.ceil(step * timing.ratio), math.ceil((step + 1) * timing.ratio))
    return outputs[:1] if _per_box(timing) > 1 else outputs


def _output_x(timing, window, output) -> float:
    """Middle of the box of an output, or the edge of the window."""
    step = _place(timing, output)
    if step > window.last:
        return _RIGHT
    boxes = _boxes(timing, step)
    # Outputs that share a box are all in the first.
    return window.x(step) + (min(output - boxes[0], len(boxes) - 1) + 0.5) * window.cell / len(boxes)


def _draw_blocks(svg, timing, window):
    """A line in front of every block; blocks of one are the cells themselves."""
    if timing.block_size > 1:
        for step in range(
            -(-window.first // timing.block_size) * timing.block_size, window.last + 2, timing.block_size
        ):
            _block_line(svg, "block", window.x(step), _INPUTS - 20, _OUTPUTS + _CELL + 6)


def _draw_input_latency(svg, timing, window):
    latency, y = timing.input_latency, _INPUTS - 28
    start, end = window.x(1), window.x(1 + latency)
    what = f"input latency {latency:,}: " + (
        "inputs to push after the last one" if latency else "nothing to push after the last input"
    )
    _label(svg, start, y - 10, what)
    if latency:
        points = [(start, y + 6), (start, y), (end, y), (end, y + 6)]
        if latency > window.last:
            points[-2:] = [(_RIGHT, y)]
            _text(svg, _RIGHT + 6, y + 4, "…")
        points = " ".join(f"{x:g},{y}" for x, y in points)
        _add(svg, "polyline", class_="input-latency", points=points, stroke="currentColor", stroke_width=1.5)


def _draw_output_latency(svg, timing, window):
    latency = timing.output_latency
    start, end = (_output_x(timing, window, output) for output in (0, latency))
    what = "comes out that many outputs later" if latency else "comes out in its place"
    _label(svg, start, _ARROW + 20, f"output latency {latency:,}: {what}")
    if end > start:
        _draw_arrow(svg, start, end, _ARROW, class_="output-latency", stroke="currentColor")
    if _place(timing, latency) > window.last:
        _text(svg, _RIGHT + 6, _ARROW + 4, "…")


def _draw_legend(svg, timing):
    own = timing.receptive_field is not None and timing.receptive_field[0] <= 0 <= timing.receptive_field[1]
    past, future = (f"{side}: {_steps_needed(timing, side)}" for side in ("past", "future"))
    items = ("past", True, past), ("own", own, "own step" if own else "own step, not needed"), ("future", True, future)
    for i, (kind, needed, name) in enumerate(items):
        _draw_cell(svg, 8 + 215 * i, _LEGEND - 17, 27, kind, needed, row="legend")
        _text(svg, 42 + 215 * i, _LEGEND, name)
    if timing.block_size > 1:
        _block_line(svg, "block-legend", 660, _LEGEND - 17, _LEGEND + 7)
        _text(svg, 672, _LEGEND, f"block: {timing.block_size:,} inputs")


def _draw_arrow(svg, start, end, y, **attributes):
    back = -5 if end > start else 5
    path = f"M{start:g},{y}H{end:g}m{back},-4L{end:g},{y}l{back},4"
    _add(svg, "path", d=path, stroke_width=1.5, **attributes)


def _block_line(svg, kind, x, top, bottom):
    ends = {"x1": f"{x:g}", "x2": f"{x:g}", "y1": top, "y2": bottom}
    _add(svg, "line", class_=kind, stroke="currentColor", stroke_width=1.5, stroke_dasharray="4 3", **ends)


def _box(svg, kind, x, y, width, fill, border):
    place = {"x": f"{x:g}", "y": y, "width": f"{width:g}", "height": _CELL}
    _add(svg, "rect", class_=kind, fill=fill, stroke="currentColor", stroke_width=border, **place)


def _row_name(svg, name, y):
    _text(svg, 8, y + _CELL / 2 + 4, name)


def _label(svg, x, y, text):
    """Text that starts at `x`, or ends there where it might not fit."""
    _text(svg, x, y, text, text_anchor="start" if x < 490 else "end")


def _text(svg, x, y, text, **attributes):
    _add(svg, "text", text, x=f"{x:g}", y=f"{y:g}", fill="currentColor", **attributes)


def _add(parent, tag, text=None, **attributes):
    names = {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()}
    ET.SubElement(parent, tag, names).text = text
