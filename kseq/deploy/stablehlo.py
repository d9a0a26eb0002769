"""A function in StableHLO: what `jax.export` writes, in a zip file with the manifest beside it."""

import io
import json
import pathlib
import zipfile
from typing import Any

import keras
import numpy as np

from ..hints import exporting
from ..runtime.manifest import MEMBER, Manifest
from ..runtime.runners.stablehlo import PROGRAM
from ..streaming.products import merged
from .measured import save_measured
from .traced import ExportedFunction

# For which machines it is lowered.
_PLATFORMS = ("cpu", "cuda", "tpu")


def write(function: ExportedFunction, manifest: Manifest, target: pathlib.Path, choices: Any) -> Manifest:
    """Write a zip file of `step.jax`, whose weights are constants of it, and the manifest.

    Without kseq: `jax.export.deserialize(bytearray(zipfile.ZipFile(path).read("step.jax"))).call(*tensors)`; what
    tensors these are says `signature.json`, and of what state a stream begins `initial_state.npz`.

    Args:
        function: what is written.
        manifest: what travels with it.
        target: the file.
        choices: the precision: `"bfloat16"` for weights, which are float32 again before they are computed with; with
            the state in inputs.

    Raises:
        ValueError: what jax cannot lower.
    """
    program = _exported(function, choices.precision).serialize()
    state = io.BytesIO()
    leaves = zip(manifest.state, manifest.initial_state, strict=True)
    np.savez(state, **{leaf.tensor: array for leaf, array in leaves})  # type: ignore[arg-type]
    signature = {"takes": function.takes, "gives": function.gives}

    def save(manifest):
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr(PROGRAM, bytes(program))
            archive.writestr(MEMBER, manifest.to_bytes())
            archive.writestr("signature.json", json.dumps({k: [s._asdict() for s in v] for k, v in signature.items()}))
            archive.writestr("initial_state.npz", state.getvalue())

    return save_measured(save, manifest, target)


def _exported(function, precision):
    import jax

    variables, weights = function.layer.variables, _weights(function, precision)

    def call(*tensors):
        given = [w.astype(v.dtype) for v, w in zip(variables, weights, strict=True)]
        with keras.StatelessScope(list(zip(variables, given, strict=True))), exporting(elsewhere=False):
            return function(*tensors)

    known = all(None not in spec.shape for spec in function.takes)
    # What is merged has its weights in float32.
    shaped = merged(call) if known and precision == "float32" else call
    try:
        scope = jax.export.SymbolicScope()
        taken = [jax.ShapeDtypeStruct(_shape(spec.shape, scope), spec.dtype) for spec in function.takes]
        return jax.export.export(jax.jit(shaped), platforms=_PLATFORMS)(*taken)
    except Exception as error:
        hint = "" if known else "; with a length that is known, `length=`, more can be"
        raise ValueError(f"jax cannot lower the function to StableHLO{hint}: {error}") from error


def _shape(shape, scope):
    """A shape with one unknown, the same in all tensors, in the place of lengths."""
    import jax

    if None not in shape:
        return shape
    return jax.export.symbolic_shape(", ".join("t" if n is None else str(n) for n in shape), scope=scope)


def _weights(function, precision):
    import jax.numpy as jnp

    values = [jnp.asarray(variable.value) for variable in function.layer.variables]
    if precision == "bfloat16":
        return [v.astype("bfloat16") if v.dtype == "float32" else v for v in values]
    return values
