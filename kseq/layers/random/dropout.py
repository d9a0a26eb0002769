"""Dropout and SpatialDropout1D."""

from collections.abc import Sequence
from typing import Any, Unpack

import keras

from ...annotations import LayerOptions
from ...registry import register
from ..base import Example
from .base import RandomLayer, checked_noise_shape, checked_rate, noise_shape_for


@register
class Dropout(RandomLayer):
    """Sets values to zero at random while training, and scales up the rest.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none. Layer mode and step mode draw different zeros while training; `DeterministicDropout`
    draws the same.

    Args:
        rate: fraction of values set to zero, from 0 to 1.
        noise_shape: for each axis, batch and time among them, 1 where zeros are shared along it (in step mode by the
            steps of one call) and `None` where they are not; by default they are shared along none.
        seed: seed of the random numbers.

    Raises:
        ValueError: a rate outside 0 to 1, or a `noise_shape` that does not fit the values.
        TypeError: integers.

    Example:
        >>> import kseq, numpy as np
        >>> float(kseq.Dropout(0.5)(np.ones((1, 2, 3), "float32")).sum())
        6.0
    """

    rate: float

    noise_shape: tuple[int | None, ...] | None

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.rate, self.noise_shape = checked_rate(rate), checked_noise_shape(noise_shape)
        self.make_generator(seed, rate)

    def changed(self, values: Any) -> Any:
        shape = noise_shape_for(self, values.shape[2:])
        return keras.random.dropout(values, self.rate, noise_shape=shape, seed=self.seed_generator)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"rate": 0.5, "seed": 1})]


@register
class SpatialDropout1D(RandomLayer):
    """Sets whole channels to zero at random while training, and scales up the rest.  [B, T, C] -> [B, T, C].

    The channels are those of a row in one call: of the whole sequence in layer mode, of a chunk in step mode. Mask:
    unchanged. Timing: none. Source: Tompson et al., 2014, "Efficient Object Localization Using Convolutional Networks".

    Args:
        rate: fraction of channels set to zero, from 0 to 1.
        seed: seed of the random numbers.

    Raises:
        ValueError: a rate outside 0 to 1, or values of another rank.

    Example:
        >>> import kseq, numpy as np
        >>> float(kseq.SpatialDropout1D(0.5)(np.ones((1, 2, 3), "float32")).sum())
        6.0
    """

    rate: float

    input_rank: int | None = 3

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        self.rate = checked_rate(rate)
        self.make_generator(seed, rate)

    def changed(self, values: Any) -> Any:
        return keras.random.dropout(values, self.rate, noise_shape=(None, 1, None), seed=self.seed_generator)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"rate": 0.5, "seed": 1})]
