"""Activation functions without weights, each as a layer: those of Keras under its names and with its arguments."""

from typing import Any, Unpack

import keras
from keras import ops

from ...annotations import LayerOptions, Shape
from ...registry import register
from ..axes import as_axes, channel_axes
from ..base import Example
from .base import RealFunction, dtype_of


@register
class ReLU(RealFunction):
    """The part above zero, or above a threshold.  [B, T, ...] -> [B, T, ...].

    Integers stay integers where only the part above zero is asked for. Mask: unchanged. Timing: none.

    Args:
        max_value: the largest output, or `None`.
        negative_slope: slope below the threshold.
        threshold: what values must reach.

    Raises:
        ValueError: a negative argument.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.ReLU(max_value=6)(np.array([[[-1.0], [9.0]]], "float32")))[0, :, 0].tolist()
        [0.0, 6.0]
    """

    max_value: float | None
    negative_slope: float
    threshold: float

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("max_value", max_value), ("negative_slope", negative_slope), ("threshold", threshold)):
            _check_not_negative(name, value, optional=name == "max_value")
        self.keep(locals())

    def output_dtype(self, dtype: str) -> str:
        return dtype if self._is_plain and dtype != "bool" else self.float_of(dtype)

    @property
    def _is_plain(self):
        return self.max_value is None and not self.negative_slope and not self.threshold

    def call_values(self, values: Any, training: bool = False) -> Any:
        if self._is_plain and dtype_of(values) != "bool":
            return ops.relu(values)
        return super().call_values(values, training)

    def function(self, x: Any) -> Any:
        return keras.activations.relu(
            x, negative_slope=self.negative_slope, max_value=self.max_value, threshold=self.threshold
        )

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"max_value": 1.5, "negative_slope": 0.2, "threshold": 0.1}), Example({})]


@register
class LeakyReLU(RealFunction):
    """Values, those below zero times a slope.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        negative_slope: slope below zero.

    Raises:
        ValueError: a negative slope.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.LeakyReLU(0.5)(np.array([[[-1.0], [2.0]]], "float32")))[0, :, 0].tolist()
        [-0.5, 2.0]
    """

    negative_slope: float

    def __init__(self, negative_slope: float = 0.3, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        _check_not_negative("negative_slope", negative_slope)
        self.keep(locals())

    def function(self, x: Any) -> Any:
        return ops.leaky_relu(x, negative_slope=self.negative_slope)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({}), Example({"negative_slope": 0.1})]


@register
class ELU(RealFunction):
    """Values, those below zero as `alpha * (exp(x) - 1)`.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.  Source: Clevert, Unterthiner and Hochreiter, 2015, "Fast and Accurate Deep Network
    Learning by Exponential Linear Units".

    Args:
        alpha: minus the limit below zero.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.ELU()(np.array([[[-100.0], [2.0]]], "float32")))[0, :, 0].tolist()
        [-1.0, 2.0]
    """

    alpha: float

    def __init__(self, alpha: float = 1.0, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def function(self, x: Any) -> Any:
        return ops.elu(x, alpha=self.alpha)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({}), Example({"alpha": 0.5})]


@register
class Softmax(RealFunction):
    """Exponentials that sum to one over channels.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        axis: channel axis, or axes, over which they sum to one.

    Raises:
        ValueError: an axis that is no channel axis.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Softmax()(np.zeros((1, 1, 4), "float32"))).tolist()
        [[[0.25, 0.25, 0.25, 0.25]]]
    """

    axis: int | tuple[int, ...]

    def __init__(self, axis: int | tuple[int, ...] = -1, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.axis = as_axes(axis)

    def output_channels(self, channels: Shape) -> Shape:
        channel_axes(self.axis, 2 + len(channels))
        return channels

    def function(self, x: Any) -> Any:
        axes = channel_axes(self.axis, len(x.shape))
        if len(axes) == 1:
            return ops.softmax(x, axis=axes[0])
        # Keras's, of several axes, has to know how many steps there are.
        y = ops.exp(x - ops.stop_gradient(ops.max(x, axis=axes, keepdims=True)))
        return y / ops.sum(y, axis=axes, keepdims=True)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"axis": (2, 3)}, (4, 12, 2, 3)), Example({}, (4, 12, 2, 3))]


@register
class GELU(RealFunction):
    """Values times the probability that a normal variable is below them.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.  Source: Hendrycks and Gimpel, 2016, "Gaussian Error Linear Units".

    Args:
        approximate: whether to compute it by a hyperbolic tangent.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.GELU()(np.array([[[0.0], [9.0]]], "float32")))[0, :, 0].tolist()
        [0.0, 9.0]
    """

    approximate: bool

    def __init__(self, approximate: bool = True, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def function(self, x: Any) -> Any:
        return ops.gelu(x, approximate=self.approximate)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({}), Example({"approximate": False})]


@register
class Sigmoid(RealFunction):
    """`1 / (1 + exp(-x))`.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Sigmoid()(np.zeros((1, 1, 1), "float32"))).tolist()
        [[[0.5]]]
    """

    def function(self, x: Any) -> Any:
        return ops.sigmoid(x)


@register
class Softplus(RealFunction):
    """`log(1 + exp(x))`.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Softplus()(np.full((1, 1, 1), 50, "float32"))).tolist()
        [[[50.0]]]
    """

    def function(self, x: Any) -> Any:
        return ops.softplus(x)


@register
class Swish(RealFunction):
    """`x * sigmoid(x)`, also known as SiLU.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.  Source: Ramachandran, Zoph and Le, 2017, "Searching for Activation Functions".

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Swish()(np.array([[[0.0], [50.0]]], "float32")))[0, :, 0].tolist()
        [0.0, 50.0]
    """

    def function(self, x: Any) -> Any:
        return ops.silu(x)


@register
class Tanh(RealFunction):
    """The hyperbolic tangent.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Tanh()(np.array([[[0.0], [50.0]]], "float32")))[0, :, 0].tolist()
        [0.0, 1.0]
    """

    def function(self, x: Any) -> Any:
        return ops.tanh(x)


def _check_not_negative(name, value, optional=False):
    if not (optional if value is None else value >= 0):
        raise ValueError(f"`{name}` must not be negative{'' if optional else ' or None'}; received {value}")
