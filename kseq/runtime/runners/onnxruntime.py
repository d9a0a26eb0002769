"""Runs an exported model in onnxruntime."""

import base64
import os
from typing import Any, NamedTuple

import numpy as np

from ...dtypes import numpy_dtype
from ..manifest import MEMBER, Manifest

# The property that names the leaves of the state which one array may be, before a call and after it.
_IN_PLACE = "kseq.in_place"


class OnnxState(NamedTuple):
    """A state in arrays that onnxruntime reads and writes, and two sets of them: a call reads one and writes the other.

    Attributes:
        inputs, outputs: arrays of a call beside the state.
        leaves, others: the state, and where the next one will be. A leaf of both is written where it is.
        binding, back: calls from the one to the other, and back.
    """

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    leaves: list[np.ndarray]
    others: list[np.ndarray]
    binding: Any
    back: Any


class OnnxRunner:
    """A model in onnxruntime, in one thread.

    A call takes the memory of the state that it is given, which cannot be used again.

    Args:
        path: of an .onnx file that `kseq.export` wrote.

    Attributes:
        manifest: what travels with it.

    Raises:
        ImportError: onnxruntime is not there.
        ValueError: a file that is damaged, or that something else wrote.
    """

    manifest: Manifest

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("an .onnx file runs in onnxruntime: `pip install onnxruntime`") from error
        path, options = os.fspath(path), onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        for pool in ("intra_op", "inter_op"):
            options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of its own classes
            raise ValueError(f"{path} is no file that onnxruntime runs: {error}") from error
        properties = self._session.get_modelmeta().custom_metadata_map
        if MEMBER not in properties:
            raise ValueError(f"{path} is a model of ONNX that `kseq.export` did not write")
        self.manifest = manifest = Manifest.from_bytes(base64.b64decode(properties[MEMBER]))
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy
        in_place = set(filter(None, properties.get(_IN_PLACE, "").split(",")))
        self._in_place = [leaf.tensor in in_place for leaf in manifest.state]
        given, made = self._session.get_inputs(), self._session.get_outputs()
        self._takes, self._gives = [x.name for x in given], [y.name for y in made]
        count, outputs = len(manifest.takes), len(manifest.gives)
        takes = [*manifest.takes, *[leaf.tensor for leaf in manifest.state]]
        gives = [*manifest.gives, *[leaf.new_tensor for leaf in manifest.state]]
        if (takes, gives) != (self._takes, self._gives):
            raise ValueError(f"{path} has other tensors than its manifest says")
        self._inputs, self._outputs = (
            [(tuple(x.shape), _KINDS[x.type]) for x in ends] for ends in (given[:count], made[:outputs])
        )

    def state(self, leaves: list[np.ndarray]) -> Any:
        """A state of leaves, which are copied; of a model of whole sequences there are none."""
        manifest = self.manifest
        if manifest.mode == "layer":
            return None
        kinds = [numpy_dtype(leaf.dtype) for leaf in manifest.state]
        leaves = [np.array(x, kind, order="C") for x, kind in zip(leaves, kinds, strict=True)]
        # All is written once: memory that was never used costs its first call much.
        others = [x if stays else x.copy() for x, stays in zip(leaves, self._in_place, strict=True)]
        inputs, outputs = ([np.full(shape, 0, kind) for shape, kind in ends] for ends in (self._inputs, self._outputs))
        forward, back = (self._bound([*inputs, *a], [*outputs, *b]) for a, b in ((leaves, others), (others, leaves)))
        return OnnxState(inputs, outputs, leaves, others, forward, back)

    def _bound(self, inputs, outputs):
        """What calls the model on arrays, and has it write into others."""
        binding = self._session.io_binding()
        for name, array in zip(self._takes, inputs, strict=True):
            binding.bind_ortvalue_input(name, self._value(array))
        for name, array in zip(self._gives, outputs, strict=True):
            binding.bind_ortvalue_output(name, self._value(array))
        return binding

    def leaves(self, state: Any) -> list[np.ndarray]:
        """Copies of the leaves of a state."""
        return [] if state is None else [x.copy() for x in state.leaves]

    def __call__(self, inputs: list[np.ndarray], state: Any) -> tuple[list[np.ndarray], Any]:
        """Outputs, which are the caller's to write, and the next state.

        Raises:
            ValueError: arrays of other shapes.
        """
        if state is None:
            found: Any = self._session.run(None, dict(zip(self._takes, inputs, strict=True)))
            return found, None
        held, outputs, leaves, others, binding, back = state
        for array, given in zip(held, inputs, strict=True):
            if array.shape != given.shape:
                raise ValueError(f"a call takes an array of shape {array.shape}; received {given.shape}")
            array[...] = given
        self._session.run_with_iobinding(binding)
        return [y.copy() for y in outputs], OnnxState(held, outputs, others, leaves, back, binding)


_KINDS = {
    "tensor(float)": np.dtype("float32"),
    "tensor(float16)": np.dtype("float16"),
    "tensor(double)": np.dtype("float64"),
    "tensor(bool)": np.dtype("bool"),
} | {f"tensor({name})": np.dtype(name) for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64")}
