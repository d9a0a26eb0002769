"""Rows of unequal length for the inputs of a model: each alone, without padding, and all of them padded."""

import dataclasses
from typing import Any

import keras
import numpy as np

from ..model_graph import ModelGraph, Tensor, tensors

# How long rows are that are drawn: the first that the model takes, and that every stride leaves of unequal length.
STEPS = (16, 64, 256, 1024)
_UNKNOWN = 4  # channels that the model does not say
_IDS = 8  # whole numbers are drawn below, where no layer says what it takes


@dataclasses.dataclass(frozen=True, eq=False)
class InputRows:
    """The rows of one input of a model, the longest first.

    Attributes:
        rows: NumPy arrays, [T, ...] each, or of one shape where there is no time.
        has_time: whether the first axis of a row is time.
        padding: what padded steps hold.
        makes_mask: whether a layer that reads it makes the mask of it.
        has_mask: whether it is given with a mask of Keras's.
        is_mask: whether it is the mask of another input.
    """

    rows: tuple[Any, ...]
    has_time: bool
    padding: Any = 0
    makes_mask: bool = False
    has_mask: bool = False
    is_mask: bool = False

    def alone(self, row: int) -> Any:
        """One row as a batch."""
        return self.rows[row][None]

    @property
    def lengths(self) -> list[int]:
        return [len(row) for row in self.rows]

    def padded(self, padding: Any = None) -> Any:
        """All rows [B, T, ...], with this padding or its own."""
        if not self.has_time:
            return np.stack(self.rows)
        first = self.rows[0]
        values = np.full((len(self.rows), *first.shape), self.padding if padding is None else padding, first.dtype)
        for i, row in enumerate(self.rows):
            values[i, : len(row)] = row
        return values

    def mask(self) -> Any:
        """Which steps of `padded` are no padding, bool [B, T]."""
        return np.arange(max(self.lengths)) < np.array(self.lengths)[:, None]


def draw_rows(graph: ModelGraph, steps: int, readers: Any) -> dict[Tensor, InputRows]:
    """Random rows for each of a model's inputs: one of `steps` steps and a shorter one.

    Args:
        graph: of the model.
        steps: of the longer row, where the model's inputs say nothing.
        readers: function of a tensor that gives the layers that read it, those within nested models included.

    Raises:
        ValueError: an input that nothing can be drawn for.
    """
    rng = np.random.default_rng(0)
    timed = timed_inputs(graph)
    if not timed:
        raise ValueError(f"padding needs an input with a time axis; received inputs of {_shapes(graph)}")

    def draw(t):
        name = graph.input_layers[t].name
        if t.dtype == "string" or getattr(graph.input_layers[t], "sparse", False):
            raise ValueError(f"no rows can be drawn for the input {name!r}, of {t.dtype}; give them as `x`")
        own_time, *channels = t.shape[1:] or (None,)
        length = own_time if t in timed and own_time is not None else steps
        if t in timed and length < 2:
            raise ValueError(f"the input {name!r} has {length} time step; padding needs rows of 2 or more")
        shape = tuple(_UNKNOWN if size is None else size for size in channels)
        shape = (length, *shape) if t in timed else tuple(_UNKNOWN if size is None else size for size in t.shape[1:])
        padding, makes_mask = padding_of(readers(t))
        lengths = (length, shorter(length)) if t in timed else (None, None)
        rows = tuple(_draw(rng, t, shape, readers(t))[:n] for n in lengths)
        return InputRows(rows, t in timed, padding, makes_mask, is_mask=t in timed and t.is_mask)

    return {t: draw(t) for t in tensors(graph.inputs)}


def _shapes(graph):
    return " and ".join(str(tuple(t.shape)) for t in tensors(graph.inputs))


def timed_inputs(graph):
    """The inputs with a time axis: those of unknown length or, where all lengths are known, all that may have one."""
    given = list(tensors(graph.inputs))
    unknown = {t for t in given if len(t.shape) > 1 and t.shape[1] is None}
    return unknown or {t for t in given if len(t.shape) > 2 or (len(t.shape) == 2 and t.dtype.startswith("int"))}


def shorter(length):
    """A length well below another, and odd: strides that divide the longer one leave a part of the shorter."""
    return min(length - 1, length * 11 // 16 | 1)


def _draw(rng, t, shape, read_by):
    if t.dtype == "bool":
        return np.ones(shape, bool)
    if t.dtype.startswith(("int", "uint")):
        limits = [n for layer in read_by if (n := getattr(layer, "input_dim", None))]
        return rng.integers(1, max(2, min(limits, default=_IDS)), shape).astype(t.dtype)
    return rng.normal(size=shape).astype("float32" if t.dtype == "bfloat16" else t.dtype)


def padding_of(layers):
    """What the layers that read an input take for padding, and whether one of them makes the mask of it."""
    for layer in layers:
        if isinstance(layer, keras.layers.Masking):
            return layer.mask_value, True
        if getattr(layer, "mask_zero", False):
            return 0, True
    return 0, False
