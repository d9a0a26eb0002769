"""Slice, and EinopsRearrange."""

from typing import Any, Unpack

from ...annotations import LayerOptions
from ...arguments import as_integer, as_size
from ...registry import register
from ..base import Example
from .base import ChannelRearrangement, with_channels
from .pattern import Pattern, check_lengths, shape_of


@register
class Slice(ChannelRearrangement):
    """A part of the channels.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        slices: for each channel axis an integer, which takes one channel and removes the axis, or what `slice` takes,
            `(start, stop, step)`, each an integer or `None`; and `None` for a new axis of size one.

    Raises:
        ValueError: another number of slices than of channel axes, an integer outside an axis, or a step of zero.
        TypeError: something else in `slices`.

    Example:
        >>> import kseq, numpy as np
        >>> x = np.arange(6, dtype="float32").reshape(1, 1, 2, 3)
        >>> np.asarray(kseq.Slice([1, (None, None, -1)])(x)).tolist()
        [[[5.0, 4.0, 3.0]]]
    """

    slices: tuple[Any, ...]

    def __init__(self, slices: list[Any] | tuple[Any, ...], **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.slices = tuple(map(_plain, slices))

    def rearrange(self, values: Any, np_: Any) -> Any:
        channels, key, flipped = tuple(values.shape[2:]), [], []
        if sum(one is not None for one in self.slices) != len(channels):
            raise ValueError(
                f"{self.name} (Slice): `slices` must have one for each of the channel axes {channels}; received "
                f"{self.slices}"
            )
        sizes, axis = iter(channels), 2
        for one in self.slices:
            if isinstance(one, int):
                size = next(sizes)
                if not -size <= one < size:
                    raise ValueError(f"{self.name} (Slice): there is no channel {one} in an axis of size {size}")
                key.append(one)
                continue
            if one is None:
                key.append(None)
            else:
                steps = range(*slice(*one).indices(next(sizes)))
                if steps.step < 0:  # which not every backend can take
                    steps = steps[::-1]
                    flipped.append(axis)
                key.append(slice(steps.start, max(steps.stop, 0), steps.step) if steps else slice(0, 0))
            axis += 1
        y = values[(slice(None), slice(None), *key)]
        return np_.flip(y, axis=tuple(flipped)) if flipped else y

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"slices": [1, None, [None, None, -2]]}, (4, 12, 2, 3)),
            Example({"slices": [0, [1, 3]]}, (4, 12, 2, 3)),
        ]


@register
class EinopsRearrange(ChannelRearrangement):
    """The channels rearranged by a pattern in the notation of einops.  [B, T, ...] -> [B, T, ...].

    Names stand for axes; those in brackets are one axis, whose first name counts slowest; `1` is an axis of size one,
    `...` stands for all axes that are not named. Mask: unchanged. Timing: none.  Source: Rogozhnikov, 2022, "Einops:
    Clear and Reliable Tensor Manipulations with Einstein-like Notation".

    Args:
        pattern: the channel axes before and after, without batch and time: `"(a b) c -> b (a c)"`.
        axes_lengths: sizes of names, which follow from the input where there is one without in an axis.

    Raises:
        ValueError: a pattern that is none, or channels that do not fit it.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.EinopsRearrange("(a b) c -> b (a c)", {"a": 2})
        >>> layer(np.zeros((1, 7, 4, 3), "float32")).shape
        (1, 7, 2, 6)
    """

    pattern: str
    axes_lengths: dict[str, int]

    def __init__(
        self, pattern: str, axes_lengths: dict[str, int] | None = None, **kwargs: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**kwargs)
        self.pattern, self.axes_lengths = pattern, sizes_by_name(axes_lengths)
        self._parsed = Pattern.of(pattern)
        check_lengths(self._parsed, self.axes_lengths)

    def rearrange(self, values: Any, np_: Any) -> Any:
        channels = tuple(values.shape[2:])
        pattern = self._parsed.of_rank(len(channels))
        sizes = pattern.sizes(channels, self.axes_lengths)
        y = with_channels(values, tuple(sizes[name] for name in pattern.names), np_)
        y = np_.transpose(y, (0, 1, *(2 + place for place in pattern.order)))
        return with_channels(y, shape_of(pattern.right, sizes), np_)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"pattern": "(a b) ... -> b (... a)", "axes_lengths": {"a": 2}}, (4, 12, 2, 3)),
            Example({"pattern": "a b -> (a b)"}, (4, 12, 2, 3)),
        ]


def sizes_by_name(axes_lengths: Any) -> dict[str, int]:
    """Lengths of axes by name.

    Raises:
        ValueError: a length that is none.
    """
    return {name: as_size(f"axes_lengths[{name!r}]", length) for name, length in (axes_lengths or {}).items()}


def _plain(one: Any) -> Any:
    """A slice as an integer, `None` or a tuple."""
    if one is None:
        return None
    if isinstance(one, slice):
        one = (one.start, one.stop, one.step)
    if not isinstance(one, (tuple, list)):
        return as_integer("an item of `slices`", one)
    if not 1 <= len(one) <= 3:
        raise TypeError(f"an item of `slices` must be an integer, None or (start, stop, step); received {one}")
    found = tuple(None if part is None else as_integer("a part of a slice", part) for part in one)
    slice(*found).indices(1)  # a step of zero is an error
    return found
