"""`export`: a model's step as a file that other runtimes stream."""

import dataclasses
import importlib
import os
import pathlib
import shutil
import tempfile
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ..arguments import as_size, check_choice
from ..layers.base import SequenceLayer
from ..model_graph import in_words
from ..obstacles import NotStreamable
from ..runtime.ends import Ends
from ..runtime.manifest import Allowance, Manifest
from ..streaming.compiled import freeze
from ..streaming.context import in_numpy
from ..streaming.graph import as_layer
from ..streaming.model_layer import stream_options
from ..streaming.saving import model_id, seeds_of
from ..streaming.step import StepFunction
from ..version import __version__
from .calibration import golden_blocks
from .custom import refuse_within
from .measured import warn_if_far
from .traced import ExportedFunction
from .whole import WholeFunction


class FileFormat(NamedTuple):
    """A format: its module here, the backend that produces it, how its files end, and the precisions that it has."""

    module: str
    backend: str
    suffix: str
    precisions: tuple[str, ...]


FORMATS = {
    "litert": FileFormat("litert", "tensorflow", ".tflite", ("float32", "float16", "int8_dynamic", "int8")),
    "onnx": FileFormat("onnx", "torch", ".onnx", ("float32", "float16", "int8")),
    "saved_model": FileFormat("saved_model", "tensorflow", "", ("float32",)),
    "stablehlo": FileFormat("stablehlo", "jax", ".stablehlo", ("float32", "bfloat16")),
}


class Choices(NamedTuple):
    """What is chosen of an export, besides the model and the file.

    Attributes:
        state: `"inputs"`, or `"variables"` for a file that keeps its state itself.
        calibration: sequences of inputs, from which the ranges of integers are taken.
    """

    precision: str = "float32"
    state: str = "inputs"
    calibration: Any = None


def export(
    model: keras.Model | SequenceLayer,
    path: str | os.PathLike[str],
    format: str | None = None,
    batch_size: int = 1,
    block: int | None = None,
    precision: str | None = None,
    calibration: Any = None,
    *,
    mode: str = "step",
    length: int | None = None,
    state: str = "inputs",
    masks: bool | None = None,
    dtype: str | None = None,
    context: Any = None,
    max_length: int = 1024,
    window: int | None = None,
) -> Manifest:
    """Write the step of a model as a file that runs without Keras: a function of a block and the state.

    The file has a name for every tensor, static shapes, and with it travels a `Manifest`: the initial state, the
    timing, and golden data by which any runtime can test itself. `kseq.ExportedStream` streams it.

    Args:
        model: as `kseq.Stream` takes it.
        path: of the file, or for `"saved_model"` of the folder; what is there is replaced once the new one is written.
        format: `"litert"`, `"onnx"`, `"saved_model"` or `"stablehlo"`; by default its ending says: .tflite,
            .onnx, .stablehlo, or else a SavedModel.
        batch_size: streams that advance together.
        block: steps of a call, a multiple of the model's block; by default that.
        precision: of the weights, by default `"float32"`.
        calibration: for `"int8"`: chunks as `push` takes them, whose values are like those to come; of these the golden
            data is, too.
        mode: `"step"`, or `"layer"` for whole sequences, also of models that cannot stream: `kseq.open_whole` runs it.
        length: steps of a whole sequence; by default any number.
        state: `"inputs"`: the state is an input and an output of each call; `"variables"`: in LiteRT, the file has it.
        masks: whether a call takes masks of its inputs; by default where the end of a stream needs steps that are not
            there, for models with latency or of blocks longer than a step, and not for whole sequences.
        dtype, context, max_length, window: as `kseq.Stream` takes them.

    Warns:
        UserWarning: a file of fewer bits that is farther from the model than rounding is, in `Manifest.golden_error`.

    Raises:
        NotStreamable: a model that cannot step.
        ValueError: a format, precision or path that there is not, or what the format cannot hold, with the reason.
        ImportError: a package that the format needs, with the extra that installs it.

    Example:
        >>> import kseq, tempfile
        >>> layer = kseq.GRU(2)
        >>> layer.build((None, None, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     manifest = kseq.export(layer, f"{folder}/gru.stablehlo", batch_size=4)
        >>> [(leaf.name, leaf.shape) for leaf in manifest.state]
        [('hidden', (4, 2))]
    """
    refuse_within()
    path = pathlib.Path(path)
    name = _format_of(path, format)
    precision = precision or "float32"
    check_choice("precision", precision, FORMATS[name].precisions)
    check_choice("mode", mode, ("step", "layer"))
    choices = Choices(precision, state, calibration)
    options = stream_options(max_length, window)
    batch_size = as_size("batch_size", batch_size)
    if mode == "layer":
        if block is not None:
            raise ValueError(f"`block` is of a step; the steps of a whole sequence are `length`; received {block}")
        whole = WholeFunction(model, batch_size, length, bool(masks), dtype=dtype, context=context, options=options)
        manifest = _manifest_of_whole(whole, name, choices, dataclasses.asdict(options), context)
        return _write(model, whole, manifest, path, choices)
    if length is not None:
        raise ValueError(f"`length` is of whole sequences (`mode='layer'`), and of a step `block`; received {length}")
    layer = as_layer(model, options)
    if not layer.supports_step:
        found = layer.obstacles()
        raise NotStreamable(f"{in_words(model)} cannot stream: {'; '.join(map(str, found))}", found)
    ends = Ends(layer, in_words(model), batch_size, dtype)
    if not ends.dtypes_known:
        ends = Ends(layer, in_words(model), batch_size, ends.numpy_dtypes[0].name)
    specs = ends.layer_specs
    spec = specs[0] if len(specs) == 1 else specs
    step = StepFunction(layer, batch_size, spec, block=block, context=context)
    masked = _needs_masks(layer, step) if masks is None else bool(masks)
    from_data = precision == "int8" and calibration is not None
    given = golden_blocks(step, masked, calibration) if from_data else None
    function = ExportedFunction(step, masked, given=given)
    manifest = _manifest(function, name, choices, ends, dataclasses.asdict(options), context)
    return _write(model, function, manifest, path, choices)


