"""The fused attention of a backend, which never has all weights in memory, where it gives the same numbers."""

import functools
from typing import Any

import keras
from keras import ops


@functools.cache
def has_kernels() -> bool:
    """Whether the backend has kernels that are faster than products and a softmax: where it does not run on a CPU."""
    if keras.backend.backend() == "torch":
        return not str(getattr(ops.zeros(()), "device", "cpu")).startswith("cpu")
    return any("cpu" not in device.lower() for device in keras.distribution.list_devices())


def fused(query: Any, key: Any, value: Any, visible: Any) -> Any:
    """What scaled queries [..., H, Q, D] read of values [..., Hkv, K, D], as `attend` gives it for finite ones.

    Args:
        query, key, value: as there.
        visible: bool, or `None`.
    """
    lead = ops.shape(query)[:-3]

    def flat(x):
        """[..., H, T, D] as [N, T, H, D]."""
        return ops.transpose(ops.reshape(x, (-1, *ops.shape(x)[-3:])), (0, 2, 1, 3))

    mask = None
    if visible is not None:
        shape = (*lead, query.shape[-2], key.shape[-2])
        mask = ops.reshape(ops.broadcast_to(visible, shape), (-1, 1, *shape[-2:]))
    y = ops.dot_product_attention(flat(query), flat(key), flat(value), mask=mask, scale=1.0)
    y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (*lead, *query.shape[-3:]))
    if visible is None:
        return y
    sees = ops.expand_dims(ops.any(visible, axis=-1, keepdims=True), -3)
    return ops.where(sees, y, ops.zeros_like(y))
