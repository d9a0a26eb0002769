"""Functions of numbers: absolute values, exponentials, logarithms, powers."""

from typing import Any, Unpack

from keras import ops

from ...annotations import LayerOptions
from ...registry import register
from ..base import Example
from ..complex_values import is_complex
from .base import PointwiseLayer, RealFunction, dtype_of

_REAL_PARTS = {"complex64": "float32", "complex128": "float64"}


@register
class Abs(PointwiseLayer):
    """Absolute values: of complex numbers real ones, of integers integers.  [B, T, ...] -> [B, T, ...].

    The gradient at a complex zero is zero. Mask: unchanged. Timing: none.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Abs()(np.full((1, 1, 1), 3 - 4j, "complex64"))).tolist()
        [[[5.0]]]
    """

    takes_complex = True

    def output_dtype(self, dtype: str) -> str:
        return _REAL_PARTS.get(dtype, dtype)

    def call_values(self, values: Any, training: bool = False) -> Any:
        if not is_complex(dtype_of(values)):
            return ops.abs(values)
        # Backends do not agree on the gradient at zero, and some have none there.
        zero = ops.equal(values, 0)
        return ops.where(zero, 0.0, ops.abs(ops.where(zero, ops.ones_like(values), values)))


@register
class Exp(RealFunction):
    """Exponentials.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Exp()(np.zeros((1, 1, 1), "float32"))).tolist()
        [[[1.0]]]
    """

    def function(self, x: Any) -> Any:
        return ops.exp(x)


@register
class Log(RealFunction):
    """Natural logarithms.  [B, T, ...] -> [B, T, ...].

    Of valid zeros they are minus infinity, as they are of zeros anywhere: put a `Clip` or a `Translate` in front. What
    stands at invalid steps does no harm, to gradients neither. Mask: unchanged. Timing: none.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Log()(np.ones((1, 1, 1), "float32"))).tolist()
        [[[0.0]]]
    """

    invalid_value: float | None = 1

    def function(self, x: Any) -> Any:
        return ops.log(x)

    @classmethod
    def examples(cls) -> list[Example]:
        return []  # of random numbers half have none


@register
class Power(RealFunction):
    """Values to the power of a number.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        power: the exponent.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Power(-2)(np.full((1, 1, 1), 0.5, "float32"))).tolist()
        [[[4.0]]]
    """

    power: float

    invalid_value: float | None = 1  # where no power is infinite, nor its derivative

    def __init__(self, power: float = 1.0, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def function(self, x: Any) -> Any:
        return ops.power(x, self.power)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"power": 3}), Example({"power": 2})]
