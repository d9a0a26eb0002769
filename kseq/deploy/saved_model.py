"""A function as tensorflow's SavedModel, with a signature for the step and one for the state that it begins with."""

import pathlib
from typing import Any

import keras
import numpy as np

from ..runtime.manifest import MEMBER, Manifest
from ..runtime.runners.saved_model import EXTRA, INITIAL, signature_of
from ..runtime.seal import CHECKSUM, checksum
from .traced import ExportedFunction


def write(function: ExportedFunction, manifest: Manifest, target: pathlib.Path, choices: Any) -> Manifest:
    """Write a folder with a SavedModel: weights are its variables, tensors have the manifest's names.

    Its signatures are `step`, and `initial_state` where there is a state; of whole sequences it is `serving_default`.
    The manifest lies in `assets.extra`.

    Args:
        function: what is written.
        manifest: what travels with it.
        target: the folder.
        choices: of the export; there are none here.

    Raises:
        ValueError: what tensorflow cannot trace.
    """
    import tensorflow as tf

    module: Any = tf.Module()
    variables = function.layer.variables
    module.weights = [tf.Variable(tf.constant(np.asarray(keras.ops.convert_to_numpy(v)), v.dtype)) for v in variables]

    def call(**tensors):
        values = [tf.convert_to_tensor(weight) for weight in module.weights]
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            found = function(*[tensors[spec.name] for spec in function.takes])
        # Each by its own name: a tensor may be given twice.
        return {spec.name: tf.identity(x) for spec, x in zip(function.gives, found, strict=True)}

    def initial_state():
        leaves = zip(manifest.state, manifest.initial_state, strict=True)
        return {leaf.tensor: tf.constant(array, leaf.dtype) for leaf, array in leaves}

    taken = {spec.name: tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in function.takes}
    try:
        traced = tf.function(call, autograph=False).get_concrete_function(**taken)
    except Exception as error:
        raise ValueError(f"tensorflow cannot trace the function: {error}") from error
    signatures = {signature_of(manifest): traced}
    if manifest.state:
        signatures[INITIAL] = tf.function(initial_state, autograph=False).get_concrete_function()
    tf.saved_model.save(module, str(target), signatures=signatures)
    (target / EXTRA).mkdir(exist_ok=True)
    (target / EXTRA / MEMBER).write_bytes(manifest.to_bytes())
    (target / EXTRA / CHECKSUM).write_bytes(checksum(target / "saved_model.pb"))
    return manifest
