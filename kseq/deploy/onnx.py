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

import keras
import numpy as np

from ..hints import exporting
from ..runtime.manifest import MEMBER, Manifest
from ..runtime.seal import seal_onnx
from .measured import save_measured
from .onnx_graph import divide_by_roots, drop_identities, fold_scales, states_in_place
from .onnx_operations import translations

#: What onnxruntime computes in on a processor, as far as layers of dtype policy float32 do.
DTYPES = ("float32", "bool", "int8", "uint8", "int32", "uint32", "int64")
#: The property that names the leaves of the state which one array may be, before a call and after it.
IN_PLACE = "kseq.in_place"
#: The newest operators that torch writes; onnxruntime runs them since 1.24.
_OPSET = 25
#: What one file of protocol buffers holds.
_LARGEST = 2**31 - 2**20
#: Steps of golden data where a layer has room for any number.
_ROOMY = 32
#: Steps with which a file of any length is tried there: a prime.
_MANY = 157
_OTHER_POLICY = "export a model of the dtype policy 'float32', with `precision=` for smaller weights"
_NO_COMPLEX = 'use real and imaginary parts, `mode="real_imag"` of `kseq.STFT`, `kseq.RDFT` and `kseq.InverseSTFT`'


def write(function: Any, manifest: Manifest, target: pathlib.Path, choices: Any) -> Manifest:
    """Write an .onnx file.

    Args:
        function: what is written, an `ExportedFunction` or a `WholeFunction`.
        manifest: what travels with it, in base64 under `kseq.manifest` of the model's properties.
        target: the file.
        choices: the precision: `"float32"`, `"float16"` for weights, which are widened when the file is loaded, or
            `"int8"`, for weights whose products are of integers.

    Raises:
        ImportError: a package that writes or checks it is not there.
        ValueError: what ONNX, or onnxruntime, has no numbers or operations for.
    """
    onnx, runtime, _ = (_package(name) for name in ("onnx", "onnxruntime", "onnxscript"))
    if choices.state != "inputs":
        raise ValueError(f"a step in ONNX has its state as inputs and outputs; received state={choices.state!r}")
    _check_dtypes(function)
    size = sum(variable.value.nbytes for variable in function.layer.variables)
    if size > _LARGEST:
        raise ValueError(f"one file of ONNX holds 2 GiB; the weights are {size / 2**30:.1f} GiB")
    model = _exported(function)
    drop_identities(model)
    fold_scales(model)
    divide_by_roots(model)
    if choices.precision != "float32":
        from .onnx_precision import narrowed

        model = narrowed(model, choices.precision)
    _check(_session(runtime, model), function)
    in_place = ",".join(states_in_place(model, manifest.state))

    def save(manifest):
        properties = {MEMBER: base64.b64encode(manifest.to_bytes()).decode(), IN_PLACE: in_place}
        onnx.helper.set_model_props(model, properties)
        target.write_bytes(model.SerializeToString())
        seal_onnx(target)

    return save_measured(save, manifest, target)


def _package(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"ONNX's files are written with {name}: `pip install 'kseq[export]'`") from error


def _check_dtypes(function):
    tensors = [(f"the tensor {spec.name!r}", spec.dtype) for spec in [*function.takes, *function.gives]]
    tensors += [
        (f"the variable {v.path!r}", keras.backend.standardize_dtype(v.dtype)) for v in function.layer.variables
    ]
    for what, dtype in tensors:
        if dtype not in DTYPES:
            advice = _NO_COMPLEX if "complex" in dtype else _OTHER_POLICY
            raise ValueError(f"a step in ONNX computes in {', '.join(DTYPES)}; received {what} of {dtype}: {advice}")


