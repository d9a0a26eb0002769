"""The timeline: facts that the picture must show of any timing, and named models."""

import math
import re
import xml.etree.ElementTree as ET
from fractions import Fraction

import keras
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import kseq
from kseq.show import timeline_svg, timing_svg
from kseq.show.svg import text_width
from kseq.timing import Timing

INF = math.inf
SVG = "{http://www.w3.org/2000/svg}"
ends = st.one_of(st.integers(-50, 50), st.integers(-(10**7), 10**7))
latencies = st.one_of(st.integers(0, 50), st.integers(0, 10**7))
fields = st.one_of(
    st.none(),
    st.tuples(ends, ends).map(lambda field: tuple(sorted(field))),
    ends.map(lambda hi: (-INF, hi)),
    ends.map(lambda lo: (lo, INF)),
    st.just((-INF, INF)),
)


@st.composite
def timings(draw):
    ratio = Fraction(draw(st.integers(1, 300)), draw(st.integers(1, 300)))
    block = ratio.denominator * draw(st.integers(1, 1000))
    phases = draw(st.lists(fields, min_size=1, max_size=3))
    return Timing(block, ratio, draw(latencies), draw(latencies), phases)


def parse(timing, title="model"):
    return ET.fromstring(timing_svg(timing, title))


def of_kind(svg, kind):
    """The elements that have all the given classes."""
    return [e for e in svg.iter() if set(kind.split()) <= set(e.get("class", "").split())]


def texts(svg):
    return [e.text for e in svg.iter(f"{SVG}text")]


def description(svg):
    return svg.find(f"{SVG}desc").text


def number(text):
    return int(text.split()[0].replace(",", ""))


def columns(svg):
    """First and last step, left and right edge, and whether the steps are needed, of every cell and fold."""
    found = []
    for cell in of_kind(svg, "input"):
        x, width = float(cell.get("x")), float(cell.get("width"))
        found.append((x - 1.5, x + width + 1.5, 1, cell))
    for fold in of_kind(svg, "fold"):
        edges = [x for path in of_kind(fold, "break") for x, _ in corners(path)]
        found.append((min(edges) - 2, max(edges) + 2, number(fold.find(f"{SVG}text").text), fold))
    found.sort(key=lambda column: column[0])
    own = next(i for i, column in enumerate(found) if "own" in column[3].get("class"))
    step = -sum(count for _, _, count, _ in found[:own])
    steps = []
    for left, right, count, element in found:
        kind = "past" if step < 0 else "future" if step else "own"
        assert kind in element.get("class")
        steps.append((step, step + count - 1, left, right, "needed" in element.get("class").split()))
        step += count
    return steps


def corners(path):
    return [tuple(map(float, corner.split(","))) for corner in re.split("[ML]", path.get("d"))[1:]]


@given(timings())
def test_bounded_and_self_contained(timing):
    text = timing_svg(timing, "model")
    svg = ET.fromstring(text)
    _, _, width, height = map(int, svg.get("viewBox").split())
    assert width <= 1300 and height <= 450 and len(text) < 60_000
    assert svg.get("role") == "img"
    assert "href" not in text and "url(" not in text and "<script" not in text
    folds, cells = len(of_kind(svg, "fold")), len(of_kind(svg, "input"))
    assert 20 <= cells <= 40 if not folds else 9 <= cells <= 45 and folds <= 5
    for element in svg.iter():
        x = [float(element.get("x", 0))]
        x += [x for x, _ in corners(element)] if element.tag == f"{SVG}path" else []
        assert all(0 <= value <= width for value in x)
        assert float(element.get("y", 0)) <= height - 4


@given(timings())
def test_every_step_that_is_needed_is_marked_or_folded(timing):
    svg = parse(timing)
    lo, hi = timing.receptive_field or (INF, -INF)
    found = columns(svg)
    for first, last, *_, needed in found:
        assert needed == (lo <= first and last <= hi)
        assert needed or hi < first or last < lo  # a fold is one or the other
    assert all(found[0][0] <= end <= found[-1][1] for end in (lo, hi) if not math.isinf(end))
    assert len(of_kind(svg, "beyond past")) == (lo == -INF)
    assert len(of_kind(svg, "beyond future")) == (hi == INF)
    assert bool(of_kind(svg, "fold")) == any("folded" in text for text in texts(svg))


