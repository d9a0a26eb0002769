"""Pointwise layers with weights: PReLU, Snake and Affine."""

from typing import Any, Unpack

from keras import ops

from ...annotations import ConstraintLike, InitializerLike, LayerOptions, RegularizerLike, Shape
from ...arguments import as_size
from ...registry import register
from ..axes import as_axes
from ..base import Example
from .base import PointwiseLayer, RealFunction
from .constants import broadcast_channels


@register
class PReLU(RealFunction):
    """Values, those below zero times a learned slope.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none. The weights are those of a `keras.layers.PReLU` whose slopes are the same at all
    steps.  Source: He, Zhang, Ren and Sun, 2015, "Delving Deep into Rectifiers".

    Args:
        alpha_initializer, alpha_regularizer, alpha_constraint: as in Keras.
        shared_axes: axes along which slopes are the same: 1, which is time, and of the channel axes any.

    Raises:
        ValueError: `shared_axes` without time, or with an axis that is not there.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.PReLU(alpha_initializer="ones", shared_axes=[1, 2])
        >>> np.asarray(layer(np.array([[[-1.0], [2.0]]], "float32")))[0, :, 0].tolist()
        [-1.0, 2.0]
    """

    shared_axes: tuple[int, ...]
    alpha: Any

    def __init__(
        self,
        alpha_initializer: InitializerLike = "zeros",
        alpha_regularizer: RegularizerLike = None,
        alpha_constraint: ConstraintLike = None,
        shared_axes: int | tuple[int, ...] = (1,),
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.shared_axes = (shared_axes,) if isinstance(shared_axes, int) else as_axes(shared_axes)
        if self.shared_axes is None or 1 not in self.shared_axes:
            raise ValueError(
                f"`shared_axes` must hold 1, for slopes are the same at all time steps; received {shared_axes}"
            )

    def build(self, input_shape: Shape) -> None:
        rank = len(input_shape)
        if not all(1 <= axis < rank for axis in self.shared_axes):
            raise ValueError(
                f"`shared_axes` must be from 1 to {rank - 1} for values of shape {tuple(input_shape)}; "
                f"received {self.shared_axes}"
            )
        self.alpha = self.add_parameter(
            "alpha", (1 if axis in self.shared_axes else input_shape[axis] for axis in range(1, rank))
        )

    def function(self, x: Any) -> Any:
        return ops.relu(x) - self.weight(self.alpha) * ops.relu(-x)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"shared_axes": (1, 2)}, (4, 12, 2, 3)), Example({}, (4, 12, 2, 3))]


@register
class Snake(RealFunction):
    """`x + sin(a x)^2 / b` with a learned frequency and amplitude per channel.  [B, T, ...] -> [B, T, ...].

    Weights are the logarithms of `a` and `b`. Mask: unchanged. Timing: none.  Source: Ziyin, Hartwig and Ueda, 2020,
    "Neural Networks Fail to Learn Periodic Functions and How to Fix It"; Lee et al., 2022, "BigVGAN".

    Args:
        separate_beta: whether `b` has weights of its own, and is not `a`.
        alpha_initializer, beta_initializer, alpha_regularizer, beta_regularizer, alpha_constraint, beta_constraint: of
            the logarithms, as Keras names them elsewhere.

    Example:
        >>> import kseq, numpy as np
        >>> float(np.asarray(kseq.Snake()(np.full((1, 1, 1), np.pi, "float32"))).astype(float).round(4)[0, 0, 0])
        3.1416
    """

    separate_beta: bool
    alpha: Any
    beta: Any

    def __init__(
        self,
        separate_beta: bool = False,
        alpha_initializer: InitializerLike = "zeros",
        beta_initializer: InitializerLike = "zeros",
        alpha_regularizer: RegularizerLike = None,
        beta_regularizer: RegularizerLike = None,
        alpha_constraint: ConstraintLike = None,
        beta_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def build(self, input_shape: Shape) -> None:
        self.alpha = self.add_parameter("alpha", input_shape[2:])
        self.beta = self.add_parameter("beta", input_shape[2:]) if self.separate_beta else None

    def function(self, x: Any) -> Any:
        alpha = ops.exp(self.weight(self.alpha))
        beta = alpha if self.beta is None else ops.exp(self.weight(self.beta))
        return x + ops.square(ops.sin(x * alpha)) / (beta + 1e-12)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"separate_beta": True}), Example({})]


@register
class Affine(PointwiseLayer):
    """Values times a learned scale, plus a learned bias.  [B, T, ...] -> [B, T, ...].

    Channels of size one take the size of the weights'. Mask: unchanged. Timing: none.

    Args:
        shape: of the weights, which are broadcast to the channels; by default one number for all.
        use_scale, use_bias: whether there is a scale, and a bias.
        scale_initializer, bias_initializer, scale_regularizer, bias_regularizer, scale_constraint, bias_constraint: as
            Keras names them elsewhere.

    Raises:
        ValueError: neither scale nor bias, or weights that cannot be broadcast to the channels.
        TypeError: complex values.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.Affine((3,), bias_initializer="ones")
        >>> np.asarray(layer(np.zeros((1, 1, 3), "float32"))).tolist()
        [[[1.0, 1.0, 1.0]]]
    """

    shape: tuple[int, ...]
    scale: Any
    bias: Any

    def __init__(
        self,
        shape: tuple[int, ...] = (),
        use_scale: bool = True,
        use_bias: bool = True,
        scale_initializer: InitializerLike = "ones",
        bias_initializer: InitializerLike = "zeros",
        scale_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        scale_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.shape = tuple(as_size("shape", size) for size in shape)
        if not (use_scale or use_bias):
            raise ValueError("`use_scale` or `use_bias` must be true; received False for both")

    def build(self, input_shape: Shape) -> None:
        self.output_channels(tuple(input_shape[2:]))
        self.scale = self.add_parameter("scale", self.shape) if self.use_scale else None
        self.bias = self.add_parameter("bias", self.shape) if self.use_bias else None

    def output_channels(self, channels: Shape) -> Shape:
        return broadcast_channels("shape", self.shape, channels)

    def output_dtype(self, dtype: str) -> str:
        return self.compute_dtype

    def call_values(self, values: Any, training: bool = False) -> Any:
        y = ops.cast(values, self.compute_dtype)
        if self.scale is not None:
            y = y * self.weight(self.scale)
        return y if self.bias is None else y + self.weight(self.bias)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"shape": (2, 1)}, (4, 12, 1, 3)), Example({"use_bias": False}, (4, 12, 1, 3))]
