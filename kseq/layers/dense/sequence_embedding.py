"""`SequenceEmbedding`: a table of vectors of its own for each step."""

import math
from typing import Any, Unpack

import keras
import numpy as np
from keras import ops

from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ...sequence import Sequence, SequenceSpec
from ..base import Example
from ..counting import Counted
from .numbered import NumberedLayer, StepPlaces


@register
class SequenceEmbedding(NumberedLayer):
    """A learned vector per integer, from a table of its own for each step.  int [B, T, ...] -> [B, T, ..., output_dim].

    Mask: unchanged; which step of its row a step is is counted in valid steps. Timing: none, but that an output depends
    on how many valid steps came before. State: the position of the next step. The tables are one weight, one after the
    other.
    Source: google/sequence-layers, `SequenceEmbedding`.

    Args:
        input_dim: number of vectors of a step, or a list of these numbers, one for each step. An integer that is not
            from 0 to below its step's number has NaN.
        output_dim: their size.
        num_steps: steps that a row may have; a valid one beyond them is an error.
        multiple_of: what the number of vectors of all steps together is rounded up to a multiple of, with vectors that
            are never read.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: as in Keras.
        positions: `"valid"` counts valid steps, `"all"` all steps from the first valid one on.

    Raises:
        ValueError: sizes below 1, as many numbers as there are no steps, or more steps than `num_steps`: where values
            are not known, while a call is traced, outputs beyond them are NaN.
        TypeError: values that are not integers.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.SequenceEmbedding([4, 6], 3, num_steps=2)(np.array([[3, 5]], "int32")).shape
        (1, 2, 3)
    """

    multiple_of: int

    takes_any_channels = True

    input_dim: Any
    output_dim: int
    embeddings: Any

    def __init__(
        self,
        input_dim: int | list[int],
        output_dim: int,
        num_steps: int,
        multiple_of: int = 1,
        embeddings_initializer: InitializerLike = "uniform",
        embeddings_regularizer: RegularizerLike = None,
        embeddings_constraint: ConstraintLike = None,
        positions: Counted = "valid",
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.check_steps_and_positions()
        self.output_dim = as_size("output_dim", output_dim)
        self.multiple_of = as_size("multiple_of", multiple_of)
        if isinstance(input_dim, (list, tuple)):
            self.input_dim = [as_size("input_dim", size) for size in input_dim]
            if len(self.input_dim) != self.num_steps:
                raise ValueError(
                    f"`input_dim` must be a number or one for each of {self.num_steps} steps; received "
                    f"{len(self.input_dim)} of them"
                )
        else:
            self.input_dim = as_size("input_dim", input_dim)

    @property
    def _sizes(self):
        """Vectors of each step."""
        return np.broadcast_to(np.asarray(self.input_dim, "int32"), self.num_steps)

    def build(self, input_shape: Shape) -> None:
        rows = math.ceil(int(self._sizes.sum()) / self.multiple_of) * self.multiple_of
        self.embeddings = self.add_parameter("embeddings", (rows, self.output_dim))

    def output_spec(self, input_spec: SequenceSpec) -> SequenceSpec:
        return SequenceSpec((*input_spec.shape, self.output_dim), self.compute_dtype)

    def call_numbered(self, x: Sequence, places: StepPlaces, state: Any) -> tuple[Any, Any]:
        dtype = keras.backend.standardize_dtype(x.values.dtype)
        if not keras.backend.is_int_dtype(dtype):
            raise TypeError(f"{self._named} takes integers; received {dtype}")
        values = ops.cast(x.values, "int32")
        sizes = self._sizes
        own, first = (self._at(table, places, values) for table in (sizes, np.cumsum(sizes) - sizes))
        there = ops.logical_and(values >= 0, values < own)
        y = ops.take(self.weight(self.embeddings), ops.where(there, values + first, 0), axis=0)
        return ops.where(there[..., None], y, ops.cast(math.nan, y.dtype)), {}

    def _at(self, table, places, values):
        """What a table has of each step, with an axis for each of the values' channels."""
        found = ops.take(ops.convert_to_tensor(table.astype("int32")), places.index, axis=0)
        for _ in range(len(values.shape) - 2):
            found = ops.expand_dims(found, -1)
        return found

    @classmethod
    def examples(cls) -> list[Example]:
        sizes = {"output_dim": 3, "num_steps": 14}
        return [
            Example(sizes | {"input_dim": 5}, (4, 12), "int32"),
            Example(
                sizes | {"input_dim": [4 + n % 3 for n in range(40)], "num_steps": 40, "positions": "all"},
                (4, 12, 2),
                "int32",
            ),
        ]
