"""Runs an exported step in onnxruntime."""

import base64
import os
from typing import Any

import numpy as np

from ..manifest import MEMBER, Manifest
from ..packed import numpy_dtype


class OnnxRunner:
    """A step in onnxruntime, in one thread.

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
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        for pool in ("intra_op", "inter_op"):
            options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of its own classes
            raise ValueError(f"{os.fspath(path)} is no file that onnxruntime runs: {error}") from error
        properties = self._session.get_modelmeta().custom_metadata_map
        if MEMBER not in properties:
            raise ValueError(f"{os.fspath(path)} is a model of ONNX that `kseq.export` did not write")
        self.manifest = Manifest.from_bytes(base64.b64decode(properties[MEMBER]))
        self._takes = [value.name for value in self._session.get_inputs()]
        self._count = len(self._session.get_outputs()) - len(self.manifest.state)

    def state(self, leaves: list[np.ndarray]) -> Any:
        """A state of leaves, which are copied."""
        kinds = [numpy_dtype(leaf.dtype) for leaf in self.manifest.state]
        return [np.array(x, kind, order="C") for x, kind in zip(leaves, kinds, strict=True)]

    def leaves(self, state: Any) -> list[np.ndarray]:
        """Copies of the leaves of a state."""
        return [x.copy() for x in state]

    def __call__(self, inputs: list[np.ndarray], state: Any) -> tuple[list[np.ndarray], Any]:
        """Outputs, which are the caller's to write, and the next state."""
        found = self._session.run(None, dict(zip(self._takes, [*inputs, *state], strict=True)))
        return found[: self._count], found[self._count :]
