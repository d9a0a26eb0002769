"""`export`: a model's step as a file that other runtimes stream."""

import dataclasses
import errno
import importlib
import os
import pathlib
import shutil
import tempfile
from typing import Any, NamedTuple

import keras

from ..arguments import as_size, check_choice
from ..layers.base import SequenceLayer
from ..model_graph import in_words
from ..obstacles import NotStreamable
from ..runtime.ends import Ends
from ..runtime.manifest import Manifest
from ..streaming.graph import as_layer
from ..streaming.model_layer import stream_options
from ..streaming.step import StepFunction
from .calibration import golden_blocks
from .custom import refuse_within
from .manifests import manifest_of
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
        path: of the file, or for `"saved_model"` of the folder; a file, or a SavedModel, that is there is replaced once
            the new one is written.
        format: `"litert"`, `"onnx"`, `"saved_model"` or `"stablehlo"`; by default its ending says: .tflite,
            .onnx, .stablehlo, or none for a SavedModel.
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
        OSError: a place where nothing can be written.

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
    if calibration is not None and precision != "int8":
        raise ValueError(f"`calibration` is of precision 'int8', whose ranges are taken of it; received {precision!r}")
    options = stream_options(max_length, window)
    batch_size = as_size("batch_size", batch_size)
    _check_place(path, name)
    if mode == "layer":
        if block is not None:
            raise ValueError(f"`block` is of a step; the steps of a whole sequence are `length`; received {block}")
        function: Any = WholeFunction(
            model, batch_size, length, bool(masks), dtype=dtype, context=context, options=options
        )
    else:
        if length is not None:
            raise ValueError(
                f"`length` is of whole sequences (`mode='layer'`), and of a step `block`; received {length}"
            )
        given = calibration if precision == "int8" else None
        function = _step(model, batch_size, block, masks, dtype, context, options, given)
    manifest = manifest_of(function, name, precision, dataclasses.asdict(options))
    return _write(model, function, manifest, path, Choices(precision, state, calibration))


def _step(model, batch_size, block, masks, dtype, context, options, calibration):
    """The step of a model as a function; its golden data is of the calibration, where there is one."""
    layer = as_layer(model, options)
    if not layer.supports_step:
        found = layer.obstacles()
        raise NotStreamable(f"{in_words(model)} cannot stream: {'; '.join(map(str, found))}", found)
    ends = Ends(layer, in_words(model), batch_size, dtype)
    if not ends.dtypes_known:
        ends = Ends(layer, in_words(model), batch_size, ends.numpy_dtypes[0].name)
    specs = ends.layer_specs
    step = StepFunction(layer, batch_size, specs[0] if len(specs) == 1 else specs, block=block, context=context)
    masked = _needs_masks(layer, step) if masks is None else bool(masks)
    given = None if calibration is None else golden_blocks(step, masked, calibration)
    return ExportedFunction(step, masked, given=given)


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
    """Let `write(target)` write a file or folder beside the path, which then takes its name; or leave all as it is."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        target, old = folder / path.name, folder / "old"
        given = write(target)
        if not path.is_dir():
            os.replace(target, path)
            return given
        os.rename(path, old)
        try:
            os.rename(target, path)
        except BaseException:
            os.rename(old, path)
            raise
        return given
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# What tensorflow writes into the folder of a SavedModel.
_OF_SAVED_MODELS = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}


def _check_place(path, format):
    """Refuse a place where nothing can be written, or where something is that must not be written over."""
    if not path.name:
        raise ValueError(f"`path` must have a name; received {str(path)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no folder to write into", str(path.parent))
    if not path.exists():
        return
    if format != "saved_model" and not path.is_file():
        raise ValueError(f"{path} is no file, as the format {format!r} writes one: give another path")
    if format == "saved_model" and not (path.is_dir() and {x.name for x in path.iterdir()} <= _OF_SAVED_MODELS):
        raise ValueError(f"{path} is no folder of a SavedModel alone, which may be replaced: give another path")


def _format_of(path, format):
    if format is not None:
        check_choice("format", format, FORMATS)
        return format
    by_ending = {form.suffix: name for name, form in FORMATS.items()}
    if path.suffix[1:].isalpha() and path.suffix not in by_ending:  # no number of a version
        endings = ", ".join(filter(None, by_ending))
        raise ValueError(
            f"`path` must end in {endings}, or for a SavedModel in none of its own; received {path.name!r}: name the "
            f"`format`"
        )
    return by_ending.get(path.suffix, "saved_model")


def _needs_masks(layer, step):
    """Whether the end of a stream is pushed as steps that are not there."""
    return step.block > 1 or any(timing.input_latency or timing.output_latency for timing in layer.timings)
