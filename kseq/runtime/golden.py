"""Whether a file gives here what its model gave where it was exported."""

from typing import Any

import numpy as np

from .manifest import Manifest


def golden_error(manifest: Manifest, runner: Any) -> float:
    """The largest difference of what a file gives of its golden data, as a part of the largest finite number there.

    It is infinite where one of two numbers that differ is not finite.

    Args:
        manifest: of the file.
        runner: what runs it.

    Raises:
        ValueError: other shapes, or another mask.
    """
    state, made = runner.state(manifest.initial_state), []
    for inputs, _ in golden_calls(manifest):
        outputs, state = runner(inputs, state)
        made.append(outputs)
    error = 0.0
    for n, (found, wanted) in enumerate(zip(joined(made), manifest.golden_outputs, strict=True)):
        if found.shape != wanted.shape:
            raise ValueError(f"the file gives shape {found.shape} of its golden data; it was {wanted.shape}")
        if wanted.dtype == bool and n >= len(manifest.outputs) and not np.array_equal(found, wanted):
            raise ValueError("the file gives another mask of its golden data than its model gave")
        error = max(error, _difference(found, wanted))
    return error


def _difference(found, wanted):
    """Largest difference of two arrays, as a part of the largest finite number of the second."""
    kind = np.complex128 if wanted.dtype.kind == "c" else np.float64
    found, wanted = found.astype(kind), wanted.astype(kind)
    differ = (found != wanted) & ~(np.isnan(found) & np.isnan(wanted))
    if not (np.isfinite(found[differ]) & np.isfinite(wanted[differ])).all():
        return np.inf
    scale = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)) or 1.0
    return float(np.abs(found[differ] - wanted[differ]).max(initial=0.0)) / scale


def golden_calls(manifest: Manifest) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """The golden stream call by call: what each takes and gives, values and then masks."""
    count = 1 if manifest.mode == "layer" else manifest.golden_inputs[0].shape[1] // manifest.block
    inputs, outputs = (_by_call(arrays, count) for arrays in (manifest.golden_inputs, manifest.golden_outputs))
    return list(zip(inputs, outputs, strict=True))


def _by_call(arrays, count):
    if count == 1:
        return [arrays]
    by_array = [np.split(array, count, axis=1) for array in arrays]
    return [[np.ascontiguousarray(part) for part in row] for row in zip(*by_array, strict=True)]


def joined(calls: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The arrays of calls, which `golden_calls` gives one by one, as one after the other in time."""
    if len(calls) == 1:
        return calls[0]
    return [np.concatenate(arrays, axis=1) for arrays in zip(*calls, strict=True)]
