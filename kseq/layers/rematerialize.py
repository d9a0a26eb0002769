"""Calls of layers as functions of the values of their variables, and computed again for their gradients."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

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
    """The present values of variables, as tensors."""
    return [ops.convert_to_tensor(v.value) for v in variables]


def rematerialized(fn: Callable[..., Any], given: tuple[Any, ...], variables: Any, remat: Callable[..., Any]) -> Any:
    """`fn(*given)` and the losses that it adds, computed again for their gradients.

    Args:
        fn: a function of structures of arrays.
        given: what it is given.
        variables: those that it reads and writes.
        remat: `keras.remat`, or what does the same.
    """
    on_arrays, arrays, restore = of_arrays(of_variables(fn, variables), (values_of(variables), *given))
    y, losses, written = restore(remat(on_arrays)(*arrays))
    for variable, value in zip(variables, written, strict=True):
        if value is not None:
            variable.assign(value)
    return y, losses
