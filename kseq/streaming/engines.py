"""What else runs a stream's step than what the backend compiles: the step exported into a cache, and run from there."""

import contextlib
import importlib.util
import json
import os
import pathlib
import platform
import sys
import tempfile
import time
from typing import Any, NamedTuple

import keras
import numpy as np
import xxhash

from ..arguments import check_choice
from ..dtypes import host_dtype
from ..layers.limits import Limit
from ..layers.structures import parts
from ..runtime.engine_step import EngineState, EngineStep
from ..runtime.golden import golden_calls
from ..runtime.manifest import Manifest
from ..runtime.protocols import Runner
from ..runtime.runners import open_runner
from ..version import __version__
from .compiled import compile_step, freeze
from .saving import model_id
from .step import StepFunction


class Engine(NamedTuple):
    """What runs exported steps: the package that it is, the format that it reads, and the extra that installs both."""

    package: str
    format: str
    suffix: str


ENGINES = {
    "onnxruntime": Engine("onnxruntime", "onnx", ".onnx"),
    "litert": Engine("ai_edge_litert", "litert", ".tflite"),
}
CHOICES = ("xla", *ENGINES, "auto")
# Rounds of calls that are timed of each engine, and calls before them: a step on torch is a program from its hundredth.
_ROUNDS, _CALLS, _BEFORE = 5, 40, 110
# How far the golden data of a file may be from what its engine makes of it.
_TOLERANCE = 1e-3


def check_engine(engine: Any) -> str:
    """Return an argument `engine`.

    Raises:
        ValueError: another than there are.
    """
    check_choice("engine", engine, CHOICES)
    return engine


class ModelEngineStep(EngineStep):
    """An `EngineStep` of a model that is there: what its layers say of a state is known too.

    Args:
        step: the step that was exported.
        source: what was exported.
        engine: the name of what runs it.
    """

    step: StepFunction

    def __init__(self, step: StepFunction, source: "Source", engine: str) -> None:
        self.step, self.compilations = step, 0

        def masked():
            self.compilations += 1
            return opened(source, engine, masks=True)

        super().__init__(*opened(source, engine, masks=False), masked)
        self.is_limited = step.is_limited

    def limits(self, state: EngineState) -> list[Limit]:
        return self.step.limits(state.leaves)

    def leaves(self, state: EngineState) -> list[np.ndarray]:
        """The leaves of a state."""
        return state.leaves

    def changed(self, state: EngineState, leaves: Any) -> EngineState:
        """The state with other leaves, arrays of the backend."""
        return self.from_numpy([keras.ops.convert_to_numpy(leaf) for leaf in leaves], like=state)


class Source(NamedTuple):
    """What is exported for a stream.

    Attributes:
        model: as the stream was given it.
        step: its step, of the stream's batch size, dtypes and context.
        weights: from `freeze`, those that the stream has.
        dtype: of the inputs where the model does not say it.
        context: as the stream was given it.
        options: `max_length` and `window`.
    """

    model: Any
    step: StepFunction
    weights: Any
    dtype: str | None
    context: Any
    options: dict[str, Any]

    def key(self, *more: Any) -> str:
        """A name for what depends on all of this: the same in every process, and on every backend."""
        step, digest = self.step, xxhash.xxh3_128()
        for name, x in sorted(step.context.items()):
            for array in x:
                array = None if array is None else np.ascontiguousarray(keras.ops.convert_to_numpy(array))
                digest.update(name.encode() if array is None else f"{name}{array.shape}{array.dtype}".encode())
                digest.update(b"" if array is None else array.tobytes())
        specs = [[list(spec.shape), spec.dtype] for spec in parts(step.input_spec)]
        made = [step.batch_size, step.block, specs, digest.hexdigest(), __version__, *more]
        return xxhash.xxh3_128_hexdigest(json.dumps([*model_id(step.layer, self.weights), made]).encode())


def engine_step(source: Source, engine: str) -> tuple[str, Any]:
    """The engine that was chosen, and the step that it runs; of `"auto"` the one that is fastest here.

    Raises:
        ImportError: an engine that is not installed.
        ValueError: a model that it does not run, with the reason.
    """
    if engine == "auto":
        engine = fastest(source)
    if engine == "xla":
        return engine, compile_step(source.step, source.weights)
    return engine, ModelEngineStep(source.step, source, engine)