@given(timings())
def test_outputs_and_blocks_stand_at_their_inputs(timing):
    svg = parse(timing)
    assert len(of_kind(svg, "output chosen")) == 1
    shown = [step for first, last, *_ in columns(svg) if first == last for step in [first]]
    places = [
        step for step in shown for _ in range(math.ceil(step * timing.ratio), math.ceil((step + 1) * timing.ratio))
    ]
    assert len(of_kind(svg, "output")) == len(places if timing.ratio <= 4 else set(places))
    starts = {step for cell in shown for step in (cell, cell + 1) if step % timing.block_size == 0}
    assert len(of_kind(svg, "block")) == (len(starts) if timing.block_size > 1 else 0)
    if timing.block_size > 1:
        assert {0, timing.block_size} <= set(shown)


def extent(text):
    """Left, top, right and bottom of a text."""
    size, x, y = float(text.get("font-size", 12)), float(text.get("x")), float(text.get("y"))
    width = text_width(text.text, size, bold="font-weight" in text.attrib)
    left = x - width * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor", "start")]
    return left, y - 0.75 * size, left + width, y + 0.2 * size


@given(timings())
def test_no_line_strikes_through_a_text_and_no_text_lies_on_another(timing):
    svg = parse(timing)
    found = [extent(text) for text in svg.iter(f"{SVG}text")]
    for i, (left, top, right, bottom) in enumerate(found):
        assert left >= 0 and right <= int(svg.get("width"))
        for path in svg.iter(f"{SVG}path"):
            if "break" in path.get("class"):
                continue  # slanted, beside the number of a fold
            (x1, y1), (x2, y2) = corners(path)[0], corners(path)[1]
            crosses = min(x1, x2) < right and max(x1, x2) > left and min(y1, y2) < bottom and max(y1, y2) > top
            assert not crosses, path.attrib
        for other_left, other_top, other_right, other_bottom in found[:i]:
            assert right <= other_left or left >= other_right or bottom <= other_top or top >= other_bottom


def stops(svg, kind):
    (interval,) = of_kind(svg, kind)
    (start, _), (end, _) = (corners(stop)[0] for stop in of_kind(interval, "stop"))
    return start, end


@given(timings())
def test_latencies_are_intervals_of_their_length(timing):
    svg = parse(timing)
    found = columns(svg)
    assert bool(of_kind(svg, "input-latency")) == (timing.input_latency > 0)
    if timing.input_latency:
        start, end = stops(svg, "input-latency")
        within = [column for column in found if start - 0.01 <= column[2] and column[3] <= end + 0.01]
        assert sum(last - first + 1 for first, last, *_ in within) == timing.input_latency and within[0][0] == 1
    assert bool(of_kind(svg, "output-latency")) == (timing.output_latency > 0)
    if timing.output_latency:
        for output, x in zip((0, timing.output_latency), stops(svg, "output-latency"), strict=True):
            step = math.floor(output / timing.ratio)
            first, last = math.ceil(step * timing.ratio), math.ceil((step + 1) * timing.ratio)
            left, right = next(column[2:4] for column in found if column[:2] == (step, step))
            assert x == pytest.approx(left + (right - left) * (output - first + 0.5) / (last - first), abs=0.01)


@given(timings())
def test_labels_carry_the_true_numbers(timing):
    svg = parse(timing)
    said = " | ".join(texts(svg))
    past, future = timing.receptive_field or (None, None)
    past, future = (_reach(past and -past), _reach(future)) if timing.receptive_field else ("none", "none")
    facts = [
        f"block {timing.block_size:,}",
        f"ratio {timing.ratio} ",
        f"latency in {timing.input_latency:,}, out {timing.output_latency:,}",
        f"past {past}",
        f"future {future}",
    ]
    for fact in facts:
        assert fact in said and fact in description(svg)
    assert f"input latency {timing.input_latency:,}:" in said
    assert f"output latency {timing.output_latency:,}:" in said
    assert ("union" in said) == (len(set(timing.receptive_field_per_step)) > 1)


def _reach(steps):
    return "all" if math.isinf(steps) else f"{max(steps, 0):,}"


@given(timings())
def test_deterministic(timing):
    assert timing_svg(timing, "model") == timing_svg(timing, "model")


@given(st.text(max_size=200))
@example('<b>&"quoted"</b>')
@example("\x00 \ud800 \uffff")
def test_any_title_is_well_formed(title):
    svg = parse(Timing(), title)
    assert all(len(text or "") <= 120 for text in texts(svg))
    assert svg.find(f"{SVG}title").text.startswith("Timeline of ")


