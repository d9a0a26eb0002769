"""How sequences are combined into one: by name, with NumPy's rules of broadcasting, or by a function."""

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Literal, Unpack

import keras
import numpy as np
from keras import ops

from ...annotations import LayerOptions
from ...arguments import check_choice
from ...sequence import Sequence, SequenceSpec
from ..base import SequenceLayer
from ..complex_values import has_fractions
from ..stepwise import mixes_time
from ..structures import joint_mask, specs_of

Combination = Literal["stack", "concat", "concat_first", "add", "mean", "product"]


def checked_combination(name: str, combination: Any, names: Iterable[str] = ()) -> Any:
    """The combination, if there is one of this name.

    Args:
        name: of the argument.
        combination: its value.
        names: what it may be; by default any combination.

    Raises:
        ValueError: another one.
    """
    check_choice(name, combination, tuple(names) or _COMBINATIONS)
    return combination


class Combine(SequenceLayer):
    """Several sequences combined into one by `combination`; valid where all are."""

    branches: list[str]
    num_inputs: int

    def __init__(self, combination: Combination, branches: list[str], **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.combination, self.branches, self.num_inputs = combination, branches, len(branches)

    def output_spec(self, input_spec: Any) -> Any:
        specs = input_spec if self.num_inputs > 1 else (input_spec,)
        dtype = keras.backend.result_type(*(spec.dtype for spec in specs))
        if self.combination == "mean" and not has_fractions(dtype):
            dtype = "float32"
        shapes = [tuple(spec.shape) for spec in specs]
        shape_of = _COMBINATIONS[self.combination][1]
        for (one, branch), (shape, other) in itertools.combinations(zip(shapes, self.branches, strict=True), 2):
            try:
                shape_of([one, shape])
            except ValueError:
                raise ValueError(
                    f"branches must have channel shapes that {self.combination!r} combines; received {one} for branch "
                    f"{branch!r} and {shape} for branch {other!r}"
                ) from None
        return SequenceSpec(tuple(shape_of(shapes)), dtype)

    def call_layer(self, x: Any, *, training: bool = False) -> Any:
        return self.call_step(x, ())[0]

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Any, Any]:
        x = x if self.num_inputs > 1 else (x,)
        return Sequence(_COMBINATIONS[self.combination][0]([y.values for y in x]), joint_mask(x)), state


class CombineBy(SequenceLayer):
    """Several sequences combined into one by a function of their values [B, T, ...]; valid where all are."""

    num_inputs: int

    def __init__(self, function: Callable[..., Any], num_inputs: int, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.function, self.num_inputs = function, num_inputs

    @property
    def step_obstacle(self) -> str | None:
        shapes = self.channel_shape if self.built else None
        if shapes is None:
            return None
        why = mixes_time(self.function, shapes, [self.compute_dtype] * len(shapes))
        return why and f"{self.name} does not treat every step by itself: {why}"

    def output_spec(self, input_spec: Any) -> Any:
        (made,) = specs_of(lambda: [self.function(*(ops.zeros((1, 1, *s.shape), dtype=s.dtype) for s in input_spec))])
        return SequenceSpec(tuple(made.shape[2:]), keras.backend.standardize_dtype(made.dtype))

    def call_layer(self, x: Any, *, training: bool = False) -> Any:
        return self.call_step(x, ())[0]

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Any, Any]:
        return Sequence(self.function(*(y.values for y in x)), joint_mask(x)), state


def add(values: Iterable[Any]) -> Any:
    """The sum of values whose channels align at the right."""
    return functools.reduce(ops.add, _aligned(list(values)))


# Channel shapes.


def _stack_shape(shapes):
    return (len(shapes), *np.broadcast_shapes(*shapes))


def _concat_shape(shapes, first=False):
    shapes = _of_one_rank(shapes, 1)
    joined = sum(shape[0 if first else -1] for shape in shapes)
    others = np.broadcast_shapes(*(_others(shape, first) for shape in shapes))
    return (joined, *others) if first else (*others, joined)


def _others(shape, first):
    return shape[1:] if first else shape[:-1]


def _of_one_rank(shapes, at_least=0):
    rank = max(at_least, *map(len, shapes))
    return [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]


# Values, their channels aligned at the right as in NumPy.


def _aligned(values, at_least=0):
    """Values with unit channel axes put in front."""
    shapes = _of_one_rank([v.shape[2:] for v in values], at_least)
    for v, shape in zip(values, shapes, strict=True):
        while len(v.shape) < len(shape) + 2:
            v = ops.expand_dims(v, 2)
        yield v


def _as_wide(v, shape):
    """Values broadcast to a channel shape."""
    return v if tuple(v.shape[2:]) == tuple(shape) else ops.broadcast_to(v, (*ops.shape(v)[:2], *shape))


def _stack(values):
    shape = np.broadcast_shapes(*(tuple(v.shape[2:]) for v in values))
    return ops.stack([_as_wide(v, shape) for v in _aligned(values)], axis=2)


def _concat(values, first=False):
    values = list(_aligned(values, 1))
    others = np.broadcast_shapes(*(_others(tuple(v.shape[2:]), first) for v in values))
    wide = [_as_wide(v, (v.shape[2], *others) if first else (*others, v.shape[-1])) for v in values]
    return ops.concatenate(wide, axis=2 if first else -1)


def _mean(values):
    return add(values) / len(values)


def _product(values):
    return functools.reduce(ops.multiply, _aligned(values))


def _broadcast_shape(shapes):
    return np.broadcast_shapes(*shapes)


# By name what is made of values and of channel shapes.
_COMBINATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "stack": (_stack, _stack_shape),
    "concat": (_concat, _concat_shape),
    "concat_first": (functools.partial(_concat, first=True), functools.partial(_concat_shape, first=True)),
    "add": (add, _broadcast_shape),
    "mean": (_mean, _broadcast_shape),
    "product": (_product, _broadcast_shape),
}
