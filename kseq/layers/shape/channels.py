"""Channel shapes: Flatten, Reshape, Transpose, SwapAxes, MoveAxis, ExpandDims and Squeeze."""

import math
from typing import Any, Unpack

from ...annotations import LayerOptions
from ...arguments import as_size
from ...registry import register
from ..axes import as_axes, channel_axes
from ..base import Example
from .base import ChannelRearrangement, with_channels


@register
class Flatten(ChannelRearrangement):
    """All channels in one axis.  [B, T, ...] -> [B, T, C].

    Time stays, which `keras.layers.Flatten` flattens, too. Mask: unchanged. Timing: none.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Flatten()(np.zeros((1, 7, 2, 3), "float32")).shape
        (1, 7, 6)
    """

    def rearrange(self, values: Any, np_: Any) -> Any:
        return with_channels(values, (math.prod(values.shape[2:]),), np_)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({}, (4, 12, 2, 3))]


@register
class Reshape(ChannelRearrangement):
    """The channels in another shape.  [B, T, ...] -> [B, T, *output_shape].

    Batch and time are no part of the shape. Mask: unchanged. Timing: none.

    Args:
        output_shape: sizes of the channel axes, one of which may be -1: as many as are left.

    Raises:
        ValueError: sizes that do not hold the input's channels.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Reshape((2, -1))(np.zeros((1, 7, 6), "float32")).shape
        (1, 7, 2, 3)
    """

    output_shape: tuple[int, ...]

    def __init__(self, output_shape: tuple[int, ...], **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.output_shape = as_shape("output_shape", output_shape)

    def rearrange(self, values: Any, np_: Any) -> Any:
        channels = tuple(values.shape[2:])
        known, total = math.prod(size for size in self.output_shape if size >= 0), math.prod(channels)
        rest = total // known if -1 in self.output_shape and known else 1
        if known * rest != total:
            raise ValueError(
                f"{self.name} (Reshape): `output_shape` {self.output_shape} cannot hold the {total} channels of values "
                f"of channel shape {channels}"
            )
        return with_channels(values, tuple(rest if size < 0 else size for size in self.output_shape), np_)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"output_shape": (3, -1)}, (4, 12, 2, 3)), Example({"output_shape": (-1,)}, (4, 12, 2, 3))]


@register
class Transpose(ChannelRearrangement):
    """The channel axes in another order.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        axes: the channel axes in the order that they shall have (batch is 0, time 1, so the first is 2; negative ones
            count from the end), or `None` for the reverse of what they have.

    Raises:
        ValueError: axes that are not all of the channel axes.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Transpose((3, 2))(np.zeros((1, 7, 2, 3), "float32")).shape
        (1, 7, 3, 2)
    """

    axes: tuple[int, ...] | None

    def __init__(self, axes: tuple[int, ...] | None = None, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.axes = as_axes(axes)

    def rearrange(self, values: Any, np_: Any) -> Any:
        rank = len(values.shape)
        axes = tuple(range(rank - 1, 1, -1)) if self.axes is None else channel_axes(self.axes, rank, "axes")
        if len(axes) != rank - 2:
            raise ValueError(
                f"{self.name} (Transpose): `axes` must name all of the {rank - 2} channel axes; received {self.axes}"
            )
        return np_.transpose(values, (0, 1, *axes))

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"axes": (-1, 2)}, (4, 12, 2, 3)), Example({}, (4, 12, 2, 3))]


@register
class SwapAxes(ChannelRearrangement):
    """Two channel axes, each in the other's place.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        axis1, axis2: channel axes (batch is 0, time 1; negative ones count from the end).

    Raises:
        ValueError: an axis that is no channel axis.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.SwapAxes(2, -1)(np.zeros((1, 7, 2, 3, 4), "float32")).shape
        (1, 7, 4, 3, 2)
    """

    axis1: int
    axis2: int

    def __init__(self, axis1: int, axis2: int, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    def rearrange(self, values: Any, np_: Any) -> Any:
        (one,), (other,) = (channel_axes(getattr(self, n), len(values.shape), n) for n in ("axis1", "axis2"))
        return np_.swapaxes(values, one, other)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"axis1": 2, "axis2": -1}, (4, 12, 2, 3))]