def cache_folder() -> pathlib.Path:
    """Where exported steps are kept: the environment variable `KSEQ_CACHE`, or `kseq` in the user's own folder."""
    given = os.environ.get("KSEQ_CACHE")
    if given:
        return pathlib.Path(given)
    own = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    return pathlib.Path(os.environ.get(own) or pathlib.Path.home() / ".cache") / "kseq"


def opened(source: Source, engine: str, masks: bool) -> tuple[Manifest, Runner]:
    """The exported step of a model and what runs it, of the cache, or made anew where that has none or a damaged one.

    Raises:
        ImportError: an engine that is not installed.
        ValueError: a model that it does not run, with the reason.
    """
    kind = ENGINES[engine]
    if not _is_installed(engine):
        raise ImportError(f"the engine {engine!r} is not installed: `pip install 'kseq[export]'`")
    path = cache_folder() / f"{source.key(engine, masks)}{kind.suffix}"
    with contextlib.suppress(OSError, ValueError):
        return _checked(*open_runner(path), source)
    path.parent.mkdir(parents=True, exist_ok=True)
    _export(source, path, kind.format, masks)
    return _checked(*open_runner(path), source)


def _export(source, path, format, masks):
    from ..deploy import export

    with _weights(source):
        export(
            source.model,
            path,
            format,
            source.step.batch_size,
            masks=masks,
            dtype=source.dtype,
            context=source.context,
            **source.options,
        )


@contextlib.contextmanager
def _weights(source):
    """The model with the weights that the stream has, also where it was trained since."""
    layer = source.step.layer
    now = freeze(layer)
    if now is source.weights:
        yield
        return
    try:
        _assign(layer, source.weights)
        yield
    finally:
        _assign(layer, now)


def _assign(layer, weights):
    for variable, value in zip(layer.variables, weights.values, strict=True):
        variable.assign(value)


def _checked(manifest, runner, source):
    """A manifest and a runner, if they are of the source, and give what is written of them.

    Raises:
        ValueError: others.
    """
    specs = [(spec.shape, spec.dtype) for spec in parts(source.step.input_spec)][: len(manifest.inputs)]
    found = [(port.shape, port.dtype) for port in manifest.inputs]
    if specs != found:
        raise ValueError(f"an exported step must take inputs of {specs}; received one of {found}")
    state = runner.state(manifest.initial_state)
    for given, outputs in golden_calls(manifest):
        made, state = runner(given, state)
        if not all(
            np.allclose(*pair, _TOLERANCE, _TOLERANCE, equal_nan=True) for pair in zip(made, outputs, strict=True)
        ):
            raise ValueError("the engine does not give what the model gives")
    return manifest, runner


def fastest(source: Source) -> str:
    """The engine that takes least time here, by a measurement that is remembered; one that fails is none."""
    installed = [name for name in ENGINES if _is_installed(name)]
    place = f"{keras.backend.backend()} {platform.node()}"
    path = cache_folder() / f"{source.key('auto', place, installed)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads(path.read_text())["engine"]
        if found in ("xla", *installed):
            return found
    times, failed = {"xla": _time(compile_step(source.step, source.weights), source)}, {}
    for name in installed:
        try:
            times[name] = _time(ModelEngineStep(source.step, source, name), source)
        except Exception as error:  # of a converter's own classes: what does not export is no candidate
            failed[name] = f"{type(error).__name__}: {error}"
    engine = min(times, key=lambda name: times[name])
    _write(path, json.dumps({"engine": engine, "microseconds": times, "failed": failed}, indent=1))
    return engine


def _time(run, source) -> float:
    """Microseconds of a call: the median of the round that was disturbed least by what else the machine does."""
    step = source.step
    rng, values = np.random.default_rng(0), []
    for spec in parts(step.input_spec):
        shape = (step.batch_size, step.block, *spec.shape)
        is_real = host_dtype(spec.dtype).kind in "fc"
        values.append((rng.normal(size=shape) if is_real else np.zeros(shape)).astype(host_dtype(spec.dtype)))
    masks, state, times = (None,) * len(values), run.initial_state(), []
    for _ in range(_BEFORE + _ROUNDS * _CALLS):
        start = time.perf_counter()
        _, state = run(tuple(values), masks, None, state)
        times.append(time.perf_counter() - start)
    return round(float(np.min(np.median(np.reshape(times[_BEFORE:], (_ROUNDS, _CALLS)), axis=1))) * 1e6, 1)


def _write(path, text):
    """Write a file at once, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    os.replace(file.name, path)


def _is_installed(engine) -> bool:
    return importlib.util.find_spec(ENGINES[engine].package) is not None
