"""The checks of arguments that the whole package shares: integers, of Python's, NumPy's or any other kind."""

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_integer(name: str, value: Any, least: int | None = None) -> int:
    """Return `value` as an `int`, at least `least` if given; `name` is what errors call it.

    Raises:
        TypeError: a value that is no integer; a truth value is none.
        ValueError: a value below `least`.

    Example:
        >>> as_integer("length", np.int32(3), least=0)
        3
    """
    number = _index(value)
    if number is None:
        raise TypeError(f"{name} must be an integer; received {value!r}")
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}; received {number}")
    return number


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Check an argument that is one of some words.

    Raises:
        ValueError: anything else.

    Example:
        >>> check_choice("mode", "power", ("complex", "power"))
    """
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}; received {value!r}")


def check_names(name: str, value: Any) -> tuple[str, ...]:
    """Return an argument that is a name, or several that differ, as a tuple of them.

    Raises:
        ValueError: anything else.

    Example:
        >>> check_names("source", "text"), check_names("source", ["text", "voice"])
        (('text',), ('text', 'voice'))
    """
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else ()
    if not names or not all(isinstance(one, str) and one for one in names) or len(set(names)) < len(names):
        raise ValueError(f"`{name}` must be a name, or several that differ; received {value!r}")
    return names


def as_size(name: str, value: Any, least: int = 1) -> int:
    """Return a layer's argument as an `int`; Keras's tuples of one element are taken too.

    Raises:
        ValueError: a value that is no integer, or below `least`.

    Example:
        >>> as_size("kernel_size", (3,))
        3
    """
    if isinstance(value, (tuple, list)) and len(value) == 1:
        value = value[0]
    number = _index(value)
    if number is None or number < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}; received {value!r}")
    return number


def as_number(name: str, value: Any, wanted: str, holds: Callable[[float], bool]) -> float:
    """Return a layer's argument as a `float`, of which something holds; `wanted` is what errors call that.

    Raises:
        ValueError: a value that is no real number, or of which it does not hold; "not a number" is none.

    Example:
        >>> as_number("rate", 0.5, "at least 0", lambda value: value >= 0)
        0.5
    """
    number = float(value) if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) else math.nan
    if math.isnan(number) or not holds(number):
        raise ValueError(f"`{name}` must be {wanted}; received {value!r}")
    return number


def each_axis(sizes: Any) -> tuple[int, ...]:
    """What `as_sizes` gives, also of one axis, as a tuple.

    Example:
        >>> each_axis(3), each_axis((3, 2))
        ((3,), (3, 2))
    """
    return sizes if isinstance(sizes, tuple) else (sizes,)


def as_sizes(name: str, value: Any, count: int, least: int = 1) -> Any:
    """Return a layer's argument of `count` axes as a tuple of `int`, of one axis as an `int`; a number is of all axes.

    Raises:
        ValueError: another number of values, or one that is no integer or below `least`.

    Example:
        >>> as_sizes("kernel_size", 3, 2), as_sizes("kernel_size", [3], 1)
        ((3, 3), 3)
    """
    if count == 1:
        return as_size(name, value, least)
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * count
    if len(values) != count:
        raise ValueError(f"`{name}` must be an integer or {count} of them; received {value!r}")
    return tuple(as_size(name, each, least) for each in values)


def check_table(what: str, *shape: int, most: int = 2**24) -> None:
    """Refuse what a layer computes from its arguments and keeps on the host, where it would fill the memory.

    Specs count weights and states before they are made, but a filter or a matrix only the layer knows of.

    Raises:
        ValueError: a table of more numbers than `most`.

    Example:
        >>> check_table("filter", 100)
    """
    if math.prod(shape) > most:
        size = " x ".join(map(str, shape))
        raise ValueError(f"the {what} may have {most} numbers at most; received arguments that give it {size}")


def check_fields(outputs: int) -> None:
    """Refuse a layer of so many outputs for each input that their receptive fields, one of each, fill the memory.

    Raises:
        ValueError: more than 65536.

    Example:
        >>> check_fields(2)
    """
    check_table("receptive fields of one step's outputs", outputs, most=2**16)


def as_integers(name: str, values: Any) -> NDArray[np.int64]:
    """Return `values` as a contiguous int64 array of rank 1; `name` is what errors call it.

    Raises:
        TypeError: values that are not integers.
        ValueError: values of rank other than 1, or beyond 64 signed bits.

    Example:
        >>> as_integers("offsets", (0, 2))
        array([0, 2])
    """
    array = np.asarray(values)
    if array.size == 0 and not hasattr(values, "dtype"):
        array = array.astype(np.int64)  # an empty list says nothing about its type
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; received {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have rank 1; received shape {array.shape}")
    if array.dtype == np.uint64 and array.max(initial=0) > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must be below 2**63; received {array.max()}")
    return np.ascontiguousarray(array, np.int64)


def _index(value) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