@register
class MoveAxis(ChannelRearrangement):
    """Channel axes in other places, the rest in their order.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        source: a channel axis, or several (batch is 0, time 1; negative ones count from the end).
        destination: where each shall be.

    Raises:
        ValueError: an axis that is no channel axis, or another number of places than of axes.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.MoveAxis(2, -1)(np.zeros((1, 7, 2, 3, 4), "float32")).shape
        (1, 7, 3, 4, 2)
    """

    source: int | tuple[int, ...]
    destination: int | tuple[int, ...]

    def __init__(
        self, source: int | tuple[int, ...], destination: int | tuple[int, ...], **kwargs: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**kwargs)
        self.source, self.destination = as_axes(source), as_axes(destination)

    def rearrange(self, values: Any, np_: Any) -> Any:
        source, destination = (channel_axes(getattr(self, n), len(values.shape), n) for n in ("source", "destination"))
        if len(source) != len(destination):
            raise ValueError(
                f"{self.name} (MoveAxis): `destination` must have a place for each axis of `source`; received "
                f"{self.source} and {self.destination}"
            )
        return np_.moveaxis(values, source, destination)

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"source": (2, 3), "destination": (-1, 2)}, (4, 12, 2, 3, 1)),
            Example({"source": 2, "destination": -1}, (4, 12, 2, 3, 1)),
        ]


@register
class ExpandDims(ChannelRearrangement):
    """New channel axes of size one.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        axis: place of the new axis among the channel axes of the output, or places of several: 0 is the first. A
            negative place is counted from the end of the input's, -1 being behind the last.

    Raises:
        ValueError: a place that is not there, or one that is named twice.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.ExpandDims((0, -1))(np.zeros((1, 7, 2, 3), "float32")).shape
        (1, 7, 1, 2, 1, 3)
    """

    axis: int | tuple[int, ...]

    def __init__(self, axis: int | tuple[int, ...], **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.axis = as_axes(axis)

    def rearrange(self, values: Any, np_: Any) -> Any:
        channels = tuple(values.shape[2:])
        given = self.axis if isinstance(self.axis, tuple) else (self.axis,)
        places = [axis + len(channels) + 1 if axis < 0 else axis for axis in given]
        if any(place < 0 or place > len(channels) for place in places):
            raise ValueError(
                f"{self.name} (ExpandDims): `axis` must be from {-1 - len(channels)} to {len(channels)} for values of "
                f"channel shape {channels}; received {self.axis}"
            )
        if len(set(places)) < len(places):
            raise ValueError(
                f"{self.name} (ExpandDims): `axis` names a place twice; received {self.axis} for values of channel "
                f"shape {channels}"
            )
        return with_channels(values, _expanded(channels, places), np_)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"axis": (0, -1)}), Example({"axis": -1})]


@register
class Squeeze(ChannelRearrangement):
    """The channels without axes of size one.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        axis: channel axis or axes (batch is 0, time 1; negative ones count from the end), or `None` for all of size
            one.

    Raises:
        ValueError: an axis that is no channel axis, or one of another size.

    Example:
        >>> import kseq, numpy as np
        >>> kseq.Squeeze()(np.zeros((1, 7, 1, 3, 1), "float32")).shape
        (1, 7, 3)
    """

    axis: int | tuple[int, ...] | None

    def __init__(self, axis: int | tuple[int, ...] | None = None, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.axis = as_axes(axis)

    def rearrange(self, values: Any, np_: Any) -> Any:
        shape = tuple(values.shape)
        gone = [i for i in range(2, len(shape)) if shape[i] == 1]
        if self.axis is not None:
            axes = channel_axes(self.axis, len(shape))
            if not set(axes) <= set(gone):
                raise ValueError(
                    f"{self.name} (Squeeze): `axis` must name axes of size one; received {self.axis} for values of "
                    f"channel shape {shape[2:]}"
                )
            gone = axes
        return with_channels(values, tuple(size for i, size in enumerate(shape) if i > 1 and i not in gone), np_)

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"axis": -2}, (4, 12, 1, 3)), Example({}, (4, 12, 1, 3))]


def as_shape(name: str, shape: Any) -> tuple[int, ...]:
    """An argument that is a shape, of which one size may be -1.

    Raises:
        ValueError: a size that cannot be, or several that are -1.
    """
    found = tuple(as_size(name, size, -1) for size in shape)
    if found.count(-1) > 1:
        raise ValueError(f"`{name}` may hold -1 once; received {found}")
    return found


def _expanded(channels, places):
    """A channel shape with ones put in, each at its place in the result."""
    found = list(channels)
    for place in sorted(places):
        found.insert(place, 1)
    return tuple(found)
