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


def window(svg):
    return -len(of_kind(svg, "input past")), len(of_kind(svg, "input future"))


@given(timings())
def test_bounded_and_self_contained(timing):
    text = timing_svg(timing, "model")
    svg = ET.fromstring(text)
    _, _, width, height = map(int, svg.get("viewBox").split())
    assert width <= 900 and height <= 450 and len(text) < 60_000
    assert svg.get("role") == "img"
    assert "href" not in text and "url(" not in text and "<script" not in text
    assert 20 <= len(of_kind(svg, "input")) <= 40
    for element in svg.iter():
        x = [float(element.get(name)) for name in ("x", "x1", "x2") if element.get(name)]
        assert all(0 <= value <= width for value in x)
        assert float(element.get("y", 0)) <= height - 4


@given(timings())
def test_marked_inputs_are_the_clipped_receptive_field(timing):
    svg = parse(timing)
    first, last = window(svg)
    lo, hi = timing.receptive_field or (INF, -INF)
    assert len(of_kind(svg, "input past needed")) == sum(lo <= step <= hi for step in range(first, 0))
    assert len(of_kind(svg, "input own needed")) == (lo <= 0 <= hi)
    assert len(of_kind(svg, "input future needed")) == sum(lo <= step <= hi for step in range(1, last + 1))
    assert len(of_kind(svg, "beyond past")) == (lo < first and hi != -INF)
    assert len(of_kind(svg, "beyond future")) == (hi > last)


@given(timings())
def test_outputs_and_blocks_stand_at_their_inputs(timing):
    svg = parse(timing)
    first, last = window(svg)
    assert len(of_kind(svg, "output chosen")) == 1
    outputs = range(math.ceil(first * timing.ratio), math.ceil((last + 1) * timing.ratio))
    places = [math.floor(output / timing.ratio) for output in outputs]
    assert len(of_kind(svg, "output")) == len(places if timing.ratio <= 4 else set(places))
    starts = sum(step % timing.block_size == 0 for step in range(first, last + 2))
    assert len(of_kind(svg, "block")) == (starts if timing.block_size > 1 else 0)


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


def test_large_field_is_broken_off():
    svg = parse(Timing(receptive_field_per_step=((-2000, 0),)))
    assert len(of_kind(svg, "input")) == 40 and "past: 2,000 steps" in texts(svg)


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
