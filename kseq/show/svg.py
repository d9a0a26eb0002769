"""SVG: a picture that stands alone and reads on light and dark pages, its elements, and how wide texts are."""

import unicodedata
import xml.etree.ElementTree as ET
from typing import Any

from ..printable import printable

# Greys that are readable (4.5) on their own background, and nearly so (3.5) where the page is of the other kind.
GREY, GREY_ON_DARK = "#767676", "#868686"
BLUE, ORANGE = "#3b7dd8", "#d0670a"  # readable on both

_NARROW, _WIDE, _BROAD = frozenset("iljtfrI.,:;'|!()[]-/ ·"), frozenset("#+<=>^~"), frozenset("mwMWQO@%&")


def clean(text: Any, longest: int | None = None) -> str:
    """Text that XML can hold and that shows what it is, cut off after `longest` characters."""
    text = printable(text, keep="")  # what is printed XML can hold, too
    return text if longest is None or len(text) <= longest else f"{text[: longest - 1]}…"


def cut(text: str, width: float, size: float, bold: bool = False) -> str:
    """A text that is no wider than this, cut off where it would be."""
    if text_width(text, size, bold) <= width:
        return text
    while text and text_width(f"{text}…", size, bold) > width:
        text = text[:-1]
    return f"{text}…"


def picture(kind: str, title: str, description: str, style: str = "") -> ET.Element:
    """The root of a picture; `fit` gives it its size."""
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": kind, "role": "img"})
    svg.attrib |= {"color": GREY, "font-family": "system-ui, sans-serif", "font-size": "12", "fill": "none"}
    add(svg, "title", title)
    add(svg, "desc", description)
    add(svg, "style", f"{style}@media (prefers-color-scheme:dark){{.{kind}{{color:{GREY_ON_DARK}}}}}")
    return svg


def fit(svg: ET.Element, width: float, height: float) -> str:
    """The text of a picture of this size."""
    svg.attrib |= {"viewBox": f"0 0 {width:.0f} {height:.0f}", "width": f"{width:.0f}", "height": f"{height:.0f}"}
    return ET.tostring(svg, encoding="unicode")


def add(parent: ET.Element, tag: str, text: str | None = None, **attributes: Any) -> ET.Element:
    """A new element; `class_` and `stroke_width` are `class` and `stroke-width`, and numbers are written short."""
    names = {
        name.rstrip("_").replace("_", "-"): f"{value:.7g}" if isinstance(value, float) else str(value)
        for name, value in attributes.items()
    }
    element = ET.SubElement(parent, tag, names)
    element.text = text
    return element


def add_text(parent: ET.Element, x: float, y: float, text: str, **attributes: Any) -> ET.Element:
    """A text in the colour of the picture, at its base line."""
    return add(parent, "text", text, x=float(x), y=float(y), **{"fill": "currentColor"} | attributes)


def add_line(parent: ET.Element, kind: str, points: Any, **attributes: Any) -> ET.Element:
    """A line through points in the colour of the picture."""
    path = "M" + "L".join(f"{x:.7g},{y:.7g}" for x, y in points)
    given = {"stroke": "currentColor", "stroke_width": 1.5} | attributes
    return add(parent, "path", class_=kind, d=path, **given)


def text_width(text: str, size: float = 12, bold: bool = False) -> float:
    """At least the width of a text in any common font without serifs."""
    return sum(map(_em, text)) * size * (1.1 if bold else 1)


def _em(character) -> float:
    if character in _NARROW:
        return 0.46
    if character in _BROAD:
        return 1.0
    if character.isascii():
        return 0.85 if character in _WIDE else 0.78 if character.isupper() else 0.66
    return 1.3 if unicodedata.east_asian_width(character) in "WF" else 1.1
