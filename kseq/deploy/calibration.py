"""Calls of a step with values like those to come, from which the ranges of its integers are taken."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..layers.structures import parts
from ..runtime.blocks import Blocks
from ..runtime.ends import Ends
from ..runtime.manifest import Manifest
from ..streaming.compiled import compile_step
from ..streaming.step import StepFunction
from .traced import GOLDEN_CALLS, ExportedFunction


def calls(function: ExportedFunction, manifest: Manifest, calibration: Any) -> list[dict[str, np.ndarray]]:
    """What every call of a stream takes, by name: inputs, masks and the state.

    Args:
        function: the step.
        manifest: of it.
        calibration: chunks as `Stream.push` takes them.

    Raises:
        ValueError: as of `blocks`, or a manifest of whole sequences.
    """
    if manifest.mode != "step":
        raise ValueError("the precision 'int8' is of steps; of whole sequences 'int8_dynamic' is the smallest")
    run, found = compile_step(function.step), []
    state = run.initial_state()
    for values, masks in blocks(function.step, function.masked, calibration):
        given = [*values[: len(function.inputs)], *(masks if function.masked else ()), *run.to_numpy(state)]
        found.append({spec.name: np.asarray(x, spec.dtype) for spec, x in zip(function.takes, given, strict=True)})
        _, state = run(values, masks, None, state)
    return found


def golden_blocks(step: StepFunction, masked: bool, calibration: Any) -> list[tuple[Any, Any]]:
    """Of all calls as many as golden data has, from the first to the last: of other data ranges say nothing."""
    every = list(blocks(step, masked, calibration))
    return [every[n] for n in np.linspace(0, len(every) - 1, min(len(every), GOLDEN_CALLS)).astype(int)]


def blocks(step: StepFunction, masked: bool, calibration: Any) -> Iterator[tuple[Any, Any]]:
    """Values and masks of the calls of a stream, one after the other.

    Args:
        step: what is called.
        masked: whether it takes masks.
        calibration: chunks as `Stream.push` takes them.

    Raises:
        ValueError: no list of chunks, a chunk that does not fit the model, or fewer steps than a call takes.
    """
    if not isinstance(calibration, (list, tuple)) or not calibration:
        raise ValueError(
            "the ranges of 'int8' are taken of data: give `calibration`, a list of chunks as `Stream.push` takes them; "
            f"received {type(calibration).__name__ if calibration is not None else None}"
        )
    dtype = parts(step.input_spec)[0].dtype
    ends = Ends(step.layer, "the model", step.batch_size, dtype, chunk="a chunk of `calibration`")
    cut, there = Blocks(step.batch_size, step.block, [0] * step.layer.num_outputs), False
    for chunk in calibration:
        for values, masks, _ in cut.cut(ends.take(chunk)):
            for start in range(0, values[0].shape[1], step.block):
                part, there = slice(start, start + step.block), True
                v = tuple(x[:, part] for x in values)
                m = tuple(None if mask is None else mask[:, part] for mask in masks)
                if masked:
                    m = tuple(np.ones(v[0].shape[:2], bool) if mask is None else mask for mask in m)
                elif any(mask is not None for mask in m):
                    raise ValueError("the calibration has masks, and the exported step takes none: `masks=True`")
                yield v, m
    if not there:
        raise ValueError(f"`calibration` must have {step.block} steps at least, those of a call; received fewer")
