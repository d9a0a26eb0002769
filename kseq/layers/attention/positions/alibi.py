"""Attention with linear biases."""

import dataclasses
from typing import Any

import keras
from keras import ops

from ....registry import register_position
from ...complex_values import real_dtype
from ...position_scheme import Position


@register_position
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AlibiPosition(Position):
    """Lowers what a query and a key have in common in proportion to their distance (ALiBi), without weights.

    The bias of head `h` of H is `-slope * abs(distance)`, with `slope = 2 ** (-8 (h + 1) / H)` where H is a power of
    two. Otherwise the heads up to the power of two below have its slopes, and the others every second slope of the
    power of two above, as in the authors' code. Where the future is visible it counts like the past.
    Source: Press et al., 2022, "Train Short, Test Long: Attention with Linear Biases Enables Input Length
    Extrapolation".

    Example:
        >>> import kseq
        >>> kseq.AlibiPosition.slopes(3)
        [0.0625, 0.00390625, 0.25]
    """

    uses_distance = True

    @staticmethod
    def slopes(num_heads: int) -> list[float]:
        """The slope of each head."""
        power = 2 ** (num_heads.bit_length() - 1)
        below, above = ([2 ** (-8 * i / count) for i in range(1, count + 1)] for count in (power, 2 * power))
        return below + above[::2][: num_heads - power]

    def bias(self, weights: dict[str, Any], query: Any, distance: Any) -> Any:
        dtype = keras.backend.standardize_dtype(query.dtype)
        # No bias overflows: slopes are below 1, and in half precision as many steps are out of sight at any slope.
        most = 2**15 if dtype == "float16" else 2**30
        steps = ops.abs(ops.clip(distance, -most, most))
        wide = real_dtype(dtype)
        # An exporter's sizes are no numbers of Python's.
        slopes = ops.convert_to_tensor(self.slopes(int(query.shape[-3])), dtype=wide)
        return ops.cast(-slopes[:, None, None] * ops.cast(steps, wide)[..., None, :, :], dtype)
