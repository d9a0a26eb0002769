"""Calls of a step with values like those to come, from which the ranges of its integers are taken."""

from typing import Any

import numpy as np

from ..runtime.blocks import Blocks
from ..runtime.ends import Ends
from ..runtime.manifest import Manifest
from ..streaming.compiled import compile_step
from .traced import ExportedFunction


def calls(function: ExportedFunction, manifest: Manifest, calibration: Any) -> list[dict[str, np.ndarray]]:
    """What every call of a stream takes, by name: inputs, masks and the state.

    Args:
        function: the step.
        manifest: of it.
        calibration: chunks as `Stream.push` takes them.

    Raises:
        TypeError: no list of chunks.
        ValueError: none, a chunk that does not fit the model, or fewer steps than a call takes.
    """
    if manifest.mode != "step":
        raise ValueError("the precision 'int8' is of steps; of whole sequences 'int8_dynamic' is the smallest")
    if not isinstance(calibration, (list, tuple)) or not calibration:
        raise ValueError(
            "the ranges of 'int8' are taken of data: give `calibration`, a list of chunks as `Stream.push` takes them; "
            f"received {type(calibration).__name__ if calibration is not None else None}"
        )
    step = function.step
    ends = Ends(step.layer, "the model", step.batch_size, manifest.inputs[0].dtype)
    blocks = Blocks(step.batch_size, step.block, [0] * step.layer.num_outputs)
    run, found = compile_step(step), []
    state = run.initial_state()
    for chunk in calibration:
        for values, masks, _ in blocks.cut(ends.take(chunk)):
            for start in range(0, values[0].shape[1], step.block):
                part = slice(start, start + step.block)
                v = tuple(x[:, part] for x in values)
                m = tuple(None if mask is None else mask[:, part] for mask in masks)
                if function.masked:
                    m = tuple(np.ones(v[0].shape[:2], bool) if mask is None else mask for mask in m)
                elif any(mask is not None for mask in m):
                    raise ValueError("the calibration has masks, and the exported step takes none: `masks=True`")
                found.append(_named(function, v, m, run.to_numpy(state)))
                _, state = run(v, m, None, state)
    if not found:
        raise ValueError(f"`calibration` must have {step.block} steps at least, those of a call; received fewer")
    return found


def _named(function, values, masks, state):
    given = [*values[: len(function.inputs)], *(masks if function.masked else ()), *state]
    return {spec.name: np.asarray(x, spec.dtype) for spec, x in zip(function.takes, given, strict=True)}
