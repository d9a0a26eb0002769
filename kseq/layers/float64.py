"""Products and means of float64 in float64: Keras computes both in float32 on torch."""

from typing import Any

import keras
from keras import ops


def product(x: Any, matrix: Any) -> Any:
    """x [..., C] times a matrix [C, N]; in float64 by a sum over products, for Keras's matmul on torch narrows it."""
    if keras.backend.standardize_dtype(x.dtype) == "float64":
        return ops.einsum("...c,cn->...n", x, matrix)
    return ops.matmul(x, matrix)


def mean(x: Any, axis: Any = -1) -> Any:
    """The mean over axes, which are kept; of float64 as a quotient, for Keras's mean on torch narrows it."""
    if keras.backend.standardize_dtype(x.dtype) == "float64":
        return ops.sum(x, axis=axis, keepdims=True) / ops.sum(ops.ones_like(x), axis=axis, keepdims=True)
    return ops.mean(x, axis=axis, keepdims=True)
