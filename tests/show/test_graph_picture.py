"""The picture of a model's layers: facts that hold of any drawing, and what it shows of named models."""

import itertools
import xml.etree.ElementTree as ET

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import kseq
from kseq.show import graph_svg
from kseq.show.boxes import Box, Wire
from kseq.show.graph import boxes_svg
from kseq.show.svg import text_width

SVG = "{http://www.w3.org/2000/svg}"
NEAR = 0.02


@st.composite
def drawings(draw, depth=0):
    """Boxes in any order of reading, some with boxes within."""
    values, boxes, once = [], [], set()
    if depth:
        values.append(object())
        boxes.append(Box("entry", ("within", "Layer"), gives=tuple(values)))
    for i in range(draw(st.integers(1, 7))):
        read = draw(st.lists(st.sampled_from(values), max_size=3, unique=True)) if values else []
        if not read:
            values.append(object())
            wires = (Wire(values[0]),) if depth else ()
            boxes.append(Box("input", (f"input {i}", "B, T, 1"), wires, (values[-1],)))
            continue
        made = [object() for _ in range(draw(st.integers(1, 2)))]
        wires = tuple(Wire(value, value in once) for value in read)
        kind = draw(st.sampled_from(["layer", "layer", "layer", "merge", "delay", "context"]))
        nested = depth < 2 and kind == "layer" and draw(st.integers(0, 3)) == 0
        within = draw(drawings(depth + 1)) if nested else ()
        made = [object() for _ in within[-1].reads] if within else made
        lines = ("a name" * draw(st.integers(1, 4)), *["what is said"] * draw(st.integers(0, 3)))
        boxes.append(Box(kind, lines, wires, tuple(made), within))
        values += made
        once |= set(made) if draw(st.integers(0, 9)) == 0 else set()
    found = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True))
    ends = [Wire(value, value in once) for value in found]
    if not depth:
        return (*boxes, *(Box("output", (f"output {i}",), (end,)) for i, end in enumerate(ends)))
    if len(ends) > 1:
        outputs = [Wire(object()) for _ in ends]
        boxes += [Box("output", ("output",), (end,), (out.value,)) for end, out in zip(ends, outputs, strict=True)]
        ends = outputs
    return (*boxes, Box("exit", (), tuple(ends)))


class Picture:
    """Rectangles of boxes and frames, lines below heads, the ways of wires by value, and the extents of texts."""

    def __init__(self, text):
        self.svg = ET.fromstring(text)
        self.boxes = [rectangle(e) for e in self.svg.iter(f"{SVG}rect") if e.get("class") == "box"]
        self.frames = [rectangle(e) for e in self.svg.iter(f"{SVG}rect") if e.get("class") == "frame"]
        found = list(self.svg.iter(f"{SVG}path"))
        self.heads = [ways(e)[0] for e in found if e.get("class") == "head"]
        self.wires = [ways(e) for e in found if "wire" in e.get("class")]
        self.texts = [extent(e) for e in self.svg.iter(f"{SVG}text")]

    @property
    def said(self):
        return [e.text for e in self.svg.iter(f"{SVG}text")]


