"""What else runs a stream's step than what the backend compiles: the step exported into a cache, and run from there."""

import contextlib
import importlib.util
import json
import os
import pathlib
import platform
import sys
import threading
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
from ..runtime.manifest import Manifest
from ..runtime.protocols import Runner
from ..runtime.runners import open_runner
from ..version import __version__
from .compiled import compile_step, freeze
from .engine_checks import PRECISIONS, error_of, is_of_code
from .saving import model_id
from .step import StepFunction


class Engine(NamedTuple):
    """What runs exported steps.

    Attributes:
        package: that it is.
        format, suffix: of the files that it reads.
        writers: packages that write them.
        precisions: by name here that of the format.
    """

    package: str
    format: str
    suffix: str
    writers: tuple[str, ...]
    precisions: dict[str, str]


_PLAIN = {"float32": "float32", "float16": "float16"}
ENGINES = {
    "onnxruntime": Engine("onnxruntime", "onnx", ".onnx", ("torch", "onnx", "onnxscript"), _PLAIN | {"int8": "int8"}),
    "litert": Engine("ai_edge_litert", "litert", ".tflite", ("tensorflow",), _PLAIN | {"int8": "int8_dynamic"}),
}
CHOICES = ("xla", *ENGINES, "auto")
# Rounds of calls that are timed of each engine, and calls before them: a step on torch is a program from its hundredth.
_ROUNDS, _CALLS, _BEFORE = 5, 40, 110


def check_engine(engine: Any, precision: Any) -> tuple[str, str]:
    """Return arguments `engine` and `precision`, the second with what `None` stands for.

    Raises:
        ValueError: others than there are, or a precision that the engine does not have.
    """
    check_choice("engine", engine, CHOICES)
    if precision is None:
        return engine, "float32"
    check_choice("precision", precision, PRECISIONS)
    if engine == "xla" and precision != "float32":
        raise ValueError(
            "the engine 'xla' has the weights in the model's own dtype, with which it is fastest; received "
            f"precision={precision!r}, which {_listed(ENGINES)} have"
        )
    return engine, precision


class ModelEngineStep(EngineStep):
    """An `EngineStep` of a model that is there: what its layers say of a state is known too.

    Args:
        source: what is exported.
        engine: the name of what runs it.

    Attributes:
        error: how far what it gives of the golden data is from the model, as a part of the largest number there.
    """

    step: StepFunction

    def __init__(self, source: "Source", engine: str) -> None:
        self.step, self.compilations = source.step, 0
        manifest, runner, self.error = opened(source, engine, masks=False)

        def more(masks, blocks):
            self.compilations += 1
            return opened(source._replace(blocks=blocks), engine, masks)[:2]

        super().__init__(manifest, runner, more)
        self.is_limited = self.step.is_limited

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
        precision: of the weights.
        blocks: of the step, in one call.
    """

    model: Any
    step: StepFunction
    weights: Any
    dtype: str | None
    context: Any
    options: dict[str, Any]
    precision: str = "float32"
    blocks: int = 1

    def key(self, *more: Any) -> str:
        """A name for what depends on all of this: the same in every process, and on every backend."""
        step, digest = self.step, xxhash.xxh3_128()
        for name, x in sorted(step.context.items()):
            for array in x:
                array = None if array is None else np.ascontiguousarray(keras.ops.convert_to_numpy(array))
                digest.update(name.encode() if array is None else f"{name}{array.shape}{array.dtype}".encode())
                digest.update(b"" if array is None else array.tobytes())
        specs = [[list(spec.shape), spec.dtype] for spec in parts(step.input_spec)]
        made = [step.batch_size, step.block * self.blocks, self.precision, specs, self.options, digest.hexdigest()]
        made += [keras.__version__, __version__, *more]
        return xxhash.xxh3_128_hexdigest(json.dumps([*model_id(step.layer, self.weights), made]).encode())


class Chosen(NamedTuple):
    """What runs a stream.

    Attributes:
        engine: its name.
        step: runs it.
        error: as of `ModelEngineStep`; none of what the backend compiles.
        candidates: of `"auto"` each engine, and the microseconds of its step or why it is none; else nothing.
    """

    engine: str
    step: Any
    error: float
    candidates: dict[str, float | str]


def engine_step(source: Source, engine: str) -> Chosen:
    """The engine that was chosen, and the step that it runs; of `"auto"` the one that is fastest here.

    Raises:
        ImportError: an engine that is not installed.
        OSError: a cache that cannot be written.
        ValueError: a model that it does not run, with the reason.
    """
    engine, candidates = fastest(source) if engine == "auto" else (engine, {})
    if engine == "xla":
        return Chosen(engine, compile_step(source.step, source.weights), 0.0, candidates)
    step = ModelEngineStep(source, engine)
    return Chosen(engine, step, step.error, candidates)


def cache_folder() -> pathlib.Path:
    """Where exported steps are kept: the environment variable `KSEQ_CACHE`, or `kseq` in the user's own folder."""
    given = os.environ.get("KSEQ_CACHE")
    if given:
        return pathlib.Path(given)
    own = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    return pathlib.Path(os.environ.get(own) or pathlib.Path.home() / ".cache") / "kseq"


