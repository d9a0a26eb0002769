"""`Sequence`: values with the mask that says which steps are valid."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from .ragged import Ragged


class SequenceSpec(NamedTuple):
    """The channel shape (without batch and time) and the dtype of a sequence."""

    shape: tuple[int, ...]
    dtype: str = "float32"


class Sequence(NamedTuple):
    """A batch of sequences: values [B, T, ...] and a bool mask [B, T], True where a step is valid.

    A mask of `None` means that every step is valid: then no mask arithmetic is done at all. Values and mask are tensors
    of the backend or NumPy arrays; methods return the kind that they were given. It is a `NamedTuple`, so indexing and
    unpacking are those of a pair; time is sliced by `slice_time`.

    Example:
        >>> import numpy as np
        >>> x = Sequence.from_lengths(np.ones((2, 3, 1), "float32"), [3, 1])
        >>> x.mask.tolist()
        [[True, True, True], [True, False, False]]
        >>> x.mask_invalid().values[..., 0].tolist()
        [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    """

    values: Any
    mask: Any = None

    @classmethod
    def from_values(cls, values: Any) -> "Sequence":
        """A sequence whose every step is valid."""
        return cls(values).check()

    @classmethod
    def from_lengths(cls, values: Any, lengths: Any) -> "Sequence":
        """A sequence whose row `b` is valid in its first `lengths[b]` steps.

        Raises:
            ValueError: lengths of another shape than [B], or (where they are known) outside 0 to T.
        """
        np_ = _module(values)
        if np_ is np:
            lengths = np.asarray(lengths)
            if len(lengths) and (lengths.min() < 0 or lengths.max() > values.shape[1]):
                raise ValueError(f"lengths must be from 0 to {values.shape[1]}; received {lengths.tolist()}")
        if tuple(np.shape(lengths)) != (values.shape[0],):
            raise ValueError(f"lengths must have shape ({values.shape[0]},); received {tuple(np.shape(lengths))}")
        steps = np_.arange(0, values.shape[1])
        return cls(values, steps[None, :] < np_.reshape(lengths, (-1, 1))).check()

    @classmethod
    def from_ragged(cls, ragged: Any, **pad_options: Any) -> "Sequence":
        """Pad a `kseq.ragged.Ragged` or a list of arrays [T_i, ...] on the host; options are those of `kseq.pad`."""
        from .ragged import pad

        return cls(*pad(ragged, **pad_options))

    @staticmethod
    def concatenate(sequences: Iterable["Sequence"]) -> "Sequence":
        """Join sequences one after the other in time."""
        sequences = list(sequences)
        np_ = _module(sequences[0].values)
        values = np_.concatenate([s.values for s in sequences], axis=1)
        if all(s.mask is None for s in sequences):
            return Sequence(values)
        return Sequence(values, np_.concatenate([s.with_mask().mask for s in sequences], axis=1))

    @property
    def spec(self) -> SequenceSpec:
        """Channel shape and dtype."""
        return SequenceSpec(tuple(self.values.shape[2:]), _dtype_name(self.values))

    def check(self) -> "Sequence":
        """Return the sequence itself if its parts fit together.

        Raises:
            ValueError: values of rank below 2, or a mask whose shape is not [B, T].
            TypeError: a mask that is not bool.
        """
        shape = getattr(self.values, "shape", None)
        if shape is None or len(shape) < 2:
            raise ValueError(
                f"values must have shape [batch, time, ...]; received "
                f"{type(self.values).__name__ if shape is None else f'shape {tuple(shape)}'}"
            )
        if self.mask is not None:
            if _dtype_name(self.mask) != "bool":
                raise TypeError(f"mask must be bool; received {_dtype_name(self.mask)}")
            mask_shape = tuple(self.mask.shape)
            known = [isinstance(m, int) and isinstance(v, int) for m, v in zip(mask_shape, shape, strict=False)]
            if len(mask_shape) != 2 or any(k and m != v for k, m, v in zip(known, mask_shape, shape[:2], strict=True)):
                raise ValueError(
                    f"mask must have the shape [batch, time] of the values, {tuple(shape[:2])}; received {mask_shape}"
                )
        return self

    def with_mask(self) -> "Sequence":
        """The same sequence with a mask that is an array."""
        if self.mask is not None:
            return self
        if isinstance(self.values, np.ndarray):
            return Sequence(self.values, np.ones(self.values.shape[:2], bool))
        ops = _module(self.values)
        return Sequence(self.values, ops.ones(ops.shape(self.values)[:2], dtype="bool"))

    def lengths(self) -> Any:
        """Valid steps of each row, int32 [B]."""
        mask = self.with_mask().mask
        if isinstance(mask, np.ndarray):
            return mask.sum(1, dtype="int32")
        ops = _module(mask)
        return ops.sum(ops.cast(mask, "int32"), axis=1)

    def expanded_mask(self) -> Any:
        """The mask with a unit axis per channel axis, or `None`."""
        if self.mask is None:
            return None
        np_ = _module(self.mask)
        # expand_dims, not reshape: batch and time may be unknown while a graph is traced.
        mask = self.mask
        for _ in range(len(self.values.shape) - 2):
            mask = np_.expand_dims(mask, -1)
        return mask

    def mask_invalid(self, value: float = 0) -> "Sequence":
        """Set the values of invalid steps to `value`; their gradients become zero, whatever was there before."""
        if self.mask is None:
            return self
        if isinstance(self.values, np.ndarray):
            return Sequence(np.where(self.expanded_mask(), self.values, self.values.dtype.type(value)), self.mask)
        ops = _module(self.values)
        fill = ops.cast(value, self.values.dtype)
        return Sequence(ops.where(self.expanded_mask(), self.values, fill), self.mask)

    def pad_time(self, left: int, right: int, *, valid: bool = False, value: float = 0) -> "Sequence":
        """Add `left` and `right` steps of `value`, invalid unless `valid`."""
        if isinstance(left, int) and isinstance(right, int) and left == right == 0:
            return self
        np_ = _module(self.values)
        channels = [(0, 0)] * (len(self.values.shape) - 2)
        values = np_.pad(self.values, [(0, 0), (left, right), *channels], constant_values=value)
        if self.mask is None and valid:
            return Sequence(values)
        return Sequence(values, np_.pad(self.with_mask().mask, [(0, 0), (left, right)], constant_values=valid))

    def slice_time(self, start: Any = None, stop: Any = None, step: Any = None) -> "Sequence":
        """The steps `start:stop:step` of every row."""
        cut = slice(start, stop, step)
        return Sequence(self.values[:, cut], None if self.mask is None else self.mask[:, cut])

    def astype(self, dtype: Any) -> "Sequence":
        """Cast the values."""
        if isinstance(self.values, np.ndarray):
            return Sequence(self.values.astype(dtype), self.mask)
        return Sequence(_module(self.values).cast(self.values, dtype), self.mask)

    def apply(self, fn: Callable[[Any], Any]) -> "Sequence":
        """Apply a function of the values that keeps batch and time; the mask stays."""
        return Sequence(fn(self.values), self.mask)

    def to_ragged(self) -> "Ragged":
        """The valid steps of each row as a `kseq.ragged.Ragged`, on the host."""
        from .ragged import flatten

        return flatten(*(_to_numpy(part) for part in self.with_mask()))


def _module(x) -> Any:
    """NumPy for its arrays, `keras.ops` for anything else: Keras is loaded by the first tensor, never by an array."""
    if isinstance(x, np.ndarray):
        return np
    from keras import ops

    return ops


def _dtype_name(x) -> str:
    if isinstance(x, np.ndarray):
        return x.dtype.name
    from keras.backend import standardize_dtype

    return standardize_dtype(x.dtype)


def _to_numpy(x):
    return x if isinstance(x, np.ndarray) else _module(x).convert_to_numpy(x)
