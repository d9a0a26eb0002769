"""Activation."""

from typing import Any, Unpack

from ..annotations import ActivationLike, LayerOptions
from ..registry import register
from .base import Example
from .stepwise import StepwiseLayer, mixing_activation


@register
class Activation(StepwiseLayer):
    """An activation function at every step.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        activation: a Keras activation's name, or a function of values [B, T, ...]; one that does not treat every step
            by itself, and keep the shape, does not step.

    Example:
        >>> import kseq, numpy as np
        >>> np.asarray(kseq.Activation("relu")(np.array([[[-1.0], [2.0]]], "float32")))[0, :, 0].tolist()
        [0.0, 2.0]
    """

    takes_complex = False

    def __init__(self, activation: ActivationLike, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    @property
    def step_obstacle(self) -> str | None:
        return mixing_activation(self)

    def call_values(self, values: Any, training: bool = False) -> Any:
        return self.activation(values)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"activation": "gelu"}), Example({"activation": "softmax"})]
