"""What Keras takes for a cell, and how it is called."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops, tree

from ...annotations import Shape


def check_cell(cell: Any) -> None:
    """Refuse what is no cell.

    Raises:
        TypeError: something else than a layer with a `state_size`; recurrent layers, which have that of their cell.
    """
    whole = isinstance(cell, keras.layers.RNN)
    if whole or not isinstance(cell, keras.layers.Layer) or not hasattr(cell, "state_size"):
        raise TypeError(f"a cell is a layer with a `state_size`, as Keras's cells are; received {cell!r}")


def build_cell(cell: Any, shape: Shape) -> None:
    """Build a cell for one step [B, ...], if it is not built."""
    if not cell.built:
        cell.build(shape)
        cell.built = True


def initial_state_of(cell: Any, batch_size: Any) -> Any:
    """The state before the first step, a structure of arrays [B, ...], a list where there is no other."""
    if hasattr(cell, "get_initial_state"):
        states = cell.get_initial_state(batch_size=batch_size)
    else:
        sizes = cell.state_size if isinstance(cell.state_size, (list, tuple)) else [cell.state_size]
        shapes = [size if isinstance(size, (list, tuple)) else (size,) for size in sizes]
        states = [ops.zeros((batch_size, *shape), dtype=cell.compute_dtype) for shape in shapes]
    return list(states) if tree.is_nested(states) else [states]


def call_cell(cell: Any, x: Any, states: Any, training: bool) -> Any:
    """The output of a step and the next states, in the structure and in the dtypes of the old ones."""
    cell = cell if training else still(cell)
    options = {"training": True} if training and takes_training(cell) else {}
    output, new = cell(x, states, **options)
    new = [ops.cast(n, old.dtype) for n, old in zip(tree.flatten(new), tree.flatten(states), strict=True)]
    return output, tree.pack_sequence_as(states, new)  # Keras's stacked cells take the list around one away


def output_shape(cell: Any, shape: Shape) -> Shape:
    """Of one step's output for x [B, *shape], without batch; of a cell that is not built as Keras has it, by its sizes.

    Raises:
        ValueError: an input that the cell does not take, or next states of other shapes than the initial ones.
    """
    if not cell.built:
        size = getattr(cell, "output_size", None)
        if size is None:
            size = cell.state_size[0] if isinstance(cell.state_size, (list, tuple)) else cell.state_size
        return tuple(size) if isinstance(size, (list, tuple)) else (size,)
    states = tree.map_structure(_symbol, initial_state_of(cell, 1))
    try:
        output, new = still(cell)(keras.KerasTensor((None, *shape)), states)  # a call casts weights
    except Exception as error:
        raise ValueError(f"the cell {cell.name} does not take steps of shape {tuple(shape)}: {error}") from error
    found, wanted = ([tuple(s.shape[1:]) for s in tree.flatten(each)] for each in (new, states))
    if found != wanted:
        raise ValueError(f"the cell {cell.name} makes states of shapes {wanted} states of shapes {found}")
    return tuple(output.shape[1:])


def _symbol(x):
    return keras.KerasTensor((None, *x.shape[1:]), keras.backend.standardize_dtype(x.dtype))


@contextlib.contextmanager
def without_masks(cell: Any) -> Iterator[None]:
    """Let cells choose anew what they drop, and forget it afterwards: it belongs to one call."""
    try:
        yield
    finally:
        for each in _within(cell):
            if hasattr(each, "reset_dropout_mask"):
                each.reset_dropout_mask()
                each.reset_recurrent_dropout_mask()


def still(cell: Any) -> Any:
    """A cell for inference: Keras's own draw nothing, of which some do although they drop nothing; others as they are.

    It has the variables of the cell.
    """
    if isinstance(cell, keras.layers.StackedRNNCells):
        return _with(cell, cells=[still(each) for each in cell.cells]) if draws(cell) else cell
    computes = next(cls for cls in type(cell).__mro__ if "call" in vars(cls))
    is_own = computes.__module__.partition(".")[0] == "keras"
    return _with(cell, dropout=0.0, recurrent_dropout=0.0) if is_own and draws(cell) else cell


def _with(cell, **attributes):
    """The cell with other attributes, that of others beside it: not by `copy`, by which Keras saves and loads it."""
    found = object.__new__(type(cell))
    vars(found).update(vars(cell) | attributes)
    return found


def draws(cell: Any) -> bool:
    """Whether a cell chooses what it drops."""
    return any(getattr(each, name, 0) for each in _within(cell) for name in ("dropout", "recurrent_dropout"))


def takes_training(cell: Any) -> bool:
    """Whether a cell's call has an argument `training`."""
    parameters = inspect.signature(cell.call).parameters.values()
    return any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)


def _within(cell):
    yield cell
    for each in (*getattr(cell, "cells", ()), *filter(None, [getattr(cell, "cell", None)])):
        yield from _within(each)
