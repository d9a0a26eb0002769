"""The kind of a constructor's parameter: from its type hint, or else from its name, as Keras gives them, or default."""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence

import keras

from ..signature import OBJECT_SUFFIXES
from .kinds import (
    ANY,
    BOOLEAN,
    DTYPES,
    INTEGER,
    LAYER,
    NAME,
    NULL,
    NUMBER,
    POLICIES,
    TEXT,
    Choice,
    Either,
    Kind,
    ListOf,
    MappingOf,
    Object,
    Record,
    Size,
)


def kind_of(parameter: inspect.Parameter) -> Kind:
    """The kind of a constructor's parameter."""
    kind, least = _kind_of(parameter), _LEAST.get(parameter.name)
    return kind if least is None else _sized(kind, least)


def _sized(kind, least):
    """A kind whose integers have a least one."""
    if kind is INTEGER:
        return Size(least)
    return Either(*(_sized(part, least) for part in kind.kinds)) if isinstance(kind, Either) else kind


def _kind_of(parameter):
    if parameter.annotation is not parameter.empty and not isinstance(parameter.annotation, str):
        kind = _of_hint(parameter.annotation)
        return Either(kind, NULL) if parameter.default is None else kind
    kind = _of_name(parameter.name)
    if kind is not None:
        return kind
    default = parameter.default
    for types_, found in (((bool,), BOOLEAN), ((int,), NUMBER), ((float,), NUMBER), ((str,), TEXT)):
        if isinstance(default, types_):
            return found
    return ANY


def _of_name(name) -> Kind | None:
    """By the names that Keras gives arguments everywhere."""
    if name == "dtype":
        return Choice(DTYPES + POLICIES)
    last = name.rpartition("_")[2]
    if last in OBJECT_SUFFIXES:
        return Either(Object(last), NULL)
    if name == "learning_rate":
        return Either(NUMBER, Object("schedule"))
    return _NAMED.get(name)


def _of_hint(hint) -> Kind:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _of_hint(arguments[0])
    if hint in _SCALARS:
        return _SCALARS[hint]
    if origin is typing.Literal:
        return Choice(arguments) if all(isinstance(a, str) for a in arguments) else ANY
    if origin in (typing.Union, types.UnionType):
        kinds = [_of_hint(argument) for argument in arguments]
        return ANY if ANY in kinds else Either(*kinds)
    if hint is Callable or origin is Callable:
        return Object("activation")
    if inspect.isclass(hint):
        for base, kind in _CLASSES.items():
            if issubclass(hint, base):
                return kind
        if dataclasses.is_dataclass(hint):
            return Record(hint)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return ListOf(*(_of_hint(argument) for argument in arguments), repeated=False)
    if origin in (list, tuple, Iterable, Sequence):
        return ListOf(_of_hint(arguments[0]))
    if origin in (dict, Mapping):
        return MappingOf(_of_hint(arguments[1]))
    return {list: ListOf(ANY), tuple: ListOf(ANY), dict: MappingOf(ANY)}.get(hint, ANY)


_CLASSES = {
    keras.layers.Layer: LAYER,
    keras.initializers.Initializer: Object("initializer"),
    keras.regularizers.Regularizer: Object("regularizer"),
    keras.constraints.Constraint: Object("constraint"),
}
_NAMED = {
    "name": NAME,
    "trainable": BOOLEAN,
    "seed": Either(INTEGER, NULL),
    "units": INTEGER,
    "input_dim": INTEGER,
    "output_dim": INTEGER,
    "axis": Either(INTEGER, ListOf(INTEGER), NULL),
}
# Sizes by the names that Keras and kseq give them, and the least that makes sense.
_LEAST = dict.fromkeys(
    [
        "units",
        "filters",
        "kernel_size",
        "strides",
        "dilation_rate",
        "groups",
        "depth_multiplier",
        "pool_size",
        "num_heads",
        "key_dim",
        "input_dim",
        "output_dim",
        "num_repeats",
    ],
    1,
) | dict.fromkeys(["length", "max_past_horizon", "max_future_horizon", "max_backward", "max_forward"], 0)
_SCALARS = {type(None): NULL, None: NULL, bool: BOOLEAN, int: INTEGER, float: NUMBER, str: TEXT}
