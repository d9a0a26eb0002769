"""`manifest_of`: what travels with an exported function."""

from typing import Any

import numpy as np
from keras import ops

from ..layers.base import SequenceLayer
from ..runtime.ends import listed
from ..runtime.golden import joined
from ..runtime.manifest import Allowance, Manifest
from ..streaming.compiled import freeze
from ..streaming.context import in_numpy
from ..streaming.saving import model_id, seeds_of
from ..version import __version__
from .traced import ExportedFunction
from .whole import WholeFunction


def manifest_of(
    function: ExportedFunction | WholeFunction, format: str, precision: str, options: dict[str, Any]
) -> Manifest:
    """The manifest of a function: what it takes and gives, and what it gave of its golden data.

    Args:
        function: a step, or whole sequences.
        format, precision: in which it is written.
        options: `max_length` and `window`, with which it was made.
    """
    outputs = [[*[y for y, _ in made], *[m for _, m in made if m is not None]] for _, made in function.golden]
    return Manifest(
        format=format,
        precision=precision,
        inputs=function.inputs,
        outputs=function.outputs,
        compute_dtype=function.layer.compute_dtype,
        options=options,
        kseq_version=__version__,
        golden_inputs=joined([inputs for inputs, _ in function.golden]),
        golden_outputs=joined(outputs),
        **(_of_step(function) if isinstance(function, ExportedFunction) else _of_whole(function)),
    )


def _of_step(function) -> dict[str, Any]:
    step, layer, weights = function.step, function.layer, freeze(function.layer)
    state = step.initial_state()
    return {
        "mode": "step",
        "batch_size": step.batch_size,
        "block": step.block,
        "state": function.state,
        "order": step.order,
        "presence_tensor": function.presence_tensor,
        "input_names": tuple(getattr(layer, "input_names", ())),
        "input_structure": getattr(layer, "input_structure", listed(layer.num_inputs)),
        "output_structure": getattr(layer, "output_structure", listed(layer.num_outputs)),
        "timings": tuple(layer.timings),
        "allowances": tuple(map(_allowance, step.limits(state))),
        "model": model_id(layer, weights)._asdict(),
        "initial_state": state,
        "seeds": seeds_of(layer, weights, {}),
        "context": in_numpy(step.context),
    }


def _of_whole(function) -> dict[str, Any]:
    layer = function.layer
    return {
        "mode": "layer",
        "batch_size": function.batch_size,
        "block": function.length or 0,
        "input_names": function.input_names,
        "input_structure": function.input_structure,
        "output_structure": function.output_structure,
        "timings": tuple(layer.timings) if isinstance(layer, SequenceLayer) else (),
        "context": in_numpy(function.context),
    }


def _allowance(limit):
    steps = np.asarray(ops.convert_to_numpy(limit.steps))
    return Allowance(limit.layer, tuple(steps.tolist()), limit.advice, limit.counts_valid)