def _write(model, function, manifest, path, choices):
    """Write a file, in a process of another backend where the format needs it, and give its manifest."""
    if keras.backend.backend() == FORMATS[manifest.format].backend:
        manifest = write_atomically(path, lambda target: written(function, manifest, target, choices))
    else:
        from . import child

        manifest = write_atomically(path, lambda target: child.write(model, manifest, target, choices))
    warn_if_far(manifest, path)
    return manifest


def written(function: Any, manifest: Manifest, target: pathlib.Path, choices: Choices) -> Manifest:
    """Write a function in the format of its manifest, here and now; give the manifest that is in the file."""
    module: Any = importlib.import_module(f".{FORMATS[manifest.format].module}", __package__)
    return module.write(function, manifest, target, choices)


def write_atomically(path: pathlib.Path, write: Any) -> Any:
    """Let `write(target)` write a file or a folder beside the path, which then takes its name; or leave nothing."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        target, old = folder / path.name, folder / "old"
        given = write(target)
        if path.is_dir():
            os.rename(path, old)
        os.replace(target, path)
        return given
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _format_of(path, format):
    if format is not None:
        check_choice("format", format, FORMATS)
        return format
    return next((name for name, form in FORMATS.items() if form.suffix and path.suffix == form.suffix), "saved_model")


def _needs_masks(layer, step):
    """Whether the end of a stream is pushed as steps that are not there."""
    return step.block > 1 or any(timing.input_latency or timing.output_latency for timing in layer.timings)


def _manifest(function, name, choices, ends, options, context):
    step = function.step
    layer, weights = step.layer, freeze(step.layer)
    calls = [inputs for inputs, _ in function.golden]
    outputs = [[*[y for y, _ in made], *[m for _, m in made if m is not None]] for _, made in function.golden]
    return Manifest(
        format=name,
        mode="step",
        precision=choices.precision,
        batch_size=step.batch_size,
        block=step.block,
        inputs=function.inputs,
        outputs=function.outputs,
        state=function.state,
        order=step.order,
        presence_tensor=function.presence_tensor,
        input_names=tuple(getattr(layer, "input_names", ())),
        input_structure=ends.input_structure,
        output_structure=ends.output_structure,
        compute_dtype=layer.compute_dtype,
        timings=tuple(layer.timings),
        allowances=tuple(map(_allowance, step.limits(step.initial_state()))),
        model=model_id(layer, weights)._asdict(),
        options=options,
        kseq_version=__version__,
        initial_state=step.initial_state(),
        seeds=seeds_of(layer, weights, {}),
        context=in_numpy(step.context),
        golden_inputs=[np.concatenate(arrays, axis=1) for arrays in zip(*calls, strict=True)],
        golden_outputs=[np.concatenate(arrays, axis=1) for arrays in zip(*outputs, strict=True)],
    )


def _manifest_of_whole(function, name, choices, options, context):
    [(inputs, outputs)] = function.golden
    layer = function.layer
    return Manifest(
        format=name,
        mode="layer",
        precision=choices.precision,
        batch_size=function.batch_size,
        block=function.length or 0,
        inputs=function.inputs,
        outputs=function.outputs,
        state=(),
        order=(),
        presence_tensor=None,
        input_names=function.input_names,
        input_structure=function.input_structure,
        output_structure=function.output_structure,
        compute_dtype=layer.compute_dtype,
        timings=tuple(layer.timings) if isinstance(layer, SequenceLayer) else (),
        allowances=(),
        model={},
        options=options,
        kseq_version=__version__,
        initial_state=[],
        seeds={},
        context=in_numpy(context or {}),
        golden_inputs=inputs,
        golden_outputs=[*[y for y, _ in outputs], *[m for _, m in outputs if m is not None]],
    )


def _allowance(limit):
    steps = np.asarray(ops.convert_to_numpy(limit.steps))
    return Allowance(limit.layer, tuple(steps.tolist()), limit.advice, limit.counts_valid)
