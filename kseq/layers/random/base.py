"""`RandomLayer`: what layers share that change values at random while training, and the shape of what they draw."""

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from ..complex_values import real_dtype
from ..stepwise import StepwiseLayer


class RandomLayer(StepwiseLayer):
    """A layer that changes values at random: `changed` is all there is to write.

    It is the identity where `training` is false, unless `training_only` is. Layer mode and step mode draw different
    numbers.
    """

    takes_complex = False

    training_only: bool = True
    seed_generator: Any = None

    def make_generator(self, seed: int | None, draws: Any) -> None:
        """The generator of what the layer draws, if it draws anything."""
        self.seed_generator = keras.random.SeedGenerator(seed) if draws else None

    def changed(self, values: Any) -> Any:
        """Values [B, T, ...] changed at random."""
        raise NotImplementedError

    def call_values(self, values: Any, training: bool = False) -> Any:
        check_floats(self, values)
        draws = self.seed_generator is not None and (training or not self.training_only)
        return self.changed(values) if draws else values

    def draw(self, sample: Any, like: Any, **parameters: Any) -> Any:
        """What one of `keras.random`'s functions draws, in the shape and dtype of values."""
        dtype = keras.backend.standardize_dtype(like.dtype)
        # Few backends draw in half precision.
        drawn = sample(ops.shape(like), dtype=real_dtype(dtype), seed=self.seed_generator, **parameters)
        return ops.cast(drawn, dtype)


def check_floats(layer: Any, values: Any) -> None:
    dtype = keras.backend.standardize_dtype(values.dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise TypeError(f"{type(layer).__name__} takes floats; received values of dtype {dtype}")


def checked_rate(rate: float) -> float:
    if not 0 <= rate <= 1:
        raise ValueError(f"`rate` must be from 0 to 1; received {rate}")
    return rate


def checked_noise_shape(noise_shape: Iterable[int | None] | None) -> tuple[int | None, ...] | None:
    """The shape of what is drawn: `None` for an axis that has numbers of its own, 1 for one that shares them.

    Raises:
        ValueError: something else, of batch and time another number than 1: there may be any number of rows and steps.
    """
    if noise_shape is None:
        return None
    if isinstance(noise_shape, str) or not isinstance(noise_shape, Iterable):
        raise ValueError(f"`noise_shape` must be a tuple of whole numbers or None; received {noise_shape!r}")
    noise_shape = tuple(noise_shape)
    if not all(n is None or (type(n) is int and n > 0) for n in noise_shape) or len(noise_shape) < 2:
        raise ValueError(
            "`noise_shape` must have a whole number above 0 or None for each axis, batch and time among them; received "
            f"{noise_shape}"
        )
    if any(n not in (None, 1) for n in noise_shape[:2]):
        raise ValueError(
            "`noise_shape` must have 1 (shared) or None for batch and time, since there may be any number of them; "
            f"received {noise_shape}"
        )
    return noise_shape


def noise_shape_for(layer: Any, channels: Any) -> tuple[int | None, ...] | None:
    """The layer's noise shape, if it fits values of a channel shape."""
    shape = layer.noise_shape
    channels = tuple(channels)
    if shape is None:
        return None
    if len(shape) != len(channels) + 2 or any(n not in (None, 1, m) for n, m in zip(shape[2:], channels, strict=True)):
        raise ValueError(
            f"the `noise_shape` of {layer.name} must have None, 1 or the size for each axis of values with channel "
            f"shape {channels}; received {shape}"
        )
    return shape
