"""Layers that reduce channel axes, or an axis to an index and back."""

from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from ...annotations import LayerOptions, Shape
from ...arguments import as_size
from ...hints import is_exporting
from ...registry import register
from ..axes import as_axes, channel_axes
from ..base import Example
from ..complex_values import is_complex
from .base import PointwiseLayer, dtype_of

# Integers that their sums would soon outgrow.
_SMALL = ("bool", "int8", "int16", "uint8", "uint16")


class Reduction(PointwiseLayer):
    """A function of channels along axes, which are no more than one long then, or are no more."""

    axis: int | tuple[int, ...] | None
    keepdims: bool

    def __init__(
        self, axis: int | tuple[int, ...] | None = -1, keepdims: bool = False, **kwargs: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**kwargs)
        self.axis, self.keepdims = as_axes(axis), keepdims

    def reduce(self, values: Any, axes: tuple[int, ...]) -> Any:
        """The values along some axes, of which there is one at least, as one, with an axis of size one for each."""
        raise NotImplementedError

    def _axes(self, rank):
        return tuple(range(2, rank)) if self.axis is None else channel_axes(self.axis, rank)

    def output_channels(self, channels: Shape) -> Shape:
        axes = self._axes(2 + len(channels))
        kept = ((1 if i in axes else size) for i, size in enumerate(channels, 2) if self.keepdims or i not in axes)
        return tuple(kept)

    def call_values(self, values: Any, training: bool = False) -> Any:
        values = ops.cast(values, self.output_dtype(dtype_of(values)))
        axes = self._axes(len(values.shape))
        y = self.reduce(values, axes) if axes else values
        return y if self.keepdims or not axes else ops.squeeze(y, axis=axes)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"axis": (2, -1)}, (4, 12, 2, 3)), Example({"keepdims": True}, (4, 12, 2, 3))]


@register
class Mean(Reduction):
    """The mean over channels.  [B, T, ..., C] -> [B, T, ...].

    Integers become floats; complex numbers stay complex. Mask: unchanged. Timing: none.

    Args:
        axis: channel axis or axes (batch is 0, time 1; negative ones count from the end), or `None` for all.
        keepdims: whether they stay, of size one.

    Raises:
        ValueError: an axis that is no channel axis.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Mean()(np.array([[[1.0, 2.0]]], "float32"))).tolist()
        [[1.5]]
    """

    takes_complex = True

    def output_dtype(self, dtype: str) -> str:
        return dtype if is_complex(dtype) or keras.backend.is_float_dtype(dtype) else self.compute_dtype

    def reduce(self, values: Any, axes: tuple[int, ...]) -> Any:
        return ops.mean(values, axis=axes, keepdims=True)


@register
class Sum(Reduction):
    """The sum over channels.  [B, T, ..., C] -> [B, T, ...].

    Integers of less than 32 bits become int32. Mask: unchanged. Timing: none.

    Args:
        axis: channel axis or axes (batch is 0, time 1; negative ones count from the end), or `None` for all.
        keepdims: whether they stay, of size one.

    Raises:
        ValueError: an axis that is no channel axis.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Sum()(np.array([[[1.0, 2.0]]], "float32"))).tolist()
        [[3.0]]
    """

    takes_complex = True

    def output_dtype(self, dtype: str) -> str:
        return "int32" if dtype in _SMALL else dtype

    def reduce(self, values: Any, axes: tuple[int, ...]) -> Any:
        return ops.sum(values, axis=axes, keepdims=True)


class Extreme(Reduction):
    """A reduction to one of the numbers that are there."""

    def output_dtype(self, dtype: str) -> str:
        if dtype == "bool":
            raise TypeError(f"{self.name} ({type(self).__name__}) takes numbers; received bool")
        return dtype


@register
class Max(Extreme):
    """The largest of channels.  [B, T, ..., C] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        axis: channel axis or axes (batch is 0, time 1; negative ones count from the end), or `None` for all.
        keepdims: whether they stay, of size one.

    Raises:
        ValueError: an axis that is no channel axis.
        TypeError: complex numbers, or truth values.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Max()(np.array([[[1.0, 2.0]]], "float32"))).tolist()
        [[2.0]]
    """

    def reduce(self, values: Any, axes: tuple[int, ...]) -> Any:
        return ops.max(values, axis=axes, keepdims=True)


@register
class Min(Extreme):
    """The smallest of channels.  [B, T, ..., C] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        axis: channel axis or axes (batch is 0, time 1; negative ones count from the end), or `None` for all.
        keepdims: whether they stay, of size one.

    Raises:
        ValueError: an axis that is no channel axis.
        TypeError: complex numbers, or truth values.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Min()(np.array([[[1.0, 2.0]]], "float32"))).tolist()
        [[1.0]]
    """

    def reduce(self, values: Any, axes: tuple[int, ...]) -> Any:
        return ops.min(values, axis=axes, keepdims=True)


@register
class Argmax(PointwiseLayer):
    """The index of the largest along the last axis, the first of equals.  [B, T, ..., C] -> int32 [B, T, ...].

    Mask: unchanged. Timing: none.

    Raises:
        ValueError: values without channels.
        TypeError: complex numbers.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Argmax()(np.array([[[1.0, 2.0]]], "float32"))).tolist()
        [[1]]
    """

    def output_channels(self, channels: Shape) -> Shape:
        channel_axes(-1, 2 + len(channels))
        return channels[:-1]

    def output_dtype(self, dtype: str) -> str:
        return "int32"

    def call_values(self, values: Any, training: bool = False) -> Any:
        self.output_channels(tuple(values.shape[2:]))
        values = ops.cast(values, "int32") if dtype_of(values) == "bool" else values
        if is_exporting():  # without what Keras does there to floats bit by bit
            values = ops.cast(values == ops.max(values, axis=-1, keepdims=True), "int32")
        return ops.cast(ops.argmax(values, axis=-1), "int32")


@register
class OneHot(PointwiseLayer):
    """Integers as vectors of zeros with a one at their index.  int [B, T, ...] -> [B, T, ..., depth].

    An index outside 0 to `depth - 1` gives zeros alone. Mask: unchanged. Timing: none.

    Args:
        depth: size of the vectors.

    Raises:
        ValueError: a `depth` below 1.
        TypeError: values that are not integers.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.OneHot(3)(np.array([[1, 5]], "int32"))).tolist()
        [[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]
    """

    depth: int

    def __init__(self, depth: int, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.depth = as_size("depth", depth)

    def output_channels(self, channels: Shape) -> Shape:
        return (*channels, self.depth)

    def output_dtype(self, dtype: str) -> str:
        return self.compute_dtype

    def call_values(self, values: Any, training: bool = False) -> Any:
        dtype = dtype_of(values)
        if not keras.backend.is_int_dtype(dtype):
            raise TypeError(f"{self.name} (OneHot) takes integers; received {dtype}")
        # No backend's own function, since they differ where an index is outside. Small integers may not hold the last.
        dtype = "int32" if dtype in _SMALL else dtype
        indices = ops.convert_to_tensor(np.arange(self.depth), dtype=dtype)
        found = ops.equal(ops.expand_dims(ops.cast(values, dtype), -1), indices)
        return ops.cast(found, self.compute_dtype)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"depth": 3}, (4, 12), "int32"), Example({"depth": 5}, (4, 12), "int32")]
