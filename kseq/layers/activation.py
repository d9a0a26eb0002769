"""Activation and Dropout."""

from typing import Any, Unpack

import keras

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


@register
class Dropout(StepwiseLayer):
    """Sets values to zero at random while training, and scales up the rest.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none. Layer mode and step mode draw different zeros while training.

    Args:
        rate: fraction of values set to zero, from 0 to 1.
        seed: seed of the random numbers.

    Raises:
        ValueError: a rate outside 0 to 1.

    Example:
        >>> import kseq, numpy as np
        >>> float(kseq.Dropout(0.5)(np.ones((1, 2, 3), "float32")).sum())
        6.0
    """

    seed_generator: Any

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate <= 1:
            raise ValueError(f"`rate` must be from 0 to 1; received {rate}")
        self.keep(locals())
        self.seed_generator = keras.random.SeedGenerator(seed) if rate else None

    def call_values(self, values: Any, training: bool = False) -> Any:
        if not training or not self.rate:
            return values
        return keras.random.dropout(values, self.rate, seed=self.seed_generator)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"rate": 0.5, "seed": 1})]
