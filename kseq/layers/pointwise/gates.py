"""Layers of which half of the channels open and close the other half."""

from typing import Any, Unpack

import keras
from keras import ops

from ...annotations import ActivationLike, LayerOptions, Shape
from ...registry import register
from ..base import Example
from ..stepwise import mixing_function
from .base import RealFunction


class Gate(RealFunction):
    """The first half of the last axis times the second, each after its activation."""

    feature_activation: Any
    gate_activation: Any

    def output_channels(self, channels: Shape) -> Shape:
        if not channels or channels[-1] % 2:
            raise ValueError(
                f"{self.name} ({type(self).__name__}) halves the last axis, which must be even; received values of "
                f"channel shape {tuple(channels)}"
            )
        return (*channels[:-1], channels[-1] // 2)

    def function(self, x: Any) -> Any:
        half = self.output_channels(tuple(x.shape[2:]))[-1]
        return self.feature_activation(x[..., :half]) * self.gate_activation(x[..., half:])


@register
class GatedUnit(Gate):
    """`f(a) * g(b)` of the halves `a` and `b` of the last axis.  [B, T, ..., 2 C] -> [B, T, ..., C].

    Mask: unchanged. Timing: none.

    Args:
        feature_activation, gate_activation: `f` and `g`: a Keras activation's name, or a function of values
            [B, T, ..., C]; one that does not treat every step by itself, and keep the shape, does not step.

    Raises:
        ValueError: a last axis of odd size.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.GatedUnit("relu", "linear")
        >>> np.asarray(layer(np.array([[[3.0, 2.0]]], "float32"))).tolist()
        [[[6.0]]]
    """

    def __init__(
        self,
        feature_activation: ActivationLike = None,
        gate_activation: ActivationLike = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    @property
    def step_obstacle(self) -> str | None:
        functions = ("feature_activation", self.feature_activation), ("gate_activation", self.gate_activation)
        found = (mixing_function(f"its {name}", fn, self, (4,)) for name, fn in functions)
        return next(filter(None, found), None)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"feature_activation": "tanh", "gate_activation": "gelu"}, (4, 12, 4)),
            Example({"gate_activation": "sigmoid"}, (4, 12, 4)),
        ]


@register
class GatedLinearUnit(Gate):
    """`a * sigmoid(b)` of the halves `a` and `b` of the last axis.  [B, T, ..., 2 C] -> [B, T, ..., C].

    Mask: unchanged. Timing: none.  Source: Dauphin, Fan, Auli and Grangier, 2016, "Language Modeling with Gated
    Convolutional Networks".

    Raises:
        ValueError: a last axis of odd size.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.GatedLinearUnit()(np.array([[[3.0, 0.0]]], "float32"))).tolist()
        [[[1.5]]]
    """

    feature_activation: Any = staticmethod(keras.activations.linear)
    gate_activation: Any = staticmethod(ops.sigmoid)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({}, (4, 12, 4))]


@register
class GatedTanhUnit(Gate):
    """`tanh(a) * sigmoid(b)` of the halves `a` and `b` of the last axis.  [B, T, ..., 2 C] -> [B, T, ..., C].

    Mask: unchanged. Timing: none.  Source: van den Oord et al., 2016, "WaveNet: A Generative Model for Raw Audio".

    Raises:
        ValueError: a last axis of odd size.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.GatedTanhUnit()(np.array([[[50.0, 0.0]]], "float32"))).tolist()
        [[[0.5]]]
    """

    feature_activation: Any = staticmethod(ops.tanh)
    gate_activation: Any = staticmethod(ops.sigmoid)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({}, (4, 12, 4))]
