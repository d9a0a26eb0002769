"""Noise that is added or multiplied: GaussianNoise, GaussianDropout and Noise."""

from typing import Any, Literal, Unpack

import keras

from ...annotations import LayerOptions
from ...arguments import check_choice
from ...registry import register
from ..base import Example
from .base import RandomLayer


@register
class GaussianNoise(RandomLayer):
    """Adds normal random numbers while training.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none. Layer mode and step mode draw different numbers. `Noise` has other distributions.

    Args:
        stddev: standard deviation of the numbers.
        seed: seed of the random numbers.

    Raises:
        ValueError: a negative standard deviation.
        TypeError: integers.

    Example:
        >>> import kseq, numpy as np
        >>> float(kseq.GaussianNoise(0.5)(np.ones((1, 2, 3), "float32")).sum())
        6.0
    """

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        _check_positive("stddev", stddev)
        self.make_generator(seed, stddev)

    def changed(self, values: Any) -> Any:
        return values + self.draw(keras.random.normal, values, stddev=self.stddev)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"stddev": 0.5, "seed": 1})]


@register
class GaussianDropout(RandomLayer):
    """Multiplies by normal random numbers around 1 while training.  [B, T, ...] -> [B, T, ...].

    Their standard deviation is that of dropout at this rate, `sqrt(rate / (1 - rate))`. Mask: unchanged. Timing: none.
    Layer mode and step mode draw different numbers.  Source: Srivastava et al., 2014, "Dropout: A Simple Way to Prevent
    Neural Networks from Overfitting".

    Args:
        rate: as of dropout, at least 0 and below 1.
        seed: seed of the random numbers.

    Raises:
        ValueError: a rate below 0, or of 1 and above.
        TypeError: integers.

    Example:
        >>> import kseq, numpy as np
        >>> float(kseq.GaussianDropout(0.5)(np.ones((1, 2, 3), "float32")).sum())
        6.0
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be at least 0 and below 1; received {rate}")
        self.make_generator(seed, rate)

    def changed(self, values: Any) -> Any:
        stddev = (self.rate / (1 - self.rate)) ** 0.5
        return values * self.draw(keras.random.normal, values, mean=1.0, stddev=stddev)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"rate": 0.5, "seed": 1})]


Distribution = Literal["normal", "uniform", "truncated_normal"]
# By name what draws it, and its parameters with their defaults.
_NORMAL = {"mean": 0.0, "stddev": 1.0}
_DISTRIBUTIONS = {
    "normal": (keras.random.normal, _NORMAL),
    "uniform": (keras.random.uniform, {"minval": 0.0, "maxval": 1.0}),
    "truncated_normal": (keras.random.truncated_normal, _NORMAL),
}


@register
class Noise(RandomLayer):
    """Adds random numbers of a distribution.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none. Layer mode and step mode draw different numbers.

    Args:
        distribution: "normal", "uniform" from `minval` to below `maxval`, or "truncated_normal", normal numbers within
            two standard deviations of the mean.
        mean, stddev: of the two normal distributions, by default 0 and 1.
        minval, maxval: of the uniform one, by default 0 and 1.
        training_only: whether it is the identity where `training` is false.
        seed: seed of the random numbers.

    Raises:
        ValueError: another distribution, a parameter of another one, a negative standard deviation, or a `minval` above
            `maxval`.
        TypeError: integers.

    Example:
        >>> import kseq, numpy as np
        >>> y = kseq.Noise("uniform", minval=1, maxval=2, training_only=False)(np.zeros((1, 2, 3), "float32"))
        >>> bool(1 <= float(y.min()) and float(y.max()) < 2)
        True
    """

    def __init__(
        self,
        distribution: Distribution = "normal",
        mean: float | None = None,
        stddev: float | None = None,
        minval: float | None = None,
        maxval: float | None = None,
        training_only: bool = True,
        seed: int | None = None,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**kwargs)
        self.keep(locals())
        check_choice("distribution", distribution, _DISTRIBUTIONS)
        self._sample, defaults = _DISTRIBUTIONS[distribution]
        given = {"mean": mean, "stddev": stddev, "minval": minval, "maxval": maxval}
        given = {name: value for name, value in given.items() if value is not None}
        for name in given.keys() - defaults.keys():
            raise ValueError(
                f"a {distribution} distribution has the parameters {' and '.join(defaults)}; "
                f"received {name}={given[name]}"
            )
        self._given = defaults | given
        if "stddev" in defaults:
            _check_positive("stddev", self._given["stddev"])
        elif self._given["minval"] > self._given["maxval"]:
            raise ValueError(f"`minval` must be at most `maxval`; received {self._given}")
        self.make_generator(seed, draws=True)

    def changed(self, values: Any) -> Any:
        return values + self.draw(self._sample, values, **self._given)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"distribution": "truncated_normal", "stddev": 0.5, "seed": 1})]


def _check_positive(name, value):
    if value < 0:
        raise ValueError(f"`{name}` must be at least 0; received {value}")
