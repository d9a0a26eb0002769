"""The step of one call as a pure function of arrays in a row, with weights and seeds among them, and its state."""

import weakref
from typing import Any

import keras

from ..layers.structures import parts
from ..sequence import Sequence


class State:
    """The state of a stream between calls: the leaves of the layer's state, over which it iterates, and more.

    Attributes:
        leaves: a list.
        seeds: by its number what steps have written into a variable: seeds, moved on.
        more: of the backend: on torch the state of its own generator.
        is_spent: whether the leaves were given to a call, which on jax takes their memory.
    """

    leaves: Any
    is_spent: bool
    more: Any
    seeds: Any

    __slots__ = ("is_spent", "leaves", "more", "seeds")

    def __init__(self, leaves: Any, seeds: Any, more: Any = None) -> None:
        self.leaves, self.seeds, self.more, self.is_spent = leaves, seeds, more, False

    def __iter__(self) -> Any:
        return iter(self.leaves)


class Scope(keras.StatelessScope):
    """A scope in which variables have given values; notes what is written."""

    variables: Any
    first: Any
    updates: dict[Any, Any]

    def __init__(self, variables: Any, values: Any) -> None:
        super().__init__(list(zip(variables, values, strict=True)))
        self.variables, self.first = variables, values
        self._numbers = {id(v): i for i, v in enumerate(variables)}
        self.updates = {}

    def begin(self, seeds: Any) -> None:
        """Give the variables that were written before the values that they have in a state, or had at first."""
        self.updates = {i: self.first[i] for i in self.updates} | seeds
        for i, value in self.updates.items():
            super().add_update((self.variables[i], value))

    def add_update(self, update: Any) -> None:
        variable, value = update
        number = self._numbers.get(id(variable))
        if number is None or keras.backend.is_float_dtype(variable.dtype):
            raise ValueError(
                f"a step writes the variable {variable.path!r}, and a stream changes no weights: seeds and counts of "
                f"the model's layers may be written, of a stream's own; keep anything else in the layer's state"
            )
        super().add_update(update)
        self.updates[number] = value

    def has(self, variable: Any) -> bool:
        return id(variable) in self._numbers


class TraceScope(Scope):
    """Notes too whether other variables are read: of their values a trace makes constants."""

    reads_others: bool = False

    def get_current_value(self, variable: Any) -> Any:
        self.reads_others |= not self.has(variable)
        return super().get_current_value(variable)


def in_row(values: Any, masks: Any, active: Any) -> list[Any]:
    """All arrays of a call in a row, the caller's: after the call it may write its next chunk into the same ones."""
    row = [*values, *[m for m in masks if m is not None]]
    return row if active is None else [*row, active]


def advance(step: Any, row: Any, masks: Any, active: Any, leaves: Any) -> Any:
    """The step of arrays in a row: the values, the masks that there are, and the active rows if there are any.

    Of `masks` and `active` only what is `None` counts. The state is known to have room for the step.
    """
    row = list(row)
    active = None if active is None else row.pop()
    values, row = row[: len(masks)], row[len(masks) :]
    sequences = tuple(Sequence(v, None if m is None else row.pop(0)) for v, m in zip(values, masks, strict=True))
    y, leaves = step.advance(sequences if len(masks) > 1 else sequences[0], leaves, active)
    return parts(y), leaves


class Trace:
    """Traces the step for one call; knows its steps only as long as they are there, and not what it is compiled to."""

    steps: Any
    is_shareable: bool
    written: tuple[Any, ...]
    masks: list[bool | None]

    def __init__(self, step: Any, masks: Any, active: Any) -> None:
        self.steps, self.is_shareable, self.written = weakref.WeakSet([step]), True, ()
        # Only which there are: what is compiled must not keep arrays.
        self.masks = [None if m is None else True for m in masks]
        self.active = None if active is None else True
        self._outputs = step.layer.num_outputs

    @property
    def is_plain(self) -> bool:
        """Whether there are but values, and one output, once it is known what is written."""
        return self._outputs == 1 and self.active is None and not any(self.masks) and not self.written

    def __call__(self, leaves: Any, variables: Any, row: Any) -> Any:
        """Outputs, leaves and written variables, of tracers; any of the steps gives the same."""
        step = next(iter(self.steps))
        with TraceScope(step.layer.variables, variables) as scope:
            outputs, leaves = advance(step, row, self.masks, self.active, leaves)
        self.is_shareable, self.written = not scope.reads_others, tuple(scope.updates)
        return outputs, leaves, scope.updates
