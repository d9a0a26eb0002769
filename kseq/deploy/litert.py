"""A step in LiteRT's format: a function of tensorflow, converted to built-in operations, and the manifest behind it."""

import contextlib
import itertools
import pathlib
import re
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from ..hints import exporting
from ..runtime.manifest import MEMBER, Manifest
from ..runtime.runners.litert import READ, STEP, WRITE
from ..runtime.seal import checksum
from .calibration import calls
from .equal_leaves import Leaf, equal_leaves
from .litert_precision import converted
from .measured import save_measured
from .quiet import quiet
from .traced import ExportedFunction

_DTYPES = ("float32", "bool", "int8", "uint8", "int16", "int32", "int64")
# What LiteRT's processor kernels do not compute with, but for a cast here and there.
_REFUSED = ("float64", "float16", "bfloat16", "half", "complex64", "complex128")
_OTHER_POLICY = "export a model of the dtype policy 'float32', with `precision=` for smaller weights"


def write(function: ExportedFunction, manifest: Manifest, target: pathlib.Path, choices: Any) -> Manifest:
    """Write a .tflite file, of built-in operations alone, and give the manifest that is in it.

    Its signature is `step`, with the manifest's names. Where it keeps the state itself there are two more, whose
    tensors have the names of the leaves: `step_state` gives it, `step_state_write` sets it; it begins with the initial
    one.

    Args:
        function: what is written.
        manifest: what travels with it, in a zip file behind the model, as LiteRT's metadata does.
        target: the file.
        choices: the precision: `"float32"`, `"float16"` for weights, `"int8_dynamic"` for weights whose products are of
            integers, or `"int8"`, for these with ranges from `calibration`; and the state, in `"inputs"` or
            `"variables"`.

    Raises:
        ImportError: tensorflow is not there.
        ValueError: what LiteRT has no numbers or operations for, or calibration data that does not fit.
    """
    tf = _tensorflow()
    keeps_state = _keeps_state(manifest, choices)
    _check_dtypes(function)
    samples = calls(function, manifest, choices.calibration) if choices.precision == "int8" else ()
    with tempfile.TemporaryDirectory() as folder:
        signatures = _save(tf, function, manifest, folder, keeps_state)
        with quiet() as said:
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=signatures)
            converter.experimental_enable_resource_variables = keeps_state
            try:
                content = converted(tf, converter, choices.precision, [(STEP, sample) for sample in samples])
            except Exception as error:  # of several classes of its own
                raise ValueError(_reason(str(error), said())) from error

    def save(manifest):
        target.write_bytes(content)
        with zipfile.ZipFile(target, "a") as archive:
            archive.comment = checksum(target, len(content))
            archive.writestr(MEMBER, manifest.to_bytes())

    return save_measured(save, manifest, target)


def _tensorflow():
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError("LiteRT's files are written by tensorflow: `pip install 'kseq[export]'`") from error
    return tf


def _keeps_state(manifest, choices):
    if choices.state not in ("inputs", "variables"):
        raise ValueError(f"`state` must be 'inputs' or 'variables'; received {choices.state!r}")
    if choices.state == "inputs" or not manifest.state:
        return False
    if choices.precision == "int8":
        raise ValueError("a state in variables is not of precision 'int8': use state='inputs', or 'int8_dynamic'")
    if empty := [leaf.name for leaf in manifest.state if 0 in leaf.shape]:
        raise ValueError(f"LiteRT has no variables without elements: {', '.join(empty)}; use state='inputs'")
    return True


def _check_dtypes(function):
    for spec in [*function.takes, *function.gives]:
        if spec.dtype not in _DTYPES:
            raise ValueError(
                f"LiteRT holds {', '.join(_DTYPES)}; received the tensor {spec.name!r} of {spec.dtype}: "
                + (_NO_COMPLEX if "complex" in spec.dtype else _OTHER_POLICY)
            )


_NO_COMPLEX = 'let the model take and give real parts, as `mode="real_imag"` of `kseq.STFT` does'


