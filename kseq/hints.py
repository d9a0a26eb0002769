"""Hints for a backend's compiler, which others ignore, and a look at arrays from inside a computation."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops


def barrier(arrays: Any) -> Any:
    """Arrays that a compiler computes before what is made of them, and does not merge with it. On jax alone."""
    if keras.backend.backend() != "jax":
        return arrays
    import jax

    return jax.lax.optimization_barrier(arrays)


def checkpoint_name(array: Any, name: str) -> Any:
    """An array that policies of rematerialisation know by a name. On jax alone."""
    if keras.backend.backend() != "jax":
        return array
    from jax import ad_checkpoint

    return ad_checkpoint.checkpoint_name(array, name)


def computed_again(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A step of a loop of whose inner values none is kept for a gradient. On jax alone.

    Others keep nothing where the gradient is written by hand, and what is differentiated is the loop.
    """
    if keras.backend.backend() != "jax":
        return fn
    import jax

    return jax.checkpoint(fn, prevent_cse=False)  # within a loop nothing merges what is computed twice


def sharded(array: Any, axes: Any) -> Any:
    """An array whose axes lie along the named axes of Keras's device mesh, where a `keras.distribution` is set."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return array
    layout = keras.distribution.TensorLayout(tuple(axes), distribution.device_mesh)
    return keras.distribution.distribute_tensor(array, layout)


def seen_on_host(fn: Callable[..., None], *arrays: Any) -> None:
    """Call a Python function with arrays, as NumPy, whenever they are computed.

    On jax compiled functions do so, too; on torch nothing is compiled. On tensorflow it is called where arrays have
    values: not from inside a compiled function, which could not run it. Nowhere from inside what is exported.
    """
    if _exporting.get():
        return
    if keras.backend.backend() == "jax":
        import jax

        jax.debug.callback(fn, *arrays, ordered=False)
    elif all(has_values(array) for array in arrays):
        fn(*map(ops.convert_to_numpy, arrays))


def has_values(array: Any) -> bool:
    """Whether an array has values by now: not while a backend traces, or finds out shapes alone."""
    if isinstance(array, (np.ndarray, np.generic)):
        return True
    if keras.backend.backend() == "jax":
        from jax.core import Tracer

        return not isinstance(array, Tracer)
    if keras.backend.backend() == "torch":
        import torch

        return array.device.type != "meta" and not torch.compiler.is_compiling()
    return hasattr(array, "numpy")


def loops_are_cheap() -> bool:
    """Whether a step of a loop costs little more than its arithmetic: where jax compiles it for processors alone.

    Elsewhere every operation of every step is launched by itself.
    """
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu"


_exporting = contextvars.ContextVar("exporting", default="")


@contextlib.contextmanager
def exporting(scatters: bool = True, *, elsewhere: bool = True) -> Iterator[None]:
    """What is traced meanwhile is for a file.

    Args:
        scatters: whether the runtime of the file writes single places of an array.
        elsewhere: whether it is another runtime than the backend's own: `is_exporting` says so.
    """
    token = _exporting.set(("with scatters" if scatters else "without") if elsewhere else "here")
    try:
        yield
    finally:
        _exporting.reset(token)


def is_exporting() -> bool:
    """Whether operations are wanted that every runtime has, although others are quicker here."""
    return _exporting.get() not in ("", "here")


def has_scatters() -> bool:
    """Whether what runs the operations writes single places of an array, and well."""
    return _exporting.get() != "without"
