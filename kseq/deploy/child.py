"""The same export in a process of the backend that a format needs, to which the model goes as data."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from ..dtypes import is_64_bit
from ..layers.base import SequenceLayer
from ..runtime import packed
from ..runtime.manifest import Manifest
from ..sequence import Sequence
from .custom import IN_CHILD, main_module, registered

JOB = packed.ByteFormat(b"kseq-export-job\n", 1, "job of an export")
# In the folder of a job: what is asked, the model of Keras that it is about, and what became of it.
ASKED, MODEL, ANSWER = "job", "model.keras", "answer"
# Errors that are passed on as what they are; others are RuntimeErrors.
ERRORS: dict[str, type[Exception]] = {e.__name__: e for e in (ValueError, TypeError, ImportError, OSError)}

_PATIENCE = 5  # seconds that a process has to end when it is told to
_LINES = 12  # of what a process has said before it died, that an error has


def write(model: Any, manifest: Manifest, target: pathlib.Path, choices: Any) -> Manifest:
    """Let a process of the backend that writes a format write a file of a model, and give the manifest that is in it.

    Args:
        model: a Keras model, which goes there as a `.keras` file, or a kseq layer, as its configuration and variables.
        manifest: what is to be written; what the process has loaded must be what it says.
        target: the file, or folder.
        choices: of the export.

    Raises:
        ImportError: the backend is not installed, or what the writer there needs.
        ValueError: what the writer there refuses, or a model that cannot be loaded there, with what to do.
        RuntimeError: the process ended, with the last that it said.
    """
    from .entry import FORMATS

    backend = FORMATS[manifest.format].backend
    check_installed(backend, manifest.format)
    with tempfile.TemporaryDirectory(prefix="job-", dir=target.parent) as name, _progress(backend) as tell:
        folder = pathlib.Path(name)
        tell("saving the model")
        (folder / ASKED).write_bytes(_job(model, manifest, target, choices, folder))
        return dataclasses.replace(manifest, **_run(folder, backend, manifest, tell))


def check_installed(backend: str, format: str) -> None:
    """Refuse a format whose backend is not there.

    Raises:
        ImportError: with the extra that installs it.
    """
    if importlib.util.find_spec(backend) is None:
        raise ImportError(
            f"the format {format!r} is written by {backend}, which is not installed: `pip install 'kseq[export]'`"
        )


def _job(model, manifest, target, choices, folder):
    """All that the process is told, as bytes; a Keras model lies beside it."""
    arrays: dict[str, Any] = {"manifest": np.frombuffer(manifest.to_bytes(), np.uint8)}
    config = None
    if isinstance(model, SequenceLayer):
        config = keras.saving.serialize_keras_object(model)
        arrays |= {f"variables/{n}": _as_numpy(v) for n, v in enumerate(model.variables)}
    else:
        model.save(folder / MODEL)
    header = {
        "target": str(target),
        "layer": config,
        "choices": {**choices._asdict(), "calibration": _flat(choices.calibration, arrays)},
        "keras": {
            "floatx": keras.config.floatx(),
            "epsilon": keras.config.epsilon(),
            "image_data_format": keras.config.image_data_format(),
            "dtype_policy": keras.config.dtype_policy().name,
        },
        "main": main_module(),
        "argv": sys.argv,
        "objects": registered(),
    }
    try:
        return packed.pack(JOB, header, arrays)
    except TypeError as error:
        raise ValueError(f"the configuration of {model.name!r} cannot be written as JSON: {error}") from error


def _as_numpy(variable):
    array = np.asarray(ops.convert_to_numpy(variable))
    return array.astype(packed.numpy_dtype(keras.backend.standardize_dtype(variable.dtype)))


def _flat(x, arrays):
    """A tree of chunks as what JSON can say, its arrays put among others."""
    if isinstance(x, Sequence):
        return {"sequence": [_flat(part, arrays) for part in x]}
    if isinstance(x, dict):
        return {"dict": {name: _flat(part, arrays) for name, part in x.items()}}
    if isinstance(x, (list, tuple)):
        return {"list": [_flat(part, arrays) for part in x]}
    if x is None:
        return None
    name = f"calibration/{len(arrays)}"
    arrays[name] = np.asarray(x)
    return {"array": name}


def unflat(x: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The tree of chunks that a job holds."""
    if x is None:
        return None
    [(kind, found)] = x.items()
    if kind == "array":
        return arrays[found]
    if kind == "dict":
        return {name: unflat(part, arrays) for name, part in found.items()}
    parts = [unflat(part, arrays) for part in found]
    return Sequence(*parts) if kind == "sequence" else parts


def _run(folder, backend, manifest, tell):
    """Run the process to its end, for what it says of the file, and raise what it raised.

    If this is broken off it ends too.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    environment = {**os.environ, "KERAS_BACKEND": backend, IN_CHILD: manifest.format, "PYTHONPATH": path}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3")}
    if backend == "jax" and any(is_64_bit(tensor.dtype) for tensor in (*manifest.inputs, *manifest.state)):
        environment["JAX_ENABLE_X64"] = "1"
    with open(folder / "said", "w+b") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "kseq.deploy.child_main", str(folder)],
            stdin=subprocess.PIPE,  # closed when this process ends, whatever ends it
            stdout=subprocess.PIPE,
            stderr=said,
            env=environment,
            text=True,
        )
        with _ended_with(process):
            assert process.stdout is not None
            for line in process.stdout:  # the stages
                tell(line.strip())
            code = process.wait()
        said.seek(0)
        lines = said.read().decode(errors="replace").splitlines()
    answer = _answer(folder / ANSWER)
    if answer is None:
        last = "\n".join(lines[-_LINES:])
        raise RuntimeError(f"the process that writes {manifest.format} by {backend} ended with {code}:\n{last}")
    if "error" in answer:
        kind, message = answer["error"]
        raise ERRORS.get(kind, RuntimeError)(message)
    return answer


def _answer(path):
    """What became of a job: what the manifest says of the file, the kind and the text of an `error`, or `None`."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _ended_with(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process where what waits for it is broken off."""
    try:
        yield
    except BaseException:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


@contextlib.contextmanager
def _progress(backend: str) -> Iterator[Callable[[str], None]]:
    """A function that shows, on a terminal, what is done."""
    if not sys.stderr.isatty():
        yield lambda stage: None
        return
    from rich.console import Console

    with Console(stderr=True).status(f"exporting by {backend}") as status:
        yield lambda stage: status.update(f"exporting by {backend}: {stage}")
