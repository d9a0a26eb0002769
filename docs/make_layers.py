"""Writes `docs/layers.md` and the table of layers in the README from the registry: python docs/make_layers.py"""

import pathlib

import kseq
from kseq.signature import summary

ROOT = pathlib.Path(__file__).parent.parent
#: Families by their module in `kseq.layers`, in the order of reading.
FAMILIES = {
    "windowed": "convolution, pooling, resampling",
    "signal": "signals",
    "recurrent": "recurrence",
    "conditioning": "conditioning",
    "attention": "attention",
    "dense": "dense and embedding",
    "normalization": "normalisation",
    "position": "positions",
    "pointwise": "of every value by itself, of channels",
    "activation": "of every value by itself, of channels",
    "shape": "shapes",
    "random": "random",
    "delay": "moving in time",
    "combinators": "layers of layers",
}
HEADER = "| family | layers |\n| --- | --- |\n"


def families():
    """By the title of a family its registered classes, in the order of their names."""
    found = {title: [] for title in FAMILIES.values()}
    for name, cls in sorted(kseq.registered_layers().items()):
        if cls.__module__.startswith("kseq."):
            found[FAMILIES[cls.__module__.split(".")[2]]].append((name, cls))
    return found


def timing_of(cls):
    """What the timings of a class's examples are in words, for a table."""
    layers = [cls(**example.config) for example in cls.examples()]
    timings = [layer.timing for layer in layers]
    words = {
        "does not step": layers and not any(layer.supports_step for layer in layers),
        "blocks": any(t.block_size > 1 for t in timings),
        "other rate": any(t.ratio != 1 for t in timings),
        "latency": any(t.input_latency or t.output_latency for t in timings),
        "memory without end": any(t.receptive_field and t.receptive_field[0] == float("-inf") for t in timings),
    }
    return ", ".join(word for word, holds in words.items() if holds)


def readme_table():
    """A row for every family."""
    rows = (f"| {title} | {', '.join(f'`{name}`' for name, _ in found)} |\n" for title, found in families().items())
    return HEADER + "".join(rows)


def page():
    """The text of `docs/layers.md`."""
    parts = [
        "# Layers\n\n`help(kseq.Conv1D)` and `kseq layers Conv1D` say all of one: shapes, masks, timing, arguments, "
        "source. The last column is what the timing of a layer's examples has; it follows from the arguments.\n"
    ]
    for title, found in families().items():
        rows = "".join(f"| `{name}` | {summary(cls)} | {timing_of(cls)} |\n" for name, cls in found)
        parts.append(f"\n## {title[0].upper()}{title[1:]}\n\n| name | what | timing |\n| --- | --- | --- |\n{rows}")
    return "".join(parts)


def in_readme(text):
    """The text of the README with the table of today."""
    start = text.index(HEADER)
    return text[:start] + readme_table() + text[text.index("\n\n", start) + 1 :]


if __name__ == "__main__":
    (ROOT / "docs" / "layers.md").write_text(page())
    readme = ROOT / "README.md"
    readme.write_text(in_readme(readme.read_text()))
