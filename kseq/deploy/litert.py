"""A step in LiteRT's format: a function of tensorflow, converted to built-in operations, and the manifest behind it."""

import contextlib
import pathlib
import re
import tempfile
import zipfile
from typing import Any

import keras
import numpy as np

from ..hints import exporting
from ..runtime.manifest import MEMBER, Manifest
from .calibration import calls
from .quiet import quiet_stderr
from .traced import ExportedFunction

#: The signature of a file that is a call.
SIGNATURE = "step"
_DTYPES = ("float32", "bool", "int8", "uint8", "int16", "int32", "int64")


def write(function: ExportedFunction, manifest: Manifest, target: pathlib.Path, choices: Any) -> None:
    """Write a .tflite file.

    Args:
        function: what is written.
        manifest: what travels with it, in a zip file behind the model, as LiteRT's metadata does.
        target: the file.
        choices: the precision: `"float32"`, `"float16"` for weights, `"int8_dynamic"` for weights whose products are of
            integers, or `"int8"`, for all of it, with `calibration`.

    Raises:
        ImportError: tensorflow is not there.
        ValueError: what LiteRT has no numbers or operations for, or calibration data that does not fit.
    """
    tf = _tensorflow()
    check_dtypes(function)
    samples = calls(function, choices.calibration) if choices.precision == "int8" else None
    with tempfile.TemporaryDirectory() as folder, quiet_stderr() as noise:
        try:
            _save(tf, function, folder)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
            _set_precision(tf, converter, choices.precision, samples)
            content = converter.convert()
        except Exception as error:
            raise ValueError(_reason(error, noise())) from error
    target.write_bytes(content)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(MEMBER, manifest.to_bytes())


def check_dtypes(function: ExportedFunction) -> None:
    """Refuse numbers that LiteRT does not compute with.

    Raises:
        ValueError: a tensor of such a dtype, or a layer that computes in one.
    """
    for spec in [*function.takes, *function.gives]:
        if spec.dtype not in _DTYPES:
            raise ValueError(
                f"LiteRT holds {', '.join(_DTYPES)}; received the tensor {spec.name!r} of {spec.dtype}: export a "
                "model of the dtype policy 'float32', with `precision=` for smaller weights"
            )


def _layers(layer):
    return [layer, *getattr(layer, "_flatten_layers", list)()]


def _tensorflow():
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError("LiteRT's files are written by tensorflow: `pip install 'kseq[export]'`") from error
    return tf


def _save(tf, function, folder):
    """Write a SavedModel whose only signature is the function, the weights constants in it."""
    variables = function.layer.variables
    weights = [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in variables]

    def call(**tensors):
        given = [tensors[spec.name] for spec in function.takes]
        constants = [tf.constant(weight) for weight in weights]
        with keras.StatelessScope(list(zip(variables, constants, strict=True))), exporting():
            found = function(*given)
        # A name of its own for each: a tensor that is both an output and a leaf of the state is given twice.
        return {spec.name: tf.identity(x) for spec, x in zip(function.gives, found, strict=True)}

    signature = {spec.name: tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in function.takes}
    concrete = tf.function(call, autograph=False).get_concrete_function(**signature)
    tf.saved_model.save(tf.Module(), folder, signatures={SIGNATURE: concrete})


def _set_precision(tf, converter, precision, samples):
    if precision == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: ((SIGNATURE, sample) for sample in samples)


def _reason(error, noise):
    return f"LiteRT cannot hold the step: {error}\n{noise}"
