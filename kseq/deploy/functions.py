"""The function that a manifest describes, of a model that was loaded elsewhere."""

from typing import Any

from ..runtime.golden import golden_calls
from ..runtime.manifest import Manifest
from ..sequence import SequenceSpec
from ..streaming import presence
from ..streaming.adapters import StreamOptions
from ..streaming.graph import as_layer
from ..streaming.step import StepFunction
from .traced import ExportedFunction
from .whole import WholeFunction


def function_of(model: Any, manifest: Manifest) -> ExportedFunction | WholeFunction:
    """The function of a model that a manifest was made for, in another process or on another backend.

    Raises:
        ValueError: a model that is another than that of the manifest.
    """
    made = _whole(model, manifest) if manifest.mode == "layer" else _step(model, manifest)
    found = {name: getattr(made, name) for name in ("inputs", "outputs", "state")}
    for name, value in found.items():
        wanted = getattr(manifest, name)
        if value != wanted:
            raise ValueError(
                f"the model that was loaded to be written has other {name} than the one that is exported: "
                f"{value} in the place of {wanted}"
            )
    return made


def _whole(model, manifest):
    dtypes = {port.dtype for port in manifest.inputs}  # one where it was given, or else those of a Keras model
    return WholeFunction(
        model,
        manifest.batch_size,
        manifest.block or None,
        manifest.is_masked,
        dtype=dtypes.pop() if len(dtypes) == 1 else None,
        context=manifest.context or None,
        options=StreamOptions(**manifest.options),
        golden=_golden(manifest),
    )


def _step(model, manifest):
    layer = as_layer(model, StreamOptions(**manifest.options))
    specs = tuple(SequenceSpec(port.shape, port.dtype) for port in manifest.inputs)
    specs += (presence.SPEC,) * layer.reads_presence
    spec = specs[0] if len(specs) == 1 else specs
    step = StepFunction(layer, manifest.batch_size, spec, block=manifest.block, context=manifest.context or None)
    if step.order != manifest.order:
        raise ValueError("the model that was loaded to be written makes its state in another order")
    return ExportedFunction(step, manifest.is_masked, _golden(manifest))


def _golden(manifest):
    """The golden stream of a manifest, as the functions have it."""
    return [(inputs, manifest.pairs(outputs)) for inputs, outputs in golden_calls(manifest)]
