"""Layers side by side: Parallel, ParallelChannels, Residual and Skip."""

from typing import Any, Unpack

from ...annotations import LayerOptions
from ...arguments import as_size
from ...registry import register
from ...sequence import SequenceSpec
from ...timing import Timing
from ..base import Example, SequenceLayer
from ..dense import Dense
from ..network import Read, node_of
from ..recurrent import GRU
from ..windowed import Conv1D
from .base import Combinator, LayerList, combining
from .combine import Combination, CombineBy, add, checked_combination
from .serial import Serial


@register
class Parallel(Combinator):
    """Layers side by side on the same input, their outputs combined.

    Mask: an output is valid where every branch's is. Timing: branches of less latency are delayed to match the slowest;
    ratios must be equal. No layers at all is the identity.

    Args:
        layers: the branches, kseq layers.
        combination: "stack" on a new first channel axis, "concat" on the last axis, "concat_first" on the first channel
            axis, or "add", "mean", "product". Channels are broadcast by the rules of NumPy.

    Raises:
        TypeError: an element that is not a kseq layer.
        ValueError: an unknown combination or unequal ratios.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.Parallel([kseq.Dense(3), kseq.Delay(2, delay_layer_output=False)], combination="concat")
        >>> layer(np.zeros((1, 7, 4), "float32")).shape, layer.timing.output_latency
        ((1, 7, 7), 2)
    """

    combination: Any

    layers: tuple[SequenceLayer, ...]

    def __init__(
        self, layers: LayerList = (), combination: Combination = "stack", **kwargs: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**kwargs)
        self.layers = self._checked(layers)
        self.combination = checked_combination("combination", combination)
        self._connect_branches(self.layers, combination)

    @classmethod
    def examples(cls) -> list[Example]:
        branches = [Conv1D(2, 3, padding="reverse_causal"), Dense(2)]
        return [
            Example({"layers": branches, "combination": "concat"}),
            Example({"layers": [Conv1D(2, 3, strides=2), Conv1D(2, 4, strides=2, padding="reverse_causal")]}),
            Example({"layers": []}),
        ]


@register
class ParallelChannels(Combinator):
    """One layer, of shared weights, applied to each of `groups` groups of the last axis.  [B, T, ..., C].

    The groups are of C / groups channels, one after the other. Each has its own state of the layer. Mask and timing are
    the layer's; what it makes of the groups is combined.

    Args:
        layer: a kseq layer, for inputs [B, T, ..., C / groups].
        groups: their number.
        combination: as in `Parallel`.

    Raises:
        TypeError: not a kseq layer.
        ValueError: an unknown combination, `groups` below 1, or channels that it does not divide.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.ParallelChannels(kseq.Dense(3), groups=2, combination="concat")
        >>> layer(np.zeros((1, 7, 4), "float32")).shape, layer.count_params()
        ((1, 7, 6), 9)
    """

    combination: Any
    sublayers: tuple[Any, ...]

    layer: SequenceLayer
    groups: int

    def __init__(
        self, layer: SequenceLayer, groups: int, combination: Combination = "stack", **kwargs: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**kwargs)
        self.layer = self._checked_one(layer)
        self.groups = as_size("groups", groups)
        self.combination = checked_combination("combination", combination)
        self.sublayers = (self.layer,)
        split = node_of(SplitChannels(self.groups, self.name, name="split", autocast=False), [Read(0)], hidden=True)
        each = [node_of(self.layer, [Read(group)]) for group in split.outputs]
        names = [f"{self.layer.name} of group {i}" for i in range(self.groups)]
        last = combining(names, [Read(node.outputs[0]) for node in each], self.combination)
        self.connect([split, *each, last], [Read(last.outputs[0])])

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"layer": Conv1D(2, 3, padding="reverse_causal"), "groups": 2}, (4, 12, 4)),
            Example({"layer": Conv1D(2, 2, strides=2), "groups": 2, "combination": "add"}, (4, 12, 4)),
        ]


