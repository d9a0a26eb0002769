"""What a layer under test reads beside its input, and what Keras knows of its output."""

from typing import Any

import keras

from ..sequence import Sequence


def draw_context(rng: Any, layer: Any, batch: int, shapes: dict[str, Any]) -> dict[str, Sequence]:
    """By name what is read as context, for every row.

    Sequences of the shape [time, ...] have random lengths of at least one step, the first row is a whole one; what is
    the same for all steps is an array of its shape.
    """
    found = {}
    for name, shape in shapes.items():
        values = rng.standard_normal((batch, *shape)).astype("float32")
        if name in layer.static_context:
            found[name] = Sequence(values)
            continue
        lengths = rng.integers(1, shape[0] + 1, batch)
        lengths[0] = shape[0]
        found[name] = Sequence.from_lengths(values, lengths)
    return found


def rows_of(x: Sequence, rows: Any) -> Sequence:
    """Some rows of a sequence."""
    return Sequence(x.values[rows], None if x.mask is None else x.mask[rows])


class KerasMask(keras.layers.Layer):
    """Gives the mask that Keras has put on a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.supports_masking = True

    def call(self, x: Any, mask: Any = None) -> Any:
        return mask