def _exported(function):
    """The function as a model of ONNX."""
    import torch

    any_length = torch.export.Dim.DYNAMIC
    shapes = [{axis: any_length for axis, n in enumerate(spec.shape) if n is None} for spec in function.takes]
    arrays = [
        torch.zeros([4 * _steps_of(function) if n is None else n for n in spec.shape], dtype=getattr(torch, spec.dtype))
        for spec in function.takes
    ]
    with _quiet(), exporting():
        try:
            program: Any = torch.onnx.export(
                _module(function).eval(),
                tuple(arrays),
                dynamo=True,
                opset_version=_OPSET,
                input_names=[spec.name for spec in function.takes],
                output_names=[spec.name for spec in function.gives],
                dynamic_shapes=(tuple(shape or None for shape in shapes),) if any(shapes) else None,
                custom_translation_table=translations(),
                external_data=False,
                verbose=False,
                optimize=False,
            )
            _simplify(program.model)
        except torch.onnx.OnnxExporterError as error:
            reason, advice = _reason(error), "; with a `length=` it may" if any(shapes) else ""
            advice = f"; {_NO_COMPLEX}" if "complex-valued" in reason else advice
            raise ValueError(f"ONNX cannot hold this: {reason}{advice}") from error
    return program.model_proto


def _simplify(model):
    """Compute all that is of weights alone, however large they are, and leave out what does nothing.

    By rules by name: among all of onnxscript's is one that leaves out the reshapes around a product wherever shapes
    would fit without them, which where two sizes happen to be equal is another product.
    """
    import onnx_ir.passes.common as passes
    import onnxscript.optimizer as optimizer
    import onnxscript.rewriter as rewriter
    import onnxscript.rewriter.rules.common as rules

    optimizer.inline(model)
    optimizer.fold_constants(model, input_size_limit=_LARGEST, output_size_limit=_LARGEST)
    rewriter.rewrite(model, [getattr(rules, f"{name}_rule") for name in _RULES])
    optimizer.remove_unused_nodes(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.DeduplicateInitializersPass()(model)


_RULES = (
    "no_op_transpose", "transpose_transpose", "reshape_reshape", "unsqueeze_unsqueeze", "no_op_cast", "no_op_expand",
    "collapse_slice", "collapse_slice2", "remove_optional_bias_from_conv",
)  # fmt: skip


def _steps_of(function):
    """Steps that a length of any size is a multiple of, where that is known."""
    timing = getattr(function.layer, "timing", None)
    return 1 if timing is None else timing.block_size


def _module(function):
    """The function as a module of torch, whose buffers are the weights."""
    import torch

    variables = function.layer.variables

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for number, variable in enumerate(variables):
                self.register_buffer(f"weight_{number}", variable.value.detach())

        def forward(self, *arrays: Any) -> Any:
            weights = [getattr(self, f"weight_{number}") for number in range(len(variables))]
            with keras.StatelessScope(list(zip(variables, weights, strict=True))):
                found = function(*arrays)
            # A tensor that is given as it was taken, or twice, has but one name: each is one of its own.
            return tuple(x.clone() for x in found)

    return Step()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says of itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error):
    """What went wrong at first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return re.sub(r"\s+", " ", str(error))


def _session(runtime, model):
    """What runs a model, which is refused where onnxruntime has no operation for it."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of its own classes
        raise ValueError(f"onnxruntime cannot run the step: {error}") from error


def _check(session, function):
    """Refuse what is to be of any length, and is of lengths like the one that was traced: torch assumes such things.

    It is tried with more steps, of a number that nothing divides.
    """
    if all(None not in spec.shape for spec in function.takes):
        return
    [(given, _)] = function.golden
    if given[0].shape[1] == _ROOMY:
        given = [np.concatenate([x] * 5, axis=1)[:, :_MANY] for x in given]
    try:
        wanted = [np.shape(y) for y in function(*map(keras.ops.convert_to_tensor, given))]
    except Exception:  # the model itself does not go so far, as where it has learned so many positions
        return
    names = [x.name for x in session.get_inputs()]
    try:
        found = [y.shape for y in session.run(None, dict(zip(names, given, strict=True)))]
    except Exception as error:  # of its own classes
        found = str(error)
    if found != wanted:
        raise ValueError(
            f"ONNX cannot hold this for any length: of {given[0].shape[1]} steps onnxruntime gives {found} in the "
            f"place of {wanted}; with a `length=` it may"
        )
