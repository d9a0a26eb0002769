"""A SavedModel, run by tensorflow."""

import importlib
import os
import pathlib
import re
from typing import Any

import numpy as np

from ...annotations import AnyPath
from ..manifest import Manifest

#: The folder within the SavedModel in which the manifest lies.
EXTRA = "assets.extra"
#: The signature that gives the state that a stream begins with.
INITIAL = "initial_state"


def signature_of(manifest: Manifest) -> str:
    """The signature that is a call."""
    return "step" if manifest.mode == "step" else "serving_default"


class SavedModelRunner:
    """A signature of a SavedModel, compiled by XLA when it is opened.

    Args:
        path: the folder.
        manifest: of the folder.

    Raises:
        ImportError: tensorflow is not there.
        ValueError: a damaged folder.
    """

    def __init__(self, path: AnyPath, manifest: Manifest) -> None:
        tf = _tensorflow()
        try:
            _check_operations(path)
            self._model = tf.saved_model.load(os.fspath(path))  # which keeps its variables
            signature = self._model.signatures[signature_of(manifest)]
        except Exception as error:
            raise ValueError(f"{path} is damaged, or other than `kseq.export` writes: {error}") from error
        given, self._made = manifest.takes, len(manifest.gives)
        takes = given + [leaf.tensor for leaf in manifest.state]
        gives = manifest.gives + [leaf.new_tensor for leaf in manifest.state]

        def flat(*tensors):
            found = signature(**dict(zip(takes, tensors, strict=True)))
            return [found[name] for name in gives]

        specs = signature.structured_input_signature[1]
        whole = manifest.mode != "step"
        function = tf.function(
            flat, input_signature=[specs[name] for name in takes], autograph=False, jit_compile=not whole
        ).get_concrete_function()
        # Called with a flat list, past the checks of structures, which take longer than a step.
        self._function, self._call, self._captured = (
            function,
            function.inference_fn.call_preflattened,
            function.captured_inputs,
        )
        self._dtypes, self._constant = [specs[name].dtype for name in takes], tf.constant
        self._given = len(given)
        if not whole:
            first = [np.zeros(specs[name].shape, specs[name].dtype.as_numpy_dtype) for name in given]
            self(first, self.state(manifest.initial_state))  # compiles

    def state(self, leaves: list[np.ndarray]) -> Any:
        """A state of its leaves, which are copied."""
        return [self._constant(x, dtype) for x, dtype in zip(leaves, self._dtypes[self._given :], strict=True)]

    def leaves(self, state: Any) -> list[np.ndarray]:
        """Copies of the leaves of a state."""
        return [np.array(leaf.numpy()) for leaf in state]

    def __call__(self, inputs: list[np.ndarray], state: Any) -> tuple[list[np.ndarray], Any]:
        """One call: values, then masks, and a state; gives the same, of arrays that are the caller's."""
        given = [self._constant(x, dtype) for x, dtype in zip(inputs, self._dtypes, strict=False)]
        found = self._call([*given, *state, *self._captured])
        return [np.array(y.numpy()) for y in found[: self._made]], found[self._made :]


# Operations with effects that a step has, and, by their names, what reaches out of the graph without counting as such.
_EFFECTS = {"ReadVariableOp", "VarHandleOp", "StatefulPartitionedCall", "While", "If", "Case", "Assert"}
_REACHES_OUT = re.compile("File|PyFunc|^Xla|Dataset|Iterator|Debug|Summary|Remote|Custom|Callback")


def _check_operations(path):
    """Refuse what loading a SavedModel, or a call of it, would run besides computing: a file is data."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    op_def_registry: Any = importlib.import_module("tensorflow.python.framework.op_def_registry")

    saved = SavedModel.FromString((pathlib.Path(path) / "saved_model.pb").read_bytes())
    [graph] = saved.meta_graphs
    functions = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    # Those that the loader, and who calls it, can name; saving and restoring as a graph has it is never called.
    waiting, seen = list(graph.object_graph_def.concrete_functions), set()
    if not waiting:
        raise ValueError("it has no functions")
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in functions[name]:
            lists = [value.list.func for value in node.attr.values()]
            waiting += [value.func.name for value in node.attr.values() if value.HasField("func")]
            waiting += [function.name for row in lists for function in row]
            if node.op in functions:
                waiting.append(node.op)
                continue
            known = op_def_registry.get(node.op)
            if known is None or _REACHES_OUT.search(node.op) or (known.is_stateful and node.op not in _EFFECTS):
                raise ValueError(f"it has the operation {node.op}, which no model of `kseq.export` has")


def _tensorflow():
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError("a SavedModel is run by tensorflow: `pip install 'kseq[tensorflow]'`") from error
    return tf
