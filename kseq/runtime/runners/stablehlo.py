"""StableHLO, run by jax."""

import zipfile
from typing import Any

import numpy as np

from ...annotations import AnyPath
from ..manifest import Manifest

#: What of the file `jax.export.deserialize` reads.
PROGRAM = "step.jax"


class StableHloRunner:
    """A program of `jax.export`, compiled when it is opened. A call takes the memory of the state that it is given.

    Args:
        path: the file.
        manifest: of the file.

    Raises:
        ImportError: jax is not there.
        ValueError: a damaged program, or numbers of 64 bits where jax has none.
    """

    def __init__(self, path: AnyPath, manifest: Manifest) -> None:
        jax = _jax()
        tensors = [*manifest.inputs, *manifest.outputs, *manifest.state]
        if any("64" in t.dtype or t.dtype == "complex128" for t in tensors) and not jax.config.read("jax_enable_x64"):
            raise ValueError(f"{path} has numbers of 64 bits: set the environment variable JAX_ENABLE_X64=1")
        try:
            with zipfile.ZipFile(path) as archive:
                program = jax.export.deserialize(bytearray(archive.read(PROGRAM)))
        except Exception as error:
            raise ValueError(f"{path} is damaged: jax cannot read its program: {error}") from error
        self._given = sum(1 + (port.mask_tensor is not None) for port in manifest.inputs)
        self._given += manifest.presence_tensor is not None
        self._made = len(program.out_avals) - len(manifest.state)
        total = self._given + len(manifest.state)
        self._call = jax.jit(program.call, donate_argnums=tuple(range(self._given, total)))
        self._array, self._dtypes = jax.numpy.array, [leaf.dtype for leaf in manifest.state]
        if manifest.mode == "step":
            first = [np.zeros(a.shape, a.dtype) for a in program.in_avals[: self._given]]
            self(first, self.state(manifest.initial_state))  # compiles

    def state(self, leaves: list[np.ndarray]) -> Any:
        """A state of its leaves, which are copied."""
        return [self._array(leaf, dtype=dtype) for leaf, dtype in zip(leaves, self._dtypes, strict=True)]

    def leaves(self, state: Any) -> list[np.ndarray]:
        """Copies of the leaves of a state."""
        return [np.array(leaf) for leaf in state]

    def __call__(self, inputs: list[np.ndarray], state: Any) -> tuple[list[np.ndarray], Any]:
        """One call: values, then masks, and a state; gives the same, of arrays that are the caller's."""
        found = self._call(*[x.copy() for x in inputs], *state)  # it may run on after the caller has these back
        return [np.array(y) for y in found[: self._made]], found[self._made :]


def _jax():
    try:
        import jax
        import jax.export
    except ImportError as error:
        raise ImportError("StableHLO is run by jax, which is not installed: `pip install jax`") from error
    return jax
