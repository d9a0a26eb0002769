"""Random numbers that are a function of a row's seed and of a step: the same whatever else is in the batch."""

import math
import random
from typing import Any

import numpy as np
from keras import ops

from ..arguments import as_integer
from ..layers.counted import mixed, mixed_number

# So many bits, and a half more, float32 holds exactly: 0 and 1 are never drawn.
_BITS = 23


class Draws:
    """Independent random numbers for the rows at a step; each call gives others.

    They follow from the seed of a row and the number of the step alone, so that a row has the same ones in any batch,
    on every backend, however the steps are computed.

    Args:
        keys: int32 [B], of `keys_of`.
        step: int32, or int32 [B]: how many steps each row has made.

    Example:
        >>> draws = Draws(keys_of([1, 2]), 0)
        >>> draws.uniform(3).shape, draws.normal(2, 2).shape
        ((2, 3), (2, 2, 2))
    """

    def __init__(self, keys: Any, step: Any) -> None:
        self._state, self._calls = mixed(ops.convert_to_tensor(keys) + ops.cast(step, "int32")), 0

    def uniform(self, *shape: int) -> Any:
        """float32 [B, *shape], above 0 and below 1."""
        self._calls += 1
        number = ops.reshape(ops.arange(math.prod(shape), dtype="int32"), shape)
        bits = ops.reshape(mixed(self._state + mixed_number(self._calls)), (-1, *[1] * len(shape)))
        bits = ops.bitwise_and(mixed(bits + number), ops.convert_to_tensor(2**_BITS - 1, dtype="int32"))
        return (ops.cast(bits, "float32") + 0.5) / 2**_BITS

    def normal(self, *shape: int) -> Any:
        """float32 [B, *shape], of mean 0 and variance 1."""
        return math.sqrt(2) * ops.erfinv(2 * self.uniform(*shape) - 1)

    def gumbel(self, *shape: int) -> Any:
        """float32 [B, *shape]; where it is added to logits, the largest is a sample of their distribution."""
        return -ops.log(-ops.log(self.uniform(*shape)))


def keys_of(seeds: Any) -> np.ndarray:
    """A key for each seed, int32 [B]: every bit of a seed changes it, however many there are."""
    return np.array([_key_of(int(seed)) for seed in seeds], np.int32)


def _key_of(seed):
    words = [seed >> place for place in range(0, max(seed.bit_length(), 64), 32)]
    key = mixed_number(len(words) - 2)  # nothing with two words, whose keys are what they always were
    for word in words:
        key = mixed_number(key + word)
    return key


def row_seeds(seed: Any, rows: int) -> list[int]:
    """A seed for each row.

    Args:
        seed: an integer, of which the rows have this and those that follow, a list of one for each, or `None` where
            they are drawn.
        rows: how many.

    Raises:
        TypeError: no integers.
        ValueError: as many as there are no rows, or negative ones.
    """
    if seed is None:
        return [random.getrandbits(62) for _ in range(rows)]
    if not isinstance(seed, (list, tuple, np.ndarray)):
        first = as_integer("`seed`", seed, least=0)
        return list(range(first, first + rows))
    seeds = [as_integer("`seed`", one, least=0) for one in seed]
    if len(seeds) != rows:
        raise ValueError(f"`seed` must be an integer, or one for each of {rows} rows; received {len(seeds)} of them")
    return seeds
