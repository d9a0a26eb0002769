"""Axes of space: windows that move over the axes of [B, T, *space, C] that lie between time and channels."""

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

from keras import ops

from ..arguments import check_table
from ..window import ModeName, Window

SpatialPadding = ModeName | tuple[int, int] | tuple[ModeName | tuple[int, int], ...]


class SpatialAxis(NamedTuple):
    """How windows lie on an axis of space, whose length is always known.

    Attributes:
        window: with a mode of `kseq.window.MODES`.
        around: zeros put around the axis before it, where padding was given as a pair: any pair will do.
    """

    window: Window
    around: tuple[int, int] = (0, 0)

    def pads_of(self, length: int) -> tuple[int, int]:
        """Steps of padding before and after an axis of `length`."""
        before, after = self.window.pads_of(length + sum(self.around))
        return before + self.around[0], after + self.around[1]

    def output_length(self, length: int) -> int:
        """Outputs of an axis of `length`.

        Raises:
            ValueError: an axis that is too short for one window.
        """
        found = self.window.output_length(length + sum(self.around))
        if found < 1:
            raise ValueError(f"an axis of space must hold a window of {self.window.span}; received an axis of {length}")
        return found


def spatial_axes(sizes: Iterable[tuple[int, int, int]], padding: Any, transposed: bool = False) -> Any:
    """The `SpatialAxis` of every (size, stride, dilation).

    Args:
        sizes: of the axes.
        padding: a mode or a pair for all axes, or one of these for each.
        transposed: whether the windows are, which take no pairs.

    Raises:
        ValueError: an unknown mode, a pair that is none, another number of paddings, or a window of more than 65536.
    """
    sizes = tuple(sizes)
    each = (padding,) * len(sizes) if _is_one(padding) else tuple(padding)
    if len(each) != len(sizes) or not all(map(_is_one, each)):
        raise ValueError(
            "`spatial_padding` must be a mode of padding or a pair of integers of at least 0, for all axes of space or "
            f"for each of them ({len(sizes)}); received {padding!r}"
        )
    for size, _, dilation in sizes:  # as much is put around an axis, whatever its length
        check_table("span of a window over space", size * dilation, most=2**16)
    return tuple(_axis(*size, one, transposed) for size, one in zip(sizes, each, strict=True))


def _is_one(padding) -> bool:
    pair = isinstance(padding, (tuple, list)) and len(padding) == 2
    return isinstance(padding, str) or (pair and all(type(n) is int and n >= 0 for n in padding))


def _axis(size, stride, dilation, padding, transposed):
    if not isinstance(padding, (tuple, list)):
        return SpatialAxis(Window(size, stride, dilation, padding, transposed))
    if transposed:
        raise ValueError(f"`spatial_padding` of a transposed window must be a mode of padding; received {padding!r}")
    return SpatialAxis(Window(size, stride, dilation, "valid"), tuple(padding))


def spatial_shape(axes: tuple[SpatialAxis, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Lengths of the axes of space after the windows.

    Raises:
        ValueError: fewer axes, or one that is too short for one window.
    """
    if len(shape) != len(axes):
        raise ValueError(f"windows over space need {len(axes)} axes after time; received {tuple(shape)}")
    return tuple(axis.output_length(n) for axis, n in zip(axes, shape, strict=True))


def pad_space(values: Any, axes: tuple[SpatialAxis, ...], value: float = 0) -> Any:
    """`values` [B, T, *space, ...] padded for the windows over space.

    Raises:
        ValueError: an axis that is too short for one window.
    """
    spatial_shape(axes, values.shape[2 : 2 + len(axes)])
    pads = [axis.pads_of(n) for axis, n in zip(axes, values.shape[2:], strict=False)]
    if not any(map(sum, pads)):
        return values
    rest = [(0, 0)] * (len(values.shape) - 2 - len(axes))
    return ops.pad(values, [(0, 0), (0, 0), *pads, *rest], constant_values=value)


def space_taps(values: Any, axes: tuple[SpatialAxis, ...]) -> list[Any]:
    """One strided view of padded `values` [B, T, *space, ...] per tap of the windows over space."""
    cuts = [
        [slice(n, n + (_windows(w, length) - 1) * w.stride + 1, w.stride) for n in range(0, w.span, w.dilation)]
        for (w, _), length in zip(axes, values.shape[2:], strict=False)
    ]
    everything = slice(None), slice(None)
    return [values[(*everything, *cut)] for cut in itertools.product(*cuts)]


def _windows(window, length) -> int:
    return (length - window.span) // window.stride + 1