def test_title_is_escaped():
    svg = parse(Timing(), '<b>&"x"</b>')
    assert texts(svg)[0] == '<b>&"x"</b>'
    assert svg.find(f"{SVG}title").text == 'Timeline of <b>&"x"</b>'


def test_causal_convolution():
    svg = ET.fromstring(timeline_svg(kseq.Conv1D(4, 3, padding="causal", name="conv")))
    assert texts(svg)[0] == "conv"
    assert len(of_kind(svg, "input past needed")) == 2 and not of_kind(svg, "input future needed")
    assert not of_kind(svg, "input-latency") and not of_kind(svg, "output-latency")
    assert "needs inputs \N{MINUS SIGN}2 to 0," in description(svg)


def test_strided_convolution_that_looks_ahead():
    svg = ET.fromstring(timeline_svg(kseq.Conv1D(4, 5, strides=2, padding="reverse_causal")))
    assert len(of_kind(svg, "input future needed")) == 4 and not of_kind(svg, "input past needed")
    assert len(of_kind(svg, "output")) == 10
    assert of_kind(svg, "block") and of_kind(svg, "input-latency") and of_kind(svg, "output-latency")
    assert "Outputs come out when their block of 2 inputs is complete." in texts(svg)


def test_recurrence_needs_all_past():
    svg = ET.fromstring(timeline_svg(kseq.LSTM(3)))
    assert len(of_kind(svg, "input past needed")) == len(of_kind(svg, "input past"))
    assert of_kind(svg, "beyond past") and "all past" in texts(svg)
    assert "needs all past inputs to 0," in description(svg)


def test_serial():
    layers = [kseq.Conv1D(4, 5, strides=2, padding="reverse_causal"), kseq.LSTM(3), kseq.Lookahead(3)]
    svg = ET.fromstring(timeline_svg(kseq.Serial(layers)))
    assert len(of_kind(svg, "input future needed")) == 10 and of_kind(svg, "beyond past")
    assert "latency in 4, out 5" in description(svg)


def test_lookahead_does_not_need_its_own_step():
    svg = ET.fromstring(timeline_svg(kseq.Lookahead(3)))
    assert len(of_kind(svg, "input needed")) == 1 and "own step, not needed" in texts(svg)
    assert "needs input +3," in description(svg)


def test_keras_model():
    model = keras.Sequential([keras.Input((None, 2)), kseq.GRU(3)], name="stacked")
    assert texts(ET.fromstring(timeline_svg(model)))[0] == "stacked"


@pytest.mark.parametrize(
    ("layer", "folded"),
    [
        (kseq.Delay(200), ["195 steps", "195 steps"]),
        (kseq.Conv1D(1, 3, dilation_rate=64, padding="causal"), ["123 steps"]),
        (kseq.Lookahead(100), ["95 steps"]),
        (kseq.Conv1D(1, 160, strides=160, padding="causal"), ["154 steps", "155 steps"]),
        (kseq.Conv1D(1, 30, padding="causal"), []),
    ],
    ids=str,
)
def test_long_stretches_are_folded(layer, folded):
    svg = ET.fromstring(timeline_svg(layer))
    assert [fold.find(f"{SVG}text").text for fold in of_kind(svg, "fold")] == folded


def test_no_input():
    svg = parse(Timing(receptive_field_per_step=(None,)))
    assert not of_kind(svg, "input needed") and not of_kind(svg, "fan")
    assert "The marked output needs no input." in texts(svg)


def test_errors():
    with pytest.raises(ValueError, match=r"same.* cannot stream"):
        timeline_svg(kseq.Conv1D(4, 3, padding="same", name="same"))
    with pytest.raises(TypeError):
        timeline_svg("model")


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colour, other):
    bright, dark = sorted([luminance(colour), luminance(other)], reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_contrast():
    text = timing_svg(Timing(receptive_field_per_step=((-1, 1),)), "model")
    light, dark = ET.fromstring(text).get("color"), re.search(r"dark\).*color:(#\w+)", text)[1]
    assert contrast(light, "#ffffff") >= 4.5 and contrast(dark, "#0d1117") >= 4.5
    assert min(contrast(light, "#0d1117"), contrast(dark, "#ffffff")) >= 3.5
    for colour in set(re.findall(r'fill="(#\w{6})"', text)):
        assert min(contrast(colour, "#ffffff"), contrast(colour, "#0d1117")) >= 3
    # The fan's edges have the colour of the text, on either page.
    (fan,) = of_kind(ET.fromstring(text), "fan")
    assert fan.get("stroke") == "currentColor" and fan.get("opacity") is fan.get("stroke-opacity") is None