def _save(tf, function, manifest, folder, keeps_state):
    """Write a SavedModel of the function, the weights constants in it, and give the names of its signatures."""
    weights = _ConstantWeights(tf, function.layer.variables)
    same: dict[str, str] = _equal_leaves(tf, function, manifest, weights)
    module = tf.Module()
    leaves = manifest.state if keeps_state else ()
    initial = zip(leaves, manifest.initial_state, strict=False)
    module.state = [tf.Variable(np.asarray(x, leaf.dtype), name=leaf.tensor) for leaf, x in initial]
    state = dict(zip((leaf.tensor for leaf in leaves), module.state, strict=True))
    new = {leaf.new_tensor: variable for leaf, variable in zip(leaves, module.state, strict=True)}
    after = {leaf.tensor: leaf.new_tensor for leaf in manifest.state}

    def given(tensors, name: str):
        name = same.get(name, name)
        return state[name].read_value() if name in state else tensors[name]

    def call(**tensors):
        with weights.constant():
            taken = [given(tensors, spec.name) for spec in function.takes]
            found = dict(zip((spec.name for spec in function.gives), function(*taken), strict=True))
        found |= {after[name]: found[after[first]] for name, first in same.items()}
        for name, variable in new.items():
            variable.assign(found[name])
        # A name of its own for each: a tensor that is both an output and a leaf of the state is given twice.
        return {name: tf.identity(x) for name, x in found.items() if name not in new}

    def read():
        return {name: tf.identity(variable.read_value()) for name, variable in state.items()}

    def write(**tensors):
        for name, variable in state.items():
            variable.assign(tensors[name])
        return {"written": tf.constant(True)}

    specs = {spec.name: tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in function.takes}
    taken = {name: spec for name, spec in specs.items() if name not in state}
    functions = {STEP: _traced(tf, call, taken)}
    _check_operations(functions[STEP].graph)
    if keeps_state:
        functions[READ] = _traced(tf, read, {})
        functions[WRITE] = _traced(tf, write, {name: specs[name] for name in state})
    module.functions = list(functions.values())
    tf.saved_model.save(module, folder, signatures=functions)
    return list(functions)


class _ConstantWeights:
    """The weights of a layer, for functions of tensorflow that are converted."""

    def __init__(self, tf: Any, variables: list[Any]) -> None:
        self._constant, self._variables = tf.constant, variables
        self._arrays = [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in variables]

    @contextlib.contextmanager
    def constant(self) -> Iterator[None]:
        """What is traced meanwhile has them as constants, and operations that LiteRT has."""
        values = map(self._constant, self._arrays)
        with keras.StatelessScope(list(zip(self._variables, values, strict=True))), exporting(scatters=False):
            yield


def _equal_leaves(tf, function, manifest, weights):
    """The names of leaves that count, each with that of the first one that it equals, whatever inputs and masks are.

    Where a call takes no masks there may be some in another file, whose state this one goes on from.
    """
    counting = [not leaf.dtype.startswith("float") for leaf in manifest.state]
    if sum(counting) < 2:
        return {}
    leaves = []

    def call(values, masks, old):
        with weights.constant():
            new = [tf.identity(x) for x in function.advance(values, masks, old)[1]]
        names = [leaf.tensor for leaf in manifest.state]
        leaves.extend(itertools.compress(map(Leaf, names, manifest.initial_state, old, new), counting))
        return new

    specs = [[tf.TensorSpec(spec.shape, spec.dtype) for spec in some] for some in _parts_of(function, manifest)]
    masks = [tf.TensorSpec(specs[0][0].shape[:2], tf.bool)] * function.step.layer.num_inputs
    graph = tf.function(call, autograph=False).get_concrete_function(specs[0], masks, specs[1]).graph
    return equal_leaves(graph, leaves)


def _parts_of(function, manifest):
    """Of the tensors that a function takes the values, and the leaves of the state."""
    return function.takes[: len(manifest.inputs)], function.takes[len(function.takes) - len(manifest.state) :]


def _traced(tf, function, specs):
    return tf.function(function, autograph=False).get_concrete_function(**specs)


def _check_operations(graph):
    """Refuse numbers that LiteRT has no kernels for, where they are made of what a call takes.

    Raises:
        ValueError: the first operation that gives such numbers.
    """
    depends = set()
    for operation in graph.get_operations():
        if operation.type == "Placeholder" or any(x.op.name in depends for x in operation.inputs):
            depends.add(operation.name)
            for dtype in (x.dtype.name for x in operation.outputs):
                if dtype in _REFUSED:
                    advice = _NO_COMPLEX if "complex" in dtype else _OTHER_POLICY
                    raise ValueError(
                        f"LiteRT has no numbers of {dtype}, which {_place(operation.name)} gives ({operation.type}): "
                        f"{advice}"
                    )


def _reason(error, said):
    """Why the converter gave up: the operations that LiteRT does not have, with their places, or what it says."""
    text = f"{said}\n{error}"
    found = re.findall(r"""loc\((?:callsite\()?fused\["\w+:", "([^"@]+)[^\n]*?'(tf\.\w+)' op is neither""", text)
    if found:
        listed = ", ".join(dict.fromkeys(f"{operation} in {_place(name)}" for name, operation in found))
        return f"LiteRT has no built-in operation for {listed}"
    lines = [line for line in text.splitlines() if "error" in line.lower()] or text.splitlines()
    return f"LiteRT cannot hold the step: {' '.join(dict.fromkeys(lines))[:2000]}"


def _place(name):
    """An operation by the layers that it is in."""
    *layers, operation = name.split("/")
    return f"the layer {'/'.join(layers)!r}" if layers else repr(operation)
