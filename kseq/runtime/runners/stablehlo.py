"""StableHLO, run by jax."""

import re
from typing import Any

import numpy as np

from ...annotations import AnyPath
from ...dtypes import is_64_bit
from ..manifest import Manifest
from . import member

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
        if any(is_64_bit(tensor.dtype) for tensor in tensors) and not jax.config.read("jax_enable_x64"):
            raise ValueError(f"{path} has numbers of 64 bits: set the environment variable JAX_ENABLE_X64=1")
        data = member(path, PROGRAM)
        try:
            program = jax.export.deserialize(bytearray(data))
        except Exception as error:
            raise ValueError(f"{path} is damaged: jax cannot read its program: {error}") from error
        _check_calls(path, program)
        self._given, self._made = len(manifest.takes), len(manifest.gives)
        total = self._given + len(manifest.state)
        if (len(program.in_avals), len(program.out_avals)) != (total, self._made + len(manifest.state)):
            raise ValueError(f"{path} has a program of other tensors than its manifest says")
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


# What a program may call that is not of StableHLO: all that `jax.export` writes but code for devices and tensorflow's.
_CALLS = re.compile(
    r"(lapack|cusolver|hipsolver|cusparse)_\w+_ffi|(cu|hip)_(lu_pivots_to_permutation|threefry2x32_ffi)|Sharding|SPMD\w+|"
    r"annotate_device_placement|Eigh|Qr|ProductOfElementaryHouseholderReflectors|LuDecomposition|ApproxTopK|"
    r"stablehlo\.dynamic_\w+|shape_assertion"
)
_BYTECODE = b"ML\xefR"


def _check_calls(path, program):
    """Refuse a program that calls what lies in the process, such as functions of Python: a file is data."""
    module = program.mlir_module_serialized
    if module.startswith(_BYTECODE) and b"custom_call" not in module:
        return  # names of operations lie in it as they are
    text = program.mlir_module()
    for found in re.finditer(r'custom_call(?: @(?:"([^"]*)"|([\w.$]+))\()?', text):
        name = found[1] or found[2]
        if name is None or not _CALLS.fullmatch(name):
            raise ValueError(f"{path} calls {name or 'what has no name'}, which no program of `kseq.export` does")


def _jax():
    try:
        import jax
        import jax.export
    except ImportError as error:
        raise ImportError("StableHLO is run by jax, which is not installed: `pip install jax`") from error
    return jax
