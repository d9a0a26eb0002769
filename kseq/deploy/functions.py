"""The function that a manifest describes, of a model that was loaded elsewhere."""

from typing import Any

import numpy as np

from ..runtime.manifest import Manifest
from ..sequence import Sequence, SequenceSpec
from ..streaming import presence
from ..streaming.adapters import StreamOptions
from ..streaming.graph import as_layer
from ..streaming.step import StepFunction
from .traced import ExportedFunction


def function_of(model: Any, manifest: Manifest) -> ExportedFunction:
    """The function of a model that a manifest was made for, in another process or on another backend.

    Raises:
        ValueError: a model that is another than that of the manifest.
    """
    layer = as_layer(model, StreamOptions(**manifest.options))
    specs = tuple(SequenceSpec(port.shape, port.dtype) for port in manifest.inputs)
    specs += (presence.SPEC,) * layer.reads_presence
    context = {name: Sequence(*x) for name, x in manifest.context.items()} or None
    step = StepFunction(
        layer, manifest.batch_size, specs[0] if len(specs) == 1 else specs, block=manifest.block, context=context
    )
    function = ExportedFunction(step, manifest.is_masked, golden_calls(manifest))
    check_same(function, manifest)
    return function


def golden_calls(manifest: Manifest) -> list[Any]:
    """The golden stream of a manifest, call by call, as `ExportedFunction.golden` has it."""
    count = manifest.golden_inputs[0].shape[1] // manifest.block
    inputs = [np.split(array, count, axis=1) for array in manifest.golden_inputs]
    outputs = [np.split(array, count, axis=1) for array in manifest.golden_outputs]
    masks = iter(outputs[len(manifest.outputs) :])
    pairs = [
        (values, next(masks) if port.mask_tensor else [None] * count)
        for port, values in zip(manifest.outputs, outputs, strict=False)
    ]
    return [([array[n] for array in inputs], [(y[n], m[n]) for y, m in pairs]) for n in range(count)]


def check_same(function: ExportedFunction, manifest: Manifest) -> None:
    """Refuse a function that is not the one of a manifest.

    Raises:
        ValueError: other inputs, outputs or state, or another order of it.
    """
    step = function.step
    found = {"inputs": function.inputs, "outputs": function.outputs, "state": function.state, "order": step.order}
    for name, value in found.items():
        wanted = getattr(manifest, name)
        if value != wanted:
            raise ValueError(
                f"the model that was loaded to be written has other {name} than the one that is exported: "
                f"{value} in the place of {wanted}"
            )
