"""Rotary positions (RoPE), and how they are stretched over more positions than a model was trained with."""

import dataclasses
import math
from typing import Any, Literal

import keras

from ....arguments import as_size, check_choice
from ....registry import register_position
from ...position_scheme import Position
from ...rotary import rotate_at, speeds

# What each scaling takes beside the wavelength, the first two of these being required.
_BLENDED = ("factor", "original_length", "low_freq_factor", "high_freq_factor")
_TAKES = {
    None: (),
    "linear": ("factor",),
    "ntk": ("factor",),
    "llama3": _BLENDED,
    "yarn": (*_BLENDED, "attention_factor"),
}
_HIGH = {"llama3": 4.0, "yarn": 32.0}


@register_position
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RotaryPosition(Position):
    """Rotates pairs of channels of queries and keys by angles that grow with the position (RoPE, half-split).

    Of D channels, channel `i` is paired with `i + D/2`, and turns by `max_wavelength ** (-2 i / D)` radians a step; so
    products of queries and keys depend on their distance alone, exactly, however long a stream is. A scaling slows the
    turning for a model that reads `factor` times as many positions as it was trained with:

    - `"linear"`: every pair turns `factor` times slower (position interpolation).
    - `"ntk"`: the wavelength is `max_wavelength * factor ** (D / (D - 2))`: the slowest pair turns `factor` times
      slower, the fastest as before.
    - `"llama3"`: pairs that turn more than `high_freq_factor` times in `original_length` steps are kept, those that
      turn less than `low_freq_factor` times are slowed down by `factor`, those between are both in proportion.
    - `"yarn"`: the same, and rotated values are multiplied by `attention_factor`, so products by its square.

    Sources: Su et al., 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding"; Chen et al., 2023,
    "Extending Context Window of Large Language Models via Positional Interpolation" (linear); Peng et al., 2023, "YaRN:
    Efficient Context Window Extension of Large Language Models" (ntk, yarn: its equations, which blend by the number of
    turns; some programs blend by the number of the pair); Llama team, 2024, "The Llama 3 Herd of Models" and its code.

    Args:
        max_wavelength: of the slowest pair, were there one more.
        rotary_dim: channels that are rotated, the first ones, an even number; by default all.
        scaling: `"linear"`, `"ntk"`, `"yarn"`, `"llama3"`, or `None`.
        factor: how many times more positions, at least 1; required by every scaling.
        original_length: positions that the model was trained with; required by `"yarn"` and `"llama3"`.
        low_freq_factor: turns below which a pair is slowed down, by default 1 (YaRN's alpha).
        high_freq_factor: turns above which a pair is kept, by default 32 for `"yarn"` (its beta), 4 for `"llama3"`.
        attention_factor: by default YaRN's, `0.1 * log(factor) + 1`.

    Raises:
        ValueError: numbers that are not positive, an odd `rotary_dim`, an argument that the scaling needs or has no use
            for; heads of an odd size, or smaller than `rotary_dim`.

    Example:
        >>> import kseq, numpy as np
        >>> x = np.array([[[[1.0, 0.0]], [[1.0, 0.0]]]], "float32")
        >>> np.asarray(kseq.RotaryPosition().rotate(x, np.array([[0, 1]])))[0, :, 0].astype(float).round(2).tolist()
        [[1.0, 0.0], [0.54, 0.84]]
    """

    max_wavelength: float = 10000.0
    rotary_dim: int | None = None
    scaling: Literal["linear", "ntk", "yarn", "llama3"] | None = None
    factor: float | None = None
    original_length: int | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        if self.scaling is not None:
            check_choice("scaling", self.scaling, filter(None, _TAKES))
        takes = _TAKES[self.scaling]
        for name in _TAKES["yarn"]:
            given = getattr(self, name)
            if given is not None and name not in takes:
                raise ValueError(f"`{name}` has no use with scaling {self.scaling!r}; received {given!r}")
            if given is None and name in takes[:2]:
                raise ValueError(f"scaling {self.scaling!r} needs `{name}`; received None")
        for name in ("max_wavelength", "factor", "low_freq_factor", "high_freq_factor", "attention_factor"):
            if getattr(self, name) is not None:
                self.settle(**{name: _positive(name, getattr(self, name), least=1.0 if name == "factor" else 0.0)})
        for name in ("original_length", "rotary_dim"):
            if getattr(self, name) is not None:
                self.settle(**{name: as_size(name, getattr(self, name))})
        if self.rotary_dim is not None and self.rotary_dim % 2:
            raise ValueError(f"`rotary_dim` must be even, as channels are paired; received {self.rotary_dim}")
        low, high = self._blend
        if not low < high:
            raise ValueError(f"`high_freq_factor` must be above `low_freq_factor`, which is {low}; received {high}")

    @property
    def _blend(self):
        """Turns below which a pair is slowed down, and above which it is kept."""
        low, high = self.low_freq_factor, self.high_freq_factor
        usual = _HIGH.get(self.scaling or "", math.inf)
        return 1.0 if low is None else low, usual if high is None else high

    @property
    def _scale(self):
        """The factor on rotated values."""
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(self.factor or 1.0) + 1 if self.scaling == "yarn" else 1.0

    def speeds(self, size: int) -> list[float]:
        """Radians a step of each pair of `size` channels."""
        factor = self.factor or 1.0
        if self.scaling == "ntk" and size > 2:
            return speeds(size, self.max_wavelength * factor ** (size / (size - 2)))
        plain = speeds(size, self.max_wavelength)
        if self.scaling == "linear":
            return [speed / factor for speed in plain]
        if self.scaling is None or self.original_length is None:
            return plain
        low, high = self._blend
        turns = [self.original_length * speed / math.tau for speed in plain]
        kept = [min(max((turn - low) / (high - low), 0.0), 1.0) for turn in turns]
        return [speed * (keep + (1 - keep) / factor) for speed, keep in zip(plain, kept, strict=True)]

    def add_weights(self, layer: keras.layers.Layer, num_heads: int, key_dim: int) -> dict[str, keras.Variable]:
        try:
            self.speeds(self._rotated(key_dim))
        except OverflowError:
            raise ValueError(
                f"`max_wavelength` gives a speed that is too large for a number; received {self.max_wavelength} "
                f"and `factor` {self.factor}"
            ) from None
        return {}

    def _rotated(self, size):
        """How many of the channels of heads of a size are rotated."""
        if self.rotary_dim is None and size % 2:
            raise ValueError(f"rotary positions pair channels: `key_dim` must be even; received {size}")
        if self.rotary_dim is not None and self.rotary_dim > size:
            raise ValueError(f"`rotary_dim` must be at most `key_dim`, which is {size}; received {self.rotary_dim}")
        return self.rotary_dim or size

    def rotate(self, x: Any, positions: Any) -> Any:
        size = x.shape[-1]
        count = self._rotated(size)
        rotated = rotate_at(x[..., :count], positions, self.speeds(count), self._scale)
        return rotated if count == size else keras.ops.concatenate([rotated, x[..., count:]], axis=-1)


def _positive(name, value, least):
    number = isinstance(value, (int, float)) or hasattr(value, "__float__")
    if isinstance(value, (bool, str)) or not number or not math.isfinite(value) or not value > 0 or value < least:
        wanted = f"a number of at least {least:g}" if least else "a positive number"
        raise ValueError(f"`{name}` must be {wanted}; received {value!r}")
    return float(value)
