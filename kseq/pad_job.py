"""One padding on the host: its arguments checked, and made what the kernels take."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kseq.arguments import as_integer
from kseq.rows import check_dtype


class PadJob:
    """The checked arguments of one padding: the arrays to fill and what to fill them with."""

    values: NDArray[Any]
    mask: NDArray[np.bool_]
    arguments: tuple[Any, ...]

    def __init__(
        self,
        lengths: NDArray[np.int64],
        trailing: Any,
        dtype: Any,
        length: Any,
        multiple_of: Any,
        value: Any,
        side: Any,
        truncate: Any,
        out: Any,
    ) -> None:
        if side not in ("left", "right"):
            raise ValueError(f'side must be "left" or "right"; received {side!r}')
        if truncate not in (None, "left", "right"):
            raise ValueError(f'truncate must be None, "left" or "right"; received {truncate!r}')
        values, mask = out if isinstance(out, (tuple, list)) and len(out) == 2 else (out, None)
        if length is None and isinstance(values, np.ndarray) and values.ndim > 1:
            length = values.shape[1]
        target = _target(lengths, length, multiple_of, truncate)
        self.values = _output("out", values, (len(lengths), target, *trailing), dtype)
        self.mask = _output("the mask of out", mask, (len(lengths), target), np.dtype(bool))
        if out is not None and overlap(self.values, self.mask):
            raise ValueError("out must be two arrays that do not share memory; received two that do")
        fill = _fill_bytes(value, dtype)
        self.arguments = self.values, self.mask.view(np.uint8), fill, side == "left", truncate == "left"


def _target(lengths, length, multiple_of, truncate):
    """The time of the batch; refuses rows that are longer unless they are truncated."""
    longest = int(lengths.max(initial=0))
    target = longest if length is None else as_integer("length", length, 0)
    if multiple_of is not None:
        multiple_of = as_integer("multiple_of", multiple_of, 1)
        target = -(-target // multiple_of) * multiple_of
    if longest > target and truncate is None:
        raise ValueError(
            f"rows must have at most {target} steps (or pass truncate); "
            f"received row {int(lengths.argmax())} with {longest} steps"
        )
    return target


def _output(name, array, shape, dtype):
    """`array` if it is as wanted, a new one if it is None."""
    if array is None:
        return np.empty(shape, dtype)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array; received {type(array).__name__}")
    if array.dtype != dtype:
        raise TypeError(f"{name} must have dtype {dtype}; received {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}; received {array.shape}")
    if not array.flags.c_contiguous or not array.flags.writeable:
        kind = "a read-only" if array.flags.c_contiguous else "a non-contiguous"
        raise ValueError(f"{name} must be C-contiguous and writeable; received {kind} array")
    return array


def overlap(a: Any, b: Any) -> bool:
    """Whether two contiguous arrays share memory."""
    return np.may_share_memory(a, b)  # both contiguous, so that comparing bounds is exact


def _fill_bytes(value, dtype):
    """The bytes of the padding value, uint8 [itemsize]; refuses a value that the dtype cannot hold."""
    if type(value) is int and value == 0:
        return np.zeros(dtype.itemsize, np.uint8)
    given = np.asarray(value)
    if given.ndim:
        raise ValueError(f"value must be a scalar; received shape {given.shape}")
    check_dtype(given.dtype, "value")
    stored = None
    if given.dtype.kind != "c" or dtype.kind == "c":
        with np.errstate(all="ignore"):
            stored = given.astype(dtype)
    if dtype.kind in "biu":
        held = stored is not None and bool(stored == given)
    else:
        held = stored is not None and bool(np.isfinite(stored) or not np.isfinite(given))
    if stored is None or not held:
        raise ValueError(f"value must be one that {dtype} can hold; received {value!r}")
    return stored.reshape(1).view(np.uint8)
