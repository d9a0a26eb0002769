"""`graph_svg`: the layers of a model as a picture."""

from typing import Any

from .boxes import Box, model_boxes
from .layout import LINE, NAME, PAD, SPACING, Drawing, lay_out
from .svg import BLUE, ORANGE, add, add_line, add_text, clean, cut, fit, picture, text_width
from .table import summary_rows

_MARGIN, _TOP = 16, 74


def graph_svg(model: Any) -> str:
    """The layers of a model and what each reads, as an SVG picture.

    Boxes say a layer's name, its class and output shape, and what is not usual in its timing: latency in and out, ratio
    and block. Layers of layers are boxes around theirs, repeats that are alike are drawn once. Delays that align
    branches are boxes, too. What is known when a stream begins, context, has dashed lines; masks have none.

    Args:
        model: a kseq layer, a `keras.Sequential` or a functional model, built; it need not stream.

    Returns:
        The text of an SVG image that stands alone; the same for the same model.

    Raises:
        ValueError: a model or layer that is not built.
        TypeError: neither a kseq layer nor a sequential or functional Keras model.

    Example:
        >>> import kseq
        >>> layer = kseq.Residual([kseq.GRU(2, name="memory")])
        >>> layer.build((None, None, 2))
        >>> "memory" in graph_svg(layer)
        True
    """
    return boxes_svg(model_boxes(model), clean(model.name), _facts(summary_rows(model)[-1]))


def boxes_svg(boxes: tuple[Box, ...], title: str, facts: str) -> str:
    """The picture of `graph_svg` for boxes, each after those that it reads.

    Args:
        boxes: what to draw.
        title: the name of all.
        facts: a line below it.

    Returns:
        The text of an SVG image that stands alone.
    """
    drawing, head = lay_out(boxes), cut(title, 700, 16, bold=True)
    svg = picture("kseq-graph", f"Layers of {title}", f"The layers of {title}: {facts}.")
    add_text(svg, _MARGIN, 28, head, font_size=16, font_weight="bold")
    add_text(svg, _MARGIN, 50, facts)
    width = max(drawing.width, text_width(facts), text_width(head, 16, bold=True))
    _draw(svg, drawing, _MARGIN + (width - drawing.width) / 2, _TOP)
    return fit(svg, width + 2 * _MARGIN, _TOP + drawing.height + _MARGIN)


def _facts(row) -> str:
    facts = [row["type"], f"{row['parameters']:,} parameters"]
    if row["obstacle"]:
        return " · ".join([*facts, "does not stream"])
    if row["state_bytes"] is not None:
        facts.append(f"{row['state_bytes']:,} bytes of state")
    latency = f"latency {row['input_latency']:,} in, {row['output_latency']:,} out"
    return " · ".join([*facts, f"block {row['block']:,}", f"ratio {row['ratio']}", latency])


def _draw(svg, drawing: Drawing, left, top) -> None:
    for box, (x, y, width, height) in drawing.places.items():
        x, y = left + x, top + y
        if box.kind == "exit":
            continue
        group = add(svg, "g", class_=box.kind)
        if box.hint:
            add(group, "title", box.hint)
        if box.inside:
            _rectangle(group, "frame", box, x, y, width, height)
            _draw(group, drawing.within[box], x, y)
        elif box.kind == "entry":
            add_line(group, "head", [(x, y + height), (x + width, y + height)], stroke_opacity=0.4)
            _write(group, box.lines, x + PAD, y, "start")
        else:
            _rectangle(group, "box", box, x, y, width, height)
            _write(group, box.lines, x + width / 2, y, "middle")
    for wires in _by_value(drawing.wires):
        _draw_wires(svg, wires, left, top)


def _by_value(wires):
    found: dict[Any, list[Any]] = {}
    for wire in wires:
        found.setdefault(wire[0], []).append(wire)
    return found.values()


def _rectangle(svg, kind, box, x, y, width, height):
    colour = {"input": BLUE, "output": BLUE}.get(box.kind, "currentColor")
    look = {"stroke": ORANGE if box.obstacle else colour, "stroke_width": 1.5 if kind == "box" else 1}
    if box.kind in ("merge", "delay", "input", "output"):
        look["rx"] = min(height / 2, 14)
    else:
        look["rx"] = 4
    if box.kind == "context":
        look["stroke_dasharray"] = "5 3"
    if kind == "frame":
        look |= {"fill": "currentColor", "fill_opacity": 0.025}
    add(svg, "rect", class_=kind, x=float(x), y=float(y), width=float(width), height=float(height), **look)


def _write(svg, lines, x, y, anchor):
    for i, line in enumerate(lines):
        look = {"font_size": LINE} if i else {"font_size": NAME, "font_weight": "bold"}
        add_text(svg, x, y + PAD / 2 + SPACING * (i + 1) - 4, line, text_anchor=anchor, **look)


def _draw_wires(svg, wires, left, top):
    """The wires of one value as one line, which is as thick where they share their way as where they do not."""
    paths, heads = [], []
    for _, _, reader, points in wires:
        corners = [f"{left + x:.7g},{top + y:.7g}" for x, y in points]
        paths.append("M" + "L".join(corners))
        heads += [f"M{corners[-1]}l-4,-7h8z"] * (reader.kind != "exit")
    once = wires[0][0].once
    look = {"stroke": "currentColor", "stroke_width": 1.5, "stroke_linejoin": "round"}
    look |= {"stroke_dasharray": "5 3"} if once else {}
    add(svg, "path", class_="wire once" if once else "wire", d="".join(paths), **look)
    if heads:
        add(svg, "path", class_="arrow", d="".join(heads), fill="currentColor")
