"""A step in ONNX: what torch's exporter makes of it, and the manifest among its properties.  On torch."""

import base64
import contextlib
import importlib
import logging
import pathlib
import re
import warnings
from collections.abc import Iterator
from typing import Any

from ..hints import exporting
from ..runtime.manifest import MEMBER, Manifest
from ..streaming.tracing import Scope
from .onnx_operations import translations
from .traced import ExportedFunction

_DTYPES = ("float32", "bool", "int8", "uint8", "int16", "int32", "int64")
#: The newest operators that torch writes and onnxruntime runs.
_OPSET = 25
#: What one file of protocol buffers holds.
_LARGEST = 2**31 - 2**20
#: A size in the place of any.
_ANY = 12


def write(function: ExportedFunction, manifest: Manifest, target: pathlib.Path, choices: Any) -> None:
    """Write an .onnx file.

    Args:
        function: what is written.
        manifest: what travels with it, in base64 under `kseq.manifest` of the model's properties.
        target: the file.
        choices: the precision: `"float32"`, `"float16"` for weights, which are widened when the file is loaded, or
            `"int8"`, for weights whose products are of integers.

    Raises:
        ImportError: a package that writes or checks it is not there.
        ValueError: what ONNX, or onnxruntime, has no numbers or operations for.
    """
    onnx, runtime = (_package(name) for name in ("onnx", "onnxruntime"))
    _package("onnxscript")
    _check_dtypes(function)
    model = _exported(function)
    content = model.SerializeToString()
    if choices.precision != "float32":
        from .onnx_precision import narrowed

        content = narrowed(onnx.load_from_string(content), choices.precision).SerializeToString()
    _check(runtime, content)
    model = onnx.load_from_string(content)
    onnx.helper.set_model_props(model, {MEMBER: base64.b64encode(manifest.to_bytes()).decode()})
    target.write_bytes(model.SerializeToString())


def _package(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"ONNX's files are written with {name}: `pip install 'kseq[export]'`") from error


def _check_dtypes(function):
    variables = function.layer.variables
    tensors = [(f"the tensor {spec.name!r}", spec.dtype) for spec in [*function.takes, *function.gives]]
    for what, dtype in [*tensors, *[(f"the variable {v.path!r}", str(v.dtype)) for v in variables]]:
        if dtype not in (*_DTYPES, "uint32"):
            raise ValueError(
                f"onnxruntime computes in {', '.join(_DTYPES)}; received {what} of {dtype}: export a model of the "
                "dtype policy 'float32', with `precision=` for smaller weights"
            )


def _exported(function):
    """The function as a model of ONNX."""
    import torch

    shapes = [tuple(_ANY if n is None else n for n in spec.shape) for spec in function.takes]
    arrays = [torch.zeros(s, dtype=getattr(torch, spec.dtype)) for s, spec in zip(shapes, function.takes, strict=True)]
    free = any(None in spec.shape for spec in function.takes)
    with _quiet(), exporting():
        try:
            program = torch.onnx.export(
                _module(function).eval(),
                tuple(arrays),
                dynamo=True,
                dynamic_shapes={"arrays": tuple(_free(spec.shape) for spec in function.takes)} if free else None,
                opset_version=_OPSET,
                input_names=[spec.name for spec in function.takes],
                output_names=[spec.name for spec in function.gives],
                custom_translation_table=translations(),
                external_data=False,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ValueError(f"ONNX cannot hold the step: {_reason(error)}") from error
    _check_free(program.model_proto, function)
    return program.model_proto


def _check_free(model, function):
    """Refuse a file that takes the length that was tried and no other."""
    for spec, value in zip(function.takes, model.graph.input, strict=True):
        sizes = [dim.dim_param for dim in value.type.tensor_type.shape.dim]
        if any(n is None and not size for n, size in zip(spec.shape, sizes, strict=True)):
            raise ValueError(
                "torch writes one step after the other where layers loop over time, for a length that is known: give "
                "`length=`"
            )


def _free(shape):
    """The axes of any size, as torch's exporter takes them."""
    import torch

    return {axis: torch.export.Dim(f"t{axis}") for axis, n in enumerate(shape) if n is None}


def _module(function):
    """The function as a module of torch, whose buffers are the weights."""
    import torch

    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.count = 0
            for variable in function.layer.variables:
                self.register_buffer(f"weight_{self.count}", variable.value.detach().clone())
                self.count += 1

        def forward(self, *arrays):
            weights = [getattr(self, f"weight_{n}") for n in range(self.count)]
            with Scope(function.layer.variables, weights):
                found = function(*arrays)
            # A tensor that is given as it was taken, or twice, has but one name: each is one of its own.
            return tuple(x.clone() for x in found)

    return Step()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says of itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _reason(error):
    """What went wrong at first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return re.sub(r"\s+", " ", str(error))


def _check(runtime, content):
    """Refuse what onnxruntime has no operation for."""
    try:
        runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # of its own classes
        raise ValueError(f"onnxruntime cannot run the step: {error}") from error
