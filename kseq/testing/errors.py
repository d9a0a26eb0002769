"""What the contract says, property by property, and the error that names the one that does not hold."""

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn

import keras
import numpy as np

from ..keras_errors import unframed

PROPERTIES = {
    "1": "output spec: values have the channel shape, dtype and length that the layer declares",
    "2": "layer and step agree: one step over everything gives what layer mode gives",
    "7": "rows are independent: another row's content changes nothing",
    "M": "mask rule: `output_mask` is the mask of layer mode",
    "K": "Keras call: a tensor with a mask gives what a Sequence gives",
    "N": "a layer that cannot step says why",
    "S1": "prefix invariance: leading invalid steps are as if absent",
    "S2": "chunking: any partition of a stream gives the same outputs",
    "S3": "ragged stepping: rows without new data are held",
    "S4": "row operations: outputs follow rows of the state that are moved, copied, replaced, split off and merged",
    "S5": "resume: a stream goes on from the bytes of its state alone",
    "S6": "state stability: every leaf has the batch first, and keeps its shape and dtype at every step",
    "S7": "latency: warm-up and whatever follows the last output are invalid, and no more is declared than needed",
    "S8": "poison: values at invalid steps reach neither valid outputs nor gradients",
    "S9": "room: a step takes no more of it than it has steps",
    "S10": "prefill: one long step in the middle of a stream equals many short ones, and so does a call from a state",
    "S11": "compiled and eager agree, and nothing is compiled twice",
    "S12": "rollback: a state goes on, bit for bit, as if its last steps had not been fed",
    "S13": "precision: the error against float64 is that of the dtype",
    "S14": "gradients: layer, step and finite differences agree, and all are finite",
    "S15": "receptive field: outputs depend on the declared inputs, no more and no fewer",
    "S16": "change of context: another one stands in the state as if the stream had begun with it, in its rows alone",
    "S17": "config: the layer round trips through JSON",
    "S20": "edges: one step, no step, no row, fewer steps than the receptive field or than a block",
}


class ContractError(AssertionError):
    """A property of the contract does not hold; the message names it, the position and the two values."""


def fail(key: str, message: str) -> NoReturn:
    """Raise the `ContractError` of a property."""
    raise ContractError(f"{key} ({PROPERTIES[key]}): {message}")


@contextlib.contextmanager
def attempt(key: str, what: str = "") -> Iterator[Any]:
    """Turn whatever is raised inside into the failure of a property."""
    try:
        yield
    except ContractError:
        raise
    except Exception as error:
        what = f"{what} raised" if what else "raised"
        raise ContractError(f"{key} ({PROPERTIES[key]}): {what} {said(error)}") from error


def said(error: Any) -> str:
    """What an error is and says."""
    return f"{type(error).__name__}: {unframed(error)}"


def numpy(x: Any) -> Any:
    """A tensor as NumPy, `None` as it is."""
    return None if x is None else np.asarray(keras.ops.convert_to_numpy(x))


def wide(x: Any) -> Any:
    """Values as float64, complex128 or int64, so that they can be compared whatever their dtype."""
    return x.astype("int64" if x.dtype.kind in "iub" else "complex128" if x.dtype.kind == "c" else "float64")


def expect_same(
    key: Any,
    found: Any,
    wanted: Any,
    what: Any,
    *,
    rtol: Any = 0.0,
    atol: Any = 0.0,
    where: Any = None,
    names: Any = ("received", "wanted"),
) -> None:
    """Fail at the worst position where two arrays differ by more than the tolerance, NaN being equal to nothing.

    Args:
        key: the property.
        found, wanted: arrays of equal shape.
        what: what they are.
        rtol, atol: tolerances; `atol` is relative to the largest finite value of `wanted`, if that is above 1.
        where: bool array, broadcast from the left, of the positions that count.
        names: how to call the two values.
    """
    if found.shape != wanted.shape:
        fail(key, f"{what}: shape {found.shape} ({names[0]}) against {wanted.shape} ({names[1]})")
    if not found.size:
        return
    a, b = wide(found), wide(wanted)
    counts = np.ones(a.shape, bool)
    if where is not None:
        counts = np.broadcast_to(where.reshape(where.shape + (1,) * (a.ndim - where.ndim)), a.shape)
        a, b = np.where(counts, a, 0), np.where(counts, b, 0)
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.abs(b[np.isfinite(b)])
        limit = atol * max(1.0, finite.max(initial=0)) + rtol * np.abs(b)
        bad = (a != b) & ~(np.abs(a - b) <= limit)
        if not bad.any():
            return
        excess = np.where(bad, np.nan_to_num(np.abs(a - b), nan=np.inf, posinf=np.inf), -1)
    at = np.unravel_index(np.argmax(excess), a.shape)
    position = [int(i) for i in at]
    fail(
        key,
        f"{what} at [batch, time, ...] = {position}: {found[at]} ({names[0]}) against {wanted[at]} ({names[1]}), "
        f"{int(bad.sum())} of {int(counts.sum())} values differ",
    )
