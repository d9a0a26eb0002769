"""What runs the .tflite file of whole sequences: its signature, for every length anew."""

import os
import pathlib
from typing import Any

import numpy as np

from ..manifest import Manifest
from .litert import interpreter_of


class LiteRTWholeRunner:
    """A call of whole sequences in LiteRT's interpreter, with one thread.

    Args:
        path: of the file.
        manifest: what travels with it.

    Raises:
        ImportError: ai-edge-litert is not there.
        ValueError: a file that LiteRT does not read.
    """

    def __init__(self, path: str | os.PathLike[str], manifest: Manifest) -> None:
        self._call = interpreter_of(pathlib.Path(path)).get_signature_runner("step")
        self._takes = [port.tensor for port in manifest.inputs]
        self._takes += [port.mask_tensor for port in manifest.inputs if port.mask_tensor]
        self._gives = [port.tensor for port in manifest.outputs]
        self._gives += [port.mask_tensor for port in manifest.outputs if port.mask_tensor]

    def state(self, leaves: list[np.ndarray]) -> Any:
        """There is none."""
        return list(leaves)

    def leaves(self, state: Any) -> list[np.ndarray]:
        """There are none."""
        return list(state)

    def __call__(self, inputs: list[np.ndarray], state: Any) -> tuple[list[np.ndarray], Any]:
        """The outputs, which are the caller's to write."""
        found = self._call(**dict(zip(self._takes, inputs, strict=True)))
        return [np.array(found[name]) for name in self._gives], state
