"""Sequences as a user has them, checked: lists of arrays, `Ragged`, arrays of equal lengths, columns of a store."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ragged import Ragged

Rows = list[NDArray[Any]]


def is_store(data: Any) -> bool:
    """Whether data are records of named fields."""
    return hasattr(data, "schema") and hasattr(data, "column")


def of_store(store: Any, field: str | None, what: str) -> tuple[Any, str]:
    """A column of a store, and its name: by default that of the main sequence.

    Raises:
        ValueError: no such field, or none that is a sequence.
    """
    field = store.schema.main if field is None else field
    if field not in store.schema or not store.schema[field].ragged:
        sequences = [name for name in store.schema if store.schema[name].ragged]
        raise ValueError(f"{what} must be a sequence of the store, one of {sequences}; received {field!r}")
    return store.column(field), str(field)


def checked_pairs(
    inputs: Any, outputs: Any, dims: tuple[int, int], dtype: str, prefix: str = ""
) -> tuple[Rows, Rows | None]:
    """Inputs and outputs, or `None` where these are the inputs, checked one by one and as pairs.

    Args:
        inputs: as for `checked`.
        outputs: the same, as many, or `None`.
        dims: channels of either.
        dtype: in which the model reads them.
        prefix: what errors say before "inputs" and "outputs".

    Raises:
        TypeError: as `checked` does.
        ValueError: as `checked` does, another number of outputs, or none where they have channels of their own.
    """
    inputs = checked(inputs, f"{prefix}inputs", dims[0], dtype)
    if outputs is not None:
        outputs = checked(outputs, f"{prefix}outputs", dims[1], dtype)
    elif dims[0] != dims[1]:
        raise ValueError(
            f"{prefix}outputs may be left out where they are the inputs; received none, and input_dim {dims[0]} and "
            f"output_dim {dims[1]}"
        )
    paired(inputs, outputs, prefix)
    return inputs, outputs


def checked(rows: Any, what: str, channels: int, dtype: str) -> Rows:
    """Rows [T_i, C] of floats, checked one by one.

    Args:
        rows: a list of arrays [T_i, C], a `Ragged`, or an array [N, T, C].
        what: what errors call them.
        channels: C.
        dtype: of the floats.

    Raises:
        TypeError: something that is no collection of arrays, or a row that is not of real numbers.
        ValueError: no rows, or a row of another rank or of other channels, without steps, or with a number that is not
            finite; the message names the row.
    """
    if isinstance(rows, (str, bytes, dict)) or not isinstance(rows, Iterable):
        raise TypeError(
            f"{what} must be a list of arrays [T, C], a Ragged, an array [N, T, C] or a store; received {rows!r:.200}"
        )
    if isinstance(rows, np.ndarray) and rows.dtype != object and rows.ndim != 3:
        raise ValueError(f"{what} as one array must have shape [N, T, C]; received {rows.shape}")
    rows = rows.rows if isinstance(rows, Ragged) else list(rows)
    if not rows:
        raise ValueError(f"{what} must be one sequence at least; received none")
    return [_checked(row, f"{what}[{i}]", channels, dtype) for i, row in enumerate(rows)]


def _checked(row, name, channels, dtype):
    try:
        array = np.asarray(row)
    except Exception as error:
        raise TypeError(f"{name} must be an array [T, C]; received {type(row).__name__}: {error}") from error
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name} must hold real numbers; received dtype {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name} must have shape [T, C]; received {array.shape}")
    if array.shape[1] != channels:
        raise ValueError(f"{name} must have {channels} channels; received shape {array.shape}")
    if not len(array):
        raise ValueError(f"{name} must have one step at least; received shape {array.shape}")
    with np.errstate(over="ignore"):
        found = array.astype(dtype, copy=False)
    finite = np.isfinite(found)
    if not finite.all():
        step, channel = np.argwhere(~finite)[0]
        value = array[step, channel]
        wanted = f"numbers that {dtype} has" if np.isfinite(value) else "finite numbers"
        raise ValueError(f"{name} must hold {wanted}; received {value} at step {step}, channel {channel}")
    return found


def paired(inputs: Rows, outputs: Rows | None, prefix: str = "") -> None:
    """Refuse outputs that are not one for each input.

    Raises:
        ValueError: another number of them; the message names the first row without a partner.
    """
    if outputs is not None and len(inputs) != len(outputs):
        fewer = min(len(inputs), len(outputs))
        longer = "inputs" if len(inputs) > fewer else "outputs"
        raise ValueError(
            f"there must be one output for each input; received {len(inputs)} inputs and {len(outputs)} outputs: "
            f"{prefix}{longer}[{fewer}] has no partner"
        )
