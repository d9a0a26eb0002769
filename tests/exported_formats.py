"""The formats of `kseq.export`: which this backend writes, and what they need."""

import importlib.util

import keras
import pytest

from kseq.deploy.entry import FORMATS

RUNTIMES = {"litert": "ai_edge_litert", "onnx": "onnxruntime", "saved_model": "tensorflow", "stablehlo": "jax"}
HERE = [name for name, form in FORMATS.items() if form.backend == keras.backend.backend()]
#: All of them; what a process of another backend has to write takes long.
ALL = [pytest.param(name, marks=[] if name in HERE else [pytest.mark.slow]) for name in FORMATS]


def needs(format):
    """Skip where a format cannot be written, or not be run."""
    for package in {RUNTIMES[format], FORMATS[format].backend, *({"onnxscript"} if format == "onnx" else ())}:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{format} needs {package}")


def file_of(folder, format, name="m"):
    """A path of a format in a folder."""
    return folder / f"{name}{FORMATS[format].suffix}"
