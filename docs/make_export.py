"""Writes the table of `docs/export.md`, and knows which layers are in no file: python docs/make_export.py

`tests/deploy/test_every_layer.py` and `test_every_adapter.py` hold that these are refused, and all others are not.
"""

import pathlib

import kseq

PAGE = pathlib.Path(__file__).parent / "export.md"
HEADER = "| layers | LiteRT | ONNX | SavedModel | StableHLO |\n| --- | --- | --- | --- | --- |\n"

FORMATS = ("litert", "onnx", "saved_model", "stablehlo")
#: What an error says, by its reason here.
MESSAGES = {"complex numbers": "complex"}
#: Formats that have no complex numbers.
REAL = ("litert", "onnx")
#: Why whole sequences of a layer are in no file of a format: of any length; of a known one neither.
OF_ANY_LENGTH = {"litert": {}, "onnx": {}, "saved_model": {}, "stablehlo": {}}
OF_NO_LENGTH = {"litert": {}, "onnx": {}, "saved_model": {}, "stablehlo": {}}
#: Why the step of a stock layer, by the name of a case in `tests/stock_layers.py`, is in none.
STOCK = {"litert": {}, "onnx": {}, "saved_model": {}, "stablehlo": {}}


def why_no_step(layer, example, format):
    """Why the step of an example of a layer is in no file of a format, or `None`."""
    return _complex(layer, example, format) if layer.supports_step else "they do not stream"


def why_no_whole(layer, example, format, has_length):
    """Why whole sequences of an example of a layer are in no file of a format, or `None`."""
    name, found = type(layer).__name__, OF_NO_LENGTH[format]
    found = found if has_length else found | OF_ANY_LENGTH[format]
    return _complex(layer, example, format) or found.get(name)


def _complex(layer, example, format):
    outputs = layer.output_spec(kseq.SequenceSpec(tuple(example.input_shape[2:]), example.dtype))
    has_some = "complex" in f"{example.dtype} {outputs.dtype}"
    return "complex numbers" if has_some and format in REAL else None


def layers():
    """By name the classes of kseq's own layers that have examples."""
    found = sorted(kseq.registered_layers().items())
    return {name: cls for name, cls in found if "." not in name and cls.examples()}


def listed(why):
    """The layers of which there is a reason, for all of their examples or for some, in a line."""
    found = []
    for name, cls in layers().items():
        hits = [why(cls(**example.config), example) for example in cls.examples()]
        if any(hits):
            found.append(f"`{name}`" if all(hits) else f"some `{name}`")
    return ", ".join(found)


def rows():
    """The cells of the table: which layers, and what of them each format has."""
    yield "steps of all layers, and of Keras's by their adapters, but for those below", *["yes"] * len(FORMATS)
    yield (
        listed(lambda layer, example: why_no_step(layer, example, "onnx") == "complex numbers"),
        *["no: complex numbers" if format in REAL else "yes" for format in FORMATS],
    )
    yield listed(lambda layer, example: not layer.supports_step), *["no: they do not stream"] * len(FORMATS)
    for table, text in (
        (STOCK, "steps of Keras's {}"),
        (OF_NO_LENGTH, "whole {}"),
        (OF_ANY_LENGTH, "whole {}, of any length"),
    ):
        for name in sorted({name for found in table.values() for name in found}):
            yield text.format(f"`{name}`"), *[_cell(table[format].get(name)) for format in FORMATS]


def _cell(reason):
    return f"no: {reason}" if reason else "yes"


def table():
    """The table of `docs/export.md`."""
    return HEADER + "".join(f"| {' | '.join(cells)} |\n" for cells in rows())


def in_page(text):
    """The text of the page with the table of today."""
    start = text.index(HEADER)
    return text[:start] + table() + text[text.index("\n\n", start) + 1 :]


if __name__ == "__main__":
    PAGE.write_text(in_page(PAGE.read_text()))
