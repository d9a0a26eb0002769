"""Writes the table of `docs/export.md`, and knows which layers are in no file: python docs/make_export.py

`tests/deploy/test_every_layer.py` and `test_every_adapter.py` hold that these are refused, and all others are not.
"""

import pathlib
import sys

import kseq

PAGE = pathlib.Path(__file__).parent / "export.md"
HEADER = "| layers | LiteRT | ONNX | SavedModel | StableHLO |\n| --- | --- | --- | --- | --- |\n"

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
    """By name the classes of kseq's own layers."""
    return {name: cls for name, cls in sorted(kseq.registered_layers().items()) if "." not in name}


def listed(why):
    """Layers for all examples, or some, of which there is a reason, for a table."""
    found = []
    for name, cls in layers().items():
        hits = [bool(why(_built(cls, example), example)) for example in cls.examples()]
        if any(hits):
            found.append(f"`{name}`" if all(hits) else f"some `{name}`")
    return ", ".join(found)