class SplitChannels(SequenceLayer):
    """The last axis in equal groups, each a sequence.  [B, T, ..., C] -> several of [B, T, ..., C / groups]."""

    owner: str

    groups: int

    invalid_value: float | None = None

    def __init__(self, groups: int, owner: str, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.groups, self.owner = groups, owner

    @property
    def timings(self) -> tuple[Timing, ...]:
        return (Timing(),) * self.groups

    def output_spec(self, input_spec: Any) -> Any:
        shape = tuple(input_spec.shape)
        size = self._size(shape)
        made = (SequenceSpec((*shape[:-1], size), input_spec.dtype),) * self.groups
        return made if self.groups > 1 else made[0]

    def output_mask(self, mask: Any) -> Any:
        return (mask,) * self.groups if self.groups > 1 else mask

    def call_layer(self, x: Any, *, training: bool = False) -> Any:
        return self.call_step(x, ())[0]

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Any, Any]:
        size = self._size(x.values.shape[2:])
        made = tuple(x.apply(lambda v, i=i: v[..., i * size : (i + 1) * size]) for i in range(self.groups))
        return made if self.groups > 1 else made[0], state

    def _size(self, channels):
        if not channels or channels[-1] % self.groups:
            raise ValueError(
                f"{self.owner}: the last axis must be divisible by `groups` (={self.groups}); received channel shape "
                f"{tuple(channels)}"
            )
        return channels[-1] // self.groups


@register
class Residual(Combinator):
    """Adds what `layers` make of the input to the input, or to what `shortcut_layers` make of it.

    Mask and timing as in `Parallel`: the shortcut is delayed by the latency of the layers. A subclass may override
    `residual_function`, to do something else than add.

    Args:
        layers: the body, applied one after the other.
        shortcut_layers: the shortcut, applied one after the other; none is the identity.

    Raises:
        TypeError: an element that is not a kseq layer.
        ValueError: unequal ratios.

    Example:
        >>> import kseq
        >>> kseq.Residual([kseq.Conv1D(4, 3, padding="reverse_causal")]).timing.output_latency
        2
    """

    layers: tuple[SequenceLayer, ...]
    shortcut_layers: tuple[SequenceLayer, ...]

    def __init__(self, layers: LayerList = (), shortcut_layers: LayerList = (), **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.layers = self._checked(layers)
        self.shortcut_layers = self._checked(shortcut_layers, "shortcut_layers")
        # They take what the residual has cast, and so leave the dtype as it is.
        body = Serial(self.layers, name="body", autocast=False)
        shortcut = Serial(self.shortcut_layers, name="shortcut", autocast=False)
        adds = type(self).residual_function is Residual.residual_function
        by_function = None if adds else CombineBy(self.residual_function, 2, name="residual_function", autocast=False)
        self._connect_branches((body, shortcut), by_function or "add")

    def residual_function(self, body: Any, shortcut: Any) -> Any:
        """What is made of both branches' values [B, T, ...]: their sum. It must treat every step by itself."""
        return add([body, shortcut])

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"layers": [Conv1D(3, 3, padding="reverse_causal"), GRU(3)]}),
            Example({"layers": [Conv1D(2, 3, strides=2)], "shortcut_layers": [Conv1D(2, 1, strides=2)]}),
        ]


@register
class Skip(Combinator):
    """Puts what `layers` make of the input beside the input.  [B, T, C, ...] -> [B, T, C + D, ...].

    Mask and timing as in `Residual`: the input is delayed by the latency of the layers.

    Args:
        layers: kseq layers, applied one after the other.
        combination: of the input and of what the layers make of it, as in `Parallel`; by default they are joined on the
            first channel axis, the input first.

    Raises:
        TypeError: an element that is not a kseq layer.
        ValueError: an unknown combination, or layers that change the number of steps.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.Skip([kseq.Conv1D(3, 2, padding="reverse_causal")])
        >>> layer(np.zeros((1, 7, 4), "float32")).shape, layer.timing.output_latency
        ((1, 7, 7), 1)
    """

    combination: Any
    sublayers: tuple[Any, ...]

    layers: tuple[SequenceLayer, ...]

    def __init__(
        self, layers: LayerList = (), combination: Combination = "concat_first", **kwargs: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**kwargs)
        self.layers = self._checked(layers)
        self.combination = checked_combination("combination", combination)
        self.sublayers = self.layers
        body = node_of(Serial(self.layers, name="body", autocast=False), [Read(0)])
        last = combining(["input", "body"], [Read(0), Read(body.outputs[0])], self.combination)
        self.connect([body, last], [Read(last.outputs[0])])

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"layers": [Conv1D(2, 3, padding="reverse_causal")]}),
            Example({"layers": [Conv1D(3, 2)], "combination": "add"}),
        ]
