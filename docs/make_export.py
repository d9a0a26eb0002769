"""Writes the table of `docs/export.md`, and knows which layers are in no file: python docs/make_export.py

`tests/deploy/test_every_layer.py` and `test_every_adapter.py` hold that these are refused, and all others are not.
"""

import pathlib
import re

import kseq

PAGE = pathlib.Path(__file__).parent / "export.md"
STEPS = "| steps | LiteRT | ONNX | SavedModel | StableHLO |\n| --- | --- | --- | --- | --- |\n"
WHOLE = '| whole sequences, `mode="layer"` | LiteRT | ONNX |\n| --- | --- | --- |\n'

FORMATS = ("litert", "onnx", "saved_model", "stablehlo")
#: Formats that have no complex numbers, and fewer operations than backends.
RUNTIMES = ("litert", "onnx")
_LOOP = "a loop over time has a known length"
_KNOWN = "torch takes the length for a known one"
_HASHES = "hashes are quotients of 64 bits"
#: What an error says, by its reason here.
MESSAGES = {
    "complex numbers": "complex",
    _LOOP: "with a `length=` it may",
    _KNOWN: "with a `length=` it may",
    _HASHES: "no built-in operation for tf.FloorDiv",
}
#: Why the step of a stock layer, by the name of a case in `tests/stock_layers.py`, is in no file of a format.
STOCK = {"litert": {"Hashing": _HASHES}, "onnx": {}}
#: Why whole sequences of a layer, by the first of its examples, are in none: of any length; nor of a known one.
_LOOPS = (
    "Autoregressive", "ConvLSTM1D", "ConvLSTM2D", "DynamicConvolutionAttention", "GRU", "GatedDeltaNet",
    "GatedLinearAttention",
    "LSTM", "LocationSensitiveAttention", "MLSTM", "Mamba2", "MinGRU", "MinLSTM", "RGLRU", "RNN",
    "Retention", "S4D", "S5", "SimpleRNN",
)  # fmt: skip
_FIXED = ("Blockwise", "GlobalEinopsRearrange", "GlobalReshape", "MaskedDense", "Resample")
OF_ANY_LENGTH = {"litert": {}, "onnx": dict.fromkeys(_LOOPS, _LOOP) | dict.fromkeys(_FIXED, _KNOWN)}
OF_NO_LENGTH = {"litert": {}, "onnx": {}}


def why_no_step(layer, example, format):
    """Why the step of an example of a layer is in no file of a format, or `None`."""
    return _complex(layer, example, format) if layer.supports_step else "they do not stream"


def why_no_whole(layer, example, format, has_length):
    """Why whole sequences of an example of a layer are in no file of a format, or `None`."""
    found = OF_NO_LENGTH[format] if has_length else OF_NO_LENGTH[format] | OF_ANY_LENGTH[format]
    within = re.findall(r"'class_name': '(\w+)'", str(layer.get_config()))
    reasons = [found[name] for name in (type(layer).__name__, *within) if name in found]
    return _complex(layer, example, format) or next(iter(reasons), None)


def _complex(layer, example, format):
    outputs = layer.output_spec(kseq.SequenceSpec(tuple(example.input_shape[2:]), example.dtype))
    has_some = "complex" in f"{example.dtype} {outputs.dtype}"
    return "complex numbers" if has_some and format in RUNTIMES else None


def layers():
    """By name the classes of kseq's own layers that have examples."""
    found = sorted(kseq.registered_layers().items())
    return {name: cls for name, cls in found if "." not in name and cls.examples()}


def listed(why):
    """The layers of which there is a reason, for all of their examples or for some, in a line."""
    found = []
    for name, cls in layers().items():
        hits = [why(_built(cls, example), example) for example in cls.examples()]
        if any(hits):
            found.append(f"`{name}`" if all(hits) else f"some `{name}`")
    return ", ".join(found)


def _built(cls, example):
    layer = cls(**example.config)
    context = {name: (2, *shape) for name, shape in (example.context or {}).items()}
    layer.build((2, *example.input_shape[1:]), **({"context_shape": context} if context else {}))
    return layer


def steps():
    """The table of steps."""
    no_complex = ["no: complex numbers" if format in RUNTIMES else "yes" for format in FORMATS]
    rows = [
        ["all layers that stream, and Keras's by their adapters, but for those below", *["yes"] * len(FORMATS)],
        [listed(lambda layer, example: why_no_step(layer, example, "onnx") == "complex numbers"), *no_complex],
        [listed(lambda layer, example: not layer.supports_step), *["they do not stream"] * len(FORMATS)],
    ]
    return _table(STEPS, rows + _refused(STOCK, FORMATS, "Keras's {}"))


def wholes():
    """The table of whole sequences."""
    rows = [["all layers, of any length, but for complex numbers and those below", "yes", "yes"]]
    return _table(WHOLE, rows + _refused(OF_NO_LENGTH, RUNTIMES, "{}") + _refused(OF_ANY_LENGTH, RUNTIMES, "{}"))


def _refused(table, formats, text):
    """Rows of names that have the same reasons."""
    found = {}
    for name in sorted({name for names in table.values() for name in names}):
        cells = tuple(f"no: {table[form][name]}" if name in table.get(form, ()) else "yes" for form in formats)
        found.setdefault(cells, []).append(f"`{name}`")
    return [[text.format(", ".join(names)), *cells] for cells, names in found.items()]


def _table(header, rows):
    return header + "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def in_page(text):
    """The text of the page with the tables of today."""
    for header, table in ((STEPS, steps()), (WHOLE, wholes())):
        start = text.index(header)
        text = text[:start] + table + text[text.index("\n\n", start) + 1 :]
    return text


if __name__ == "__main__":
    PAGE.write_text(in_page(PAGE.read_text()))
