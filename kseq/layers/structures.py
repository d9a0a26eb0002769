"""One sequence, or a tuple of several: what layers of one and of several inputs or outputs share.

A plain tuple holds several; a `Sequence` or a `SequenceSpec`, though a named tuple, is one.
"""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from ..sequence import Sequence
from .complex_values import has_fractions


def each(fn: Any, x: Any) -> Any:
    """`fn` of one, or a tuple of `fn` of each of several."""
    return tuple(map(fn, x)) if type(x) is tuple else fn(x)


def first(x: Any) -> Any:
    """The one, or the first of several."""
    return x[0] if type(x) is tuple else x


def parts(x: Any) -> tuple[Any, ...]:
    """A tuple of the one, or of the several."""
    return x if type(x) is tuple else (x,)


def joint_mask(x: Any) -> Any:
    """Where all of several sequences are valid; `None` where none has a mask."""
    masks = [y.mask for y in x if y.mask is not None]
    return functools.reduce(ops.logical_and, masks) if masks else None


def check_returned(layer: Any, method: str, wanted: str, y: Any, returned: Any) -> None:
    """Check what an author's method gave.

    Args:
        layer: whose method it is.
        method: its name.
        wanted: what it must return, in words.
        y: what should be the sequence, or the sequences.
        returned: all that it returned.

    Raises:
        TypeError: `y` is something else, or holds arrays of NumPy.
    """
    if not all(isinstance(part, Sequence) for part in parts(y)):
        raise TypeError(f"{type(layer).__name__}.{method} must return {wanted}; received {_described(returned)}")
    if any(isinstance(array, np.ndarray) for part in parts(y) for array in part):
        raise TypeError(
            f"{type(layer).__name__}.{method} must return tensors; received NumPy arrays, which a compiled call would "
            "have computed once: use keras.ops in the place of NumPy"
        )


def _described(returned):
    if type(returned) is tuple:
        return f"({', '.join(type(part).__name__ for part in returned)})"
    return f"one {type(returned).__name__}"


def as_sequence(x: Any) -> Sequence:
    """A `Sequence` from itself, from values, or from the plain pair that it becomes in a saved model."""
    if isinstance(x, Sequence):
        return x
    if isinstance(x, (tuple, list)):
        if len(x) != 2:
            raise ValueError(f"a sequence is a pair (values, mask); received {len(x)} parts")
        return Sequence(*x)
    return Sequence(x)


def as_sequences(x: Any, count: int) -> Any:
    """The input of a layer of `count` inputs: one `Sequence`, or a tuple of them.

    Raises:
        ValueError: another number of inputs.
    """
    if count == 1:
        return as_sequence(x)
    if isinstance(x, Sequence) or not isinstance(x, (tuple, list)) or len(x) != count:
        received = len(x) if isinstance(x, (tuple, list)) and not isinstance(x, Sequence) else "one"
        raise ValueError(f"expected a list of {count} inputs; received {received}")
    return tuple(map(as_sequence, x))


def holds_sequences(x: Any, count: int) -> bool:
    """Whether a layer of `count` inputs was given sequences rather than tensors."""
    return isinstance(x, (tuple, list)) if count == 1 else any(isinstance(part, (tuple, list)) for part in x)


def to_tensors(x: Sequence) -> Sequence:
    """The same sequence with tensors of the backend: not every backend adds one to a NumPy array."""
    return Sequence(ops.convert_to_tensor(x.values), None if x.mask is None else ops.convert_to_tensor(x.mask))


def of_arrays(fn: Any, given: tuple[Any, ...]) -> Any:
    """A function of structures as one of the float arrays in them, which gives the arrays in what it makes.

    All else in the structures (masks, integers, `None`) it sees as it is.

    Returns:
        the function, the arrays that it takes, and what makes of the arrays that it gave what `fn` would have given.
    """
    leaves, made = keras.tree.flatten(given), []
    arrays = [leaf for leaf in leaves if _is_float(leaf)]

    def on_arrays(*arrays):
        arrays = iter(arrays)
        y = fn(*keras.tree.pack_sequence_as(given, [next(arrays) if _is_float(leaf) else leaf for leaf in leaves]))
        made[:] = [keras.tree.map_structure(lambda leaf: leaf is not None, y)]
        return [leaf for leaf in keras.tree.flatten(y) if leaf is not None]

    def restore(found):
        found = iter(found)
        return keras.tree.map_structure(lambda there: next(found) if there else None, made[0])

    return on_arrays, arrays, restore


def filled(shape: Any, value: Any, dtype: Any) -> Any:
    """An array of one value, as `keras.ops.full` makes it, which on torch cannot tell a spec alone (`specs_of`)."""
    if dtype == "bool":
        return (ops.ones if value else ops.zeros)(shape, dtype=dtype)
    zeros = ops.zeros(shape, dtype=dtype)
    return ops.cast(zeros + value, dtype) if value else zeros


def specs_of(fn: Any) -> list[keras.KerasTensor]:
    """Shapes and dtypes of the arrays in the list that `fn()` gives, none of which is made."""
    found: Any = _Traced(fn).compute_output_spec(keras.KerasTensor(()))
    return found


class _Traced(keras.layers.Layer):
    """A layer that calls a function: what Keras finds out about it without running it."""

    def __init__(self, fn: Any) -> None:
        super().__init__()
        self.fn = fn

    def call(self, x: Any) -> Any:
        return self.fn()


def _is_float(leaf) -> bool:
    return leaf is not None and has_fractions(keras.backend.standardize_dtype(leaf.dtype))
