"""The fused recurrence of a backend, which is one kernel on a GPU, where it gives the same numbers."""

import functools
from typing import Any, Literal

import keras
from keras import ops

#: Of which of Keras's layers each backend has a kernel.
_KERNELS = {"jax": ("LSTM",), "tensorflow": ("LSTM", "GRU"), "torch": ("LSTM", "GRU")}

UseCudnn = Literal["auto", True, False]


@functools.cache
def has_kernel(name: str) -> bool:
    """Whether the backend runs Keras's layer of a name in one kernel: on a GPU."""
    if name not in _KERNELS.get(keras.backend.backend(), ()):
        return False
    if keras.backend.backend() == "torch":
        return str(getattr(ops.zeros(()), "device", "cpu")).startswith("cuda")
    return any(device.lower().startswith(("gpu", "cuda")) for device in keras.distribution.list_devices())


def right_padded(mask: Any) -> Any:
    """Whether no row of a mask [B, T] has a valid step after an invalid one; a scalar."""
    return ops.all(ops.logical_or(mask[:, :-1], ops.logical_not(mask[:, 1:])))


def held(y: Any, mask: Any) -> Any:
    """What invalid steps at the end of rows give: the last output of y [B, T, C], zeros where there is none."""
    steps = ops.arange(ops.shape(y)[1], dtype="int32")
    length = ops.sum(ops.cast(mask, "int32"), axis=1)[:, None]
    last = ops.maximum(ops.minimum(steps[None], length - 1), 0)
    return ops.where((length > 0)[..., None], ops.take_along_axis(y, last[..., None], axis=1), ops.zeros_like(y))


def twin(layer: Any) -> Any:
    """The call of Keras's layer of the same name, on values [B, T, C] that are all valid, with a layer's own variables.

    A kernel that is told lengths is wrong for rows of none, and for holes; none is told any: what valid steps give does
    not depend on what comes after them. The layer of Keras is known to the call alone, and to nothing that saves.
    """
    options = {name: getattr(layer, name) for name in ("activation", "recurrent_activation", "use_bias")}
    stock = getattr(keras.layers, type(layer).__name__)
    stock = stock(layer.units, **options, return_sequences=True, dtype=layer.dtype_policy)
    for name in ("kernel", "recurrent_kernel", "bias"):
        setattr(stock.cell, name, getattr(layer, name))
    stock.cell.built = stock.built = True
    return stock.call