def rectangle(element):
    x, y, width, height = (float(element.get(name)) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def ways(path):
    return [[tuple(map(float, corner.split(","))) for corner in way.split("L")] for way in path.get("d").split("M")[1:]]


def extent(text):
    size, x, y = float(text.get("font-size", 12)), float(text.get("x")), float(text.get("y"))
    width = text_width(text.text, size, bold="font-weight" in text.attrib)
    left = x - width * {"start": 0, "middle": 0.5}[text.get("text-anchor", "start")]
    return left, y - 0.75 * size, left + width, y + 0.2 * size


def overlap(one, other):
    return (
        one[0] < other[2] - NEAR and other[0] < one[2] - NEAR and one[1] < other[3] - NEAR and other[1] < one[3] - NEAR
    )


def contains(outer, inner):
    return all(a <= b + NEAR for a, b in zip(outer[:2], inner[:2], strict=True)) and all(
        a >= b - NEAR for a, b in zip(outer[2:], inner[2:], strict=True)
    )


def parts_of(way):
    """The straight parts of a wire as flat rectangles."""
    for (x1, y1), (x2, y2) in itertools.pairwise(way):
        assert x1 == x2 or y1 == y2
        yield min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def on_edge(x, y, edges):
    return any(abs(y - edge) < NEAR and left - NEAR <= x <= right + NEAR for left, right, edge in edges)


def lies_on(part, other):
    """Whether two parts of wires share more than a point."""
    x, y = min(part[2], other[2]) - max(part[0], other[0]), min(part[3], other[3]) - max(part[1], other[1])
    return min(x, y) > -NEAR and max(x, y) > 1


def check(picture):
    size = (0, 0, *map(float, picture.svg.get("viewBox").split()[2:]))
    boxes, frames = picture.boxes, picture.frames
    assert all(contains(size, found) for found in (*boxes, *frames, *picture.texts))
    for one, other in itertools.combinations(boxes, 2):
        assert not overlap(one, other)
    for frame in frames:
        others = [*boxes, *(other for other in frames if other is not frame)]
        assert all(contains(frame, found) or contains(found, frame) or not overlap(frame, found) for found in others)
    for one, other in itertools.combinations(picture.texts, 2):
        assert not overlap(one, other)
    for text in picture.texts[2:]:
        assert any(contains(found, text) for found in (*boxes, *frames))
    upper = [(left, right, top) for left, top, right, _ in (*boxes, *frames)]
    lower = [(left, right, bottom) for left, _, right, bottom in (*boxes, *frames)]
    heads = [(x1, x2, y) for (x1, y), (x2, _) in picture.heads]
    inner = [(left, right, bottom) for left, _, right, bottom in frames]
    for way in itertools.chain(*picture.wires):
        assert on_edge(*way[0], lower + heads) and on_edge(*way[-1], upper + inner)
        assert all(a[1] <= b[1] for a, b in itertools.pairwise(way))  # downwards
        for part in parts_of(way):
            assert not any(overlap(part, found) for found in (*boxes, *picture.texts))
            for frame in frames:
                assert contains(frame, part) or not overlap(frame, part)
    values = [[part for way in value for part in parts_of(way)] for value in picture.wires]
    for one, other in itertools.combinations(values, 2):
        assert not any(lies_on(*parts) for parts in itertools.product(one, other))


@settings(deadline=None, max_examples=60)
@given(drawings())
def test_any_drawing(boxes):
    text = boxes_svg(boxes, "model", "facts")
    assert text == boxes_svg(boxes, "model", "facts")
    check(Picture(text))


def sequential(*layers, **options):
    return keras.Sequential([keras.Input((None, 3)), *layers], name="model", **options)


def merged():
    x = keras.Input((None, 4), name="audio")
    other = keras.Input((None, 4), name='<video> & "more"\x1b[31m')
    ahead = kseq.Conv1D(4, 3, padding="reverse_causal", name="ahead")(x)
    y = ahead + kseq.Dense(4)(other)
    early, y = y, keras.layers.Concatenate(name="cat")([x, kseq.Dense(4)(y), y])
    return keras.Model([x, other], {"tags": kseq.Dense(2)(y), "early": early}, name="merged")


def nested():
    branch = kseq.Serial([kseq.GRU(4), kseq.Residual([kseq.Conv1D(4, 3), kseq.GRU(4)], [kseq.Dense(4)])])
    ahead = kseq.Conv1D(4, 3, padding="reverse_causal")
    branches = kseq.Parallel([ahead, branch, kseq.Serial([])], "concat")
    return sequential(branches, kseq.Repeat(kseq.Residual([kseq.GRU(11)]), 24))


MODELS = {
    "one": lambda: sequential(kseq.GRU(2)),
    "hundred": lambda: sequential(*[kseq.Activation("relu") for _ in range(100)]),
    "wide": lambda: sequential(kseq.Parallel([kseq.Activation("relu") for _ in range(40)], "add")),
    "merged": merged,
    "nested": nested,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model(name):
    model = MODELS[name]()
    text = graph_svg(model)
    assert "href" not in text and "url(" not in text and "<script" not in text
    picture = Picture(text)
    check(picture)
    assert picture.said[0] == model.name


def test_a_model_is_drawn_alike_each_time():
    model = merged()
    assert graph_svg(model) == graph_svg(model)


def test_boxes_say_name_class_shape_and_timing():
    model = sequential(kseq.Conv1D(4, 5, strides=2, padding="reverse_causal", name="conv"), kseq.Dense(2, name="dense"))
    said = Picture(graph_svg(model)).said
    at = said.index("conv")
    assert said[at : at + 4] == ["conv", "Conv1D · B, T, 4", "latency 4 in, 2 out", "ratio 1/2 · block 2"]
    assert said[said.index("dense") :] == ["dense", "Dense · B, T, 2", "output"]


def test_branches_their_delays_and_merges():
    picture = Picture(graph_svg(merged()))
    assert "delay 2" in picture.said and "early" in picture.said and "tags" in picture.said
    assert '<video> & "more"\\x1b[31m' in picture.said
    # From audio 2, the video, ahead, dense, the delays of dense and audio, add 3, dense, cat and tags.
    assert sum(map(len, picture.wires)) == 13


def test_layers_of_layers_are_frames():
    picture = Picture(graph_svg(nested()))
    assert len(picture.frames) == 5
    assert {"concat", "add", "delay 2"} <= set(picture.said)
    repeat = next(text for text in picture.said if "\N{MULTIPLICATION SIGN} 24" in text)
    assert repeat.startswith("repeat")
    assert not {"body", "shortcut"} & set(picture.said)  # that a residual makes for itself


def test_repeats_that_differ_are_all_drawn():
    doubled = kseq.Parallel([kseq.Activation("relu"), kseq.Activation("tanh")], "concat")
    said = Picture(graph_svg(sequential(kseq.Repeat(doubled, 2)))).said
    assert sum(text == "concat" for text in said) == 2


class Attend(kseq.SequenceLayer):
    """Adds what is known when a stream begins.  [B, T, C] -> [B, T, C]."""

    context_names = ("source",)

    def build(self, input_shape, context_shape):
        pass

    def initial_state(self, batch_size, input_spec, context):
        return {"mean": ops.mean(self.standardize_context(context)["source"].values, axis=1)}

    def call_step(self, x, state, *, training=False):
        return kseq.Sequence(x.values + state["mean"][:, None], x.mask), state


def test_context_has_dashed_wires():
    x, source = keras.Input((None, 3), name="x"), keras.Input((None, 2), name="source")
    known = {"source": keras.layers.Dense(3, name="encode")(source)}
    y = Attend(name="second")(kseq.Dense(3)(Attend(name="first")(x, context=known)), context=known)
    picture = Picture(graph_svg(keras.Model([x, source], y)))
    check(picture)
    once = [e for e in picture.svg.iter(f"{SVG}path") if e.get("class") == "wire once"]
    assert [len(ways(path)) for path in once] == [1, 2]  # to what encodes it, and from there to both
    assert all(path.get("stroke-dasharray") for path in once)
    assert "context" in picture.said and "Dense · B, T, 3" in picture.said


def test_masks_are_named_and_have_no_wires():
    values, mask = keras.Input((None, 3), name="values"), keras.Input((None,), dtype="bool", name="valid")
    y = kseq.GRU(2)(kseq.Sequence(values, mask))
    picture = Picture(graph_svg(keras.Model([values, mask], y.values)))
    assert "mask valid" in picture.said and sum(map(len, picture.wires)) == 2


def test_a_model_that_does_not_stream_is_drawn():
    inner = keras.Sequential([keras.Input((None, 2)), kseq.Conv1D(2, 3, padding="same", name="same")], name="inner")
    picture = Picture(graph_svg(sequential(kseq.Dense(2), inner)))
    check(picture)
    assert picture.said.count("does not stream") == 2 and picture.said[1].endswith("does not stream")
    assert any("needs steps" in (title.text or "") for title in picture.svg.iter(f"{SVG}title"))


def test_a_layer_alone():
    layer = kseq.Residual([kseq.GRU(3, name="memory")], name="res")
    with pytest.raises(ValueError, match="res must be built before it is shown"):
        graph_svg(layer)
    layer.build((None, None, 3))
    picture = Picture(graph_svg(layer))
    check(picture)
    assert len(picture.frames) == 1 and len(picture.boxes) == 4 and "memory" in picture.said


def test_errors():
    with pytest.raises(TypeError, match="received 3 of type int"):
        graph_svg(3)
    with pytest.raises(ValueError, match=r"keras\.Input"):
        graph_svg(keras.Sequential([kseq.Dense(2)]))


def test_long_names_are_cut_and_kept_in_full():
    name = "wide" * 40
    picture = Picture(graph_svg(sequential(kseq.GRU(2, name=name))))
    assert not any(name in text for text in picture.said)
    assert name in [title.text for title in picture.svg.iter(f"{SVG}title")]
    assert f"{name[:35]}…" in picture.said