def opened(source: Source, engine: str, masks: bool) -> tuple[Manifest, Runner, float]:
    """The exported step of a model, what runs it, and how far that is from the model over the golden data.

    It is of the cache, or made anew where that has none, a damaged one, or one of other code of the user's.

    Raises:
        ImportError: an engine that is not installed.
        OSError: a cache that cannot be written.
        ValueError: a model that it does not run, with the reason.
    """
    kind = ENGINES[engine]
    if not _is_installed(engine):
        raise ImportError(f"the engine {engine!r} is not installed: `pip install 'kseq[export]'`")
    path = cache_folder() / f"{source.key(engine, masks)}{kind.suffix}"
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # also what a runtime says of a damaged file
        found = _checked(path, source)
        if is_of_code(found[0], source):
            return found
    with _writable_cache():
        path.parent.mkdir(parents=True, exist_ok=True)
        _export(source._replace(precision=kind.precisions[source.precision]), path, kind.format, masks)
    return _checked(path, source)


def _checked(path, source):
    manifest, runner = open_runner(path)
    return manifest, runner, error_of(manifest, runner, source)


def _export(source, path, format, masks):
    from ..deploy import export

    with _weights(source):
        export(
            source.model,
            path,
            format,
            source.step.batch_size,
            source.step.block * source.blocks,
            source.precision,
            masks=masks,
            dtype=source.dtype,
            context=source.context,
            **source.options,
        )


@contextlib.contextmanager
def _writable_cache():
    """Say which folder it is that cannot be written, and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"steps are exported for engines into the folder {str(cache_folder())!r}, which cannot be written: "
            f"{error}; the environment variable KSEQ_CACHE names another"
        ) from error


@contextlib.contextmanager
def _weights(source):
    """The model with the weights that the stream has, also where it was trained since."""
    layer = source.step.layer
    with _lock:  # another thread would export these weights for its own
        now = freeze(layer)
        if now is source.weights:
            yield
            return
        try:
            _assign(layer, source.weights)
            yield
        finally:
            _assign(layer, now)


_lock = threading.RLock()


def _assign(layer, weights):
    for variable, value in zip(layer.variables, weights.values, strict=True):
        variable.assign(value)


def fastest(source: Source) -> tuple[str, dict[str, float | str]]:
    """The engine that takes least time here, by a measurement that is remembered; one that fails is none.

    Returns:
        It, and of each engine the microseconds of its step, or why it is none.

    Raises:
        ImportError: no engine of the precision is installed.
        OSError: a cache that cannot be written.
        ValueError: no engine of the precision runs the model.
    """
    installed = [name for name in ENGINES if _is_installed(name)]
    names = ["xla", *installed] if source.precision == "float32" else installed
    if not names:
        raise ImportError(
            f"no engine that has weights of {source.precision} is installed, of {_listed(ENGINES)}: "
            "`pip install 'kseq[export]'`"
        )
    place = f"{keras.backend.backend()} {platform.node()}"
    writers = [name for engine in installed for name in ENGINES[engine].writers if importlib.util.find_spec(name)]
    path = cache_folder() / f"{source.key('auto', place, installed, writers)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads(path.read_text())
        if found["engine"] in names:
            return found["engine"], found["microseconds"] | found["failed"]
    times, failed = {}, {}
    for name in names:
        try:
            run = compile_step(source.step, source.weights) if name == "xla" else ModelEngineStep(source, name)
            times[name] = _time(run, source)
        except OSError:
            raise
        except Exception as error:  # of a converter's own classes: what does not export is no candidate
            if name == "xla":
                raise
            failed[name] = f"{type(error).__name__}: {error}"
    if not times:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise ValueError(f"no engine runs the model with weights of {source.precision}: {reasons}")
    engine = min(times, key=lambda name: times[name])
    _write(path, json.dumps({"engine": engine, "microseconds": times, "failed": failed}, indent=1))
    return engine, times | failed


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
    from ..deploy.entry import write_atomically

    with _writable_cache():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda target: target.write_text(text))


def _is_installed(engine) -> bool:
    return importlib.util.find_spec(ENGINES[engine].package) is not None


def _listed(names):
    return " and ".join(names)
