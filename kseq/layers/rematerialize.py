"""Calls of layers as functions of the values of their variables, and computed again for their gradients."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from .complex_values import has_fractions
from .structures import of_arrays


def of_variables(fn: Callable[..., Any], variables: Any) -> Callable[..., Any]:
    """A function that reads and writes variables of Keras as one that does neither.

    Args:
        fn: `fn(*given)`, which may read the variables, write them, and add losses to layers.
        variables: the variables.

    Returns:
        `run(values, *given)`, which takes the variables' values and gives what `fn` gives, the losses, and for each
        variable its new value, or `None` where it was not written. Seeds are such: what is run twice with one value of
        a seed draws the same numbers twice, and a loop may hand new values on from one turn to the next.
    """

    if not variables:  # those of other scopes are read as before
        return lambda values, *given: (fn(*given), [], [])

    def run(values, *given):
        with keras.StatelessScope(list(zip(variables, values, strict=True)), collect_losses=True) as scope:
            before = [scope.get_current_value(v) for v in variables]
            y = fn(*given)
            after = [scope.get_current_value(v) for v in variables]
        return y, list(scope.losses), [None if a is b else a for a, b in zip(after, before, strict=True)]

    return run


def values_of(variables: Any) -> list[Any]:
    """The present values of variables, as tensors; of what a call may write copies, for torch writes in place."""
    return [ops.convert_to_tensor(v.value) if v.trainable else ops.copy(v.value) for v in variables]


def rematerialized(fn: Callable[..., Any], given: tuple[Any, ...], variables: Any, remat: Callable[..., Any]) -> Any:
    """`fn(*given)` and the losses that it adds, computed again for their gradients.

    Args:
        fn: a function of structures of arrays.
        given: what it is given.
        variables: those that it reads and writes.
        remat: `keras.remat`, or what does the same.
    """
    on_arrays, arrays, restore = of_arrays(of_variables(fn, variables), (values_of(variables), *given))
    if keras.backend.backend() == "tensorflow":
        on_floats, decode = _floats_alone(on_arrays)
        found = decode(remat(on_floats)(*arrays))
    else:
        found = remat(on_arrays)(*arrays)
    y, losses, written = restore(found)
    for variable, value in zip(variables, written, strict=True):
        if value is not None:
            variable.assign(value)
    return y, losses


def _floats_alone(fn):
    """A function that gives a list of arrays as one that gives floats, and what makes the arrays of them again.

    In a loop on TensorFlow nothing that is computed again for its gradients may give anything else.
    """
    dtypes = []

    def on_floats(*arrays):
        found = fn(*arrays)
        dtypes[:] = [keras.backend.standardize_dtype(a.dtype) for a in found]
        return [_as_floats(a, dtype) for a, dtype in zip(found, dtypes, strict=True)]

    return on_floats, lambda found: [_from_floats(a, dtype) for a, dtype in zip(found, dtypes, strict=True)]


def _as_floats(x, dtype):
    """An array as floats: of integers each 16 bits by themselves, which a float holds."""
    if has_fractions(dtype):
        return x
    if not (shifts := _shifts(dtype)):
        return ops.cast(x, "float32")
    low = _of(2**16 - 1, dtype)
    return ops.cast(ops.stack([ops.bitwise_and(ops.right_shift(x, n), low) for n in shifts]), "float32")


def _from_floats(x, dtype):
    x, shifts = ops.cast(x, dtype), _shifts(dtype)
    return sum(ops.left_shift(x[i], n) for i, n in enumerate(shifts)) if shifts else x


def _shifts(dtype):
    """By how many bits the parts of a wide integer are shifted; none of what is narrow, or no integer."""
    bits = np.iinfo(dtype).bits if "int" in dtype else 0
    return [_of(n, dtype) for n in range(0, bits, 16)] if bits > 16 else []


def _of(number, dtype):
    return ops.convert_to_tensor(number, dtype=dtype)
