"""Whether an exported step gives what its model gives."""

import types
import weakref
from typing import Any

import numpy as np

from ..layers.structures import parts
from ..runtime.golden import golden_calls, golden_error
from ..runtime.manifest import Manifest
from .compiled import compile_step
from .shared import fingerprint

#: By precision, how far an engine may be from the model over the golden data, as a part of the largest number there.
PRECISIONS = {"float32": 1e-3, "float16": 1e-2, "int8": 0.25}
# Whose code changes with versions alone.
_KNOWN = ("kseq", "keras", "builtins", "numpy")
_TOLERANCE = 1e-3


def error_of(manifest: Manifest, runner: Any, source: Any) -> float:
    """How far a runner is from what is written of its file's model, as a part of the largest number there.

    Args:
        manifest, runner: of the file.
        source: what it should be of.

    Raises:
        ValueError: a file of something else, or a runner that is too far.
    """
    specs = [(spec.shape, spec.dtype) for spec in parts(source.step.input_spec)][: len(manifest.inputs)]
    found = [(port.shape, port.dtype) for port in manifest.inputs]
    if specs != found:
        raise ValueError(f"an exported step must take inputs of {specs}; received one of {found}")
    most = PRECISIONS[source.precision]
    try:
        error = golden_error(manifest, runner)
    except ValueError as reason:
        raise ValueError(f"the engine does not give what the model gives: {reason}") from reason
    if not error <= most:
        raise ValueError(
            f"the engine does not give what the model gives: with weights of {source.precision} it is off by "
            f"{error:.2g} of the largest output; {most} is allowed"
        )
    return error


def is_of_code(manifest: Manifest, source: Any) -> bool:
    """Whether an exported step is of the code that the model has now.

    What is exported is known by the configuration and the weights of the model, which say nothing of a function or a
    class that was edited since. Where all of these are kseq's or Keras's nothing is computed.

    Args:
        manifest: of what is exported.
        source: what it should be of.
    """
    step = source.step
    if not any(map(_may_change, fingerprint(step.layer))):
        return True
    run, count = compile_step(step, source.weights), len(manifest.inputs)
    beside = (np.zeros((manifest.batch_size, manifest.block), bool),) * step.layer.reads_presence
    state = run.initial_state()
    for inputs, wanted in golden_calls(manifest):
        values = (*inputs[:count], *beside)
        made, state = run(values, (None,) * len(values), None, state)
        for (y, _), expected in zip(made, wanted, strict=False):  # masks come after them
            if y.shape != expected.shape or not np.allclose(y, expected, _TOLERANCE, _TOLERANCE, equal_nan=True):
                return False
    return True


def _may_change(row):
    found = [x() if isinstance(x, weakref.ref) else x for x in row]
    return any(isinstance(x, (type, types.FunctionType)) and x.__module__.split(".")[0] not in _KNOWN for x in found)
