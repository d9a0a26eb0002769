"""Layers made of layers: Serial, Parallel, Residual and Repeat, each aligning latencies by itself."""

import functools
import itertools
from collections.abc import Iterable
from typing import Any, Literal, Unpack

import keras
import numpy as np
from keras import ops

from ..annotations import LayerOptions
from ..arguments import as_size
from ..registry import register
from ..sequence import Sequence, SequenceSpec
from .base import Example, SequenceLayer
from .dense import Dense
from .network import LayerNode, Network, Read, chain, node_of
from .recurrent import GRU
from .windowed import Conv1D

LayerList = SequenceLayer | Iterable[SequenceLayer]
Combination = Literal["stack", "concat", "add", "mean", "product"]


class _Combinator(Network):
    """A network of one input that `sublayers`, given to the constructor, are connected to.

    Attributes:
        sublayers: the layers in the order in which they run.
    """

    sublayers: tuple[SequenceLayer, ...]

    def _checked(self, layers, name="layers") -> tuple[SequenceLayer, ...]:
        layers = (layers,) if isinstance(layers, SequenceLayer) else tuple(layers)
        for i, layer in enumerate(layers):
            if not isinstance(layer, SequenceLayer):
                raise TypeError(
                    f"{type(self).__name__}: `{name}[{i}]` must be a kseq layer; received {layer!r} "
                    f"of type {type(layer).__name__}"
                )
        return layers

    def _connect_chain(self, layers):
        self.sublayers = layers
        nodes, last = chain(layers, Read(0))
        self.connect(nodes, [last])

    def _connect_branches(self, layers, combination):
        self.sublayers = layers
        nodes = [node_of(layer, [Read(0)]) for layer in layers]
        last = Read(0)
        if nodes:
            nodes.append(_combining(nodes, combination))
            last = Read(nodes[-1].outputs[0])
        self.connect(nodes, [last])


@register
class Serial(_Combinator):
    """Layers one after the other.  The output of each is the input of the next.

    Mask and timing follow from the layers'. Where a layer with blocks follows one with latency, the stream is delayed
    so that the blocks start where layer mode starts them. A combinator can be used like a layer anywhere.

    Args:
        layers: kseq layers; none at all is the identity.

    Raises:
        TypeError: an element that is not a kseq layer.

    Example:
        >>> import kseq
        >>> layer = kseq.Serial([kseq.Lookahead(1), kseq.Conv1D(4, 3, strides=2)])
        >>> layer.timing.input_latency, layer.timing.output_latency
        (1, 1)
    """

    layers: tuple[SequenceLayer, ...]

    def __init__(self, layers: LayerList = (), **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.layers = self._checked(layers)
        self._connect_chain(self.layers)

    @classmethod
    def examples(cls) -> list[Example]:
        ahead = {"filters": 2, "kernel_size": 4, "padding": "reverse_causal"}
        return [
            Example({"layers": [Conv1D(**ahead), GRU(2), Conv1D(2, 3, strides=2)]}, (4, 11, 2)),
            Example(
                {
                    "layers": [
                        Conv1D(2, 3, strides=2, padding="reverse_causal_valid"),
                        Conv1D(2, 2, padding="causal_valid"),
                    ]
                }
            ),
        ]


@register
class Parallel(_Combinator):
    """Layers side by side on the same input, their outputs combined.

    Mask: an output is valid where every branch's is. Timing: branches of less latency are delayed to match the slowest;
    ratios must be equal. No layers at all is the identity.

    Args:
        layers: the branches, kseq layers.
        combination: "stack" on a new first channel axis, "concat" on the last axis, or "add", "mean", "product" by the
            broadcasting rules of NumPy.

    Raises:
        TypeError: an element that is not a kseq layer.
        ValueError: an unknown combination or unequal ratios.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.Parallel([kseq.Dense(3), kseq.Delay(2, delay_layer_output=False)], combination="concat")
        >>> layer(np.zeros((1, 7, 4), "float32")).shape, layer.timing.output_latency
        ((1, 7, 7), 2)
    """

    layers: tuple[SequenceLayer, ...]

    def __init__(
        self, layers: LayerList = (), combination: Combination = "stack", **kwargs: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**kwargs)
        if combination not in _COMBINATIONS:
            raise ValueError(f"`combination` must be one of {', '.join(_COMBINATIONS)}; received {combination!r}")
        self.layers = self._checked(layers)
        self.combination = combination
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
class Residual(_Combinator):
    """Adds what `layers` make of the input to the input, or to what `shortcut_layers` make of it.

    Mask and timing as in `Parallel`: the shortcut is delayed by the latency of the layers.

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
        self._connect_branches((body, Serial(self.shortcut_layers, name="shortcut", autocast=False)), "add")

    @classmethod
    def examples(cls) -> list[Example]:
        return [
            Example({"layers": [Conv1D(3, 3, padding="reverse_causal"), GRU(3)]}),
            Example({"layers": [Conv1D(2, 3, strides=2)], "shortcut_layers": [Conv1D(2, 1, strides=2)]}),
        ]


@register
class Repeat(_Combinator):
    """A layer, or layers one after the other, several times over, each time with weights of its own.

    Mask and timing as in `Serial`. Seeds in the layers' configuration (of initialisers, of dropout) are those of the
    first repeat; every other draws from seeds that follow from them and from its number.

    Args:
        layers: a kseq layer or several; the repeats are made from their configuration.
        num_repeats: how often.

    Raises:
        TypeError: an element that is not a kseq layer.
        ValueError: `num_repeats` below 1.

    Example:
        >>> import kseq
        >>> kseq.Repeat([kseq.Conv1D(4, 3, padding="reverse_causal")], num_repeats=3).timing.output_latency
        6
    """

    layers: tuple[SequenceLayer, ...]
    num_repeats: int

    def __init__(self, layers: LayerList, num_repeats: int, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.num_repeats = as_size("num_repeats", num_repeats)
        self.layers = self._checked(layers)
        copies = [self._copy(layer, i) for i in range(1, self.num_repeats) for layer in self.layers]
        self._connect_chain((*self.layers, *copies))

    def _copy(self, layer, i):
        config = _reseeded(layer.get_config(), (i, _repeats(layer)))
        return type(layer).from_config(config | {"name": f"{layer.name}_repeat_{i}"})

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"layers": [Residual([Conv1D(3, 3, padding="reverse_causal")])], "num_repeats": 2})]


class Combine(SequenceLayer):
    """Several sequences combined into one by `combination`; valid where all are."""

    branches: list[str]
    num_inputs: int

    invalid_value: float | None = None

    def __init__(self, combination: Combination, branches: list[str], **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.combination, self.branches, self.num_inputs = combination, branches, len(branches)

    def output_spec(self, input_spec: Any) -> Any:
        specs = input_spec if self.num_inputs > 1 else (input_spec,)
        dtype = keras.backend.result_type(*(spec.dtype for spec in specs))
        if self.combination == "mean" and not keras.backend.is_float_dtype(dtype):
            dtype = "float32"
        shapes = [tuple(spec.shape) for spec in specs]
        for (one, branch), (shape, other) in itertools.combinations(zip(shapes, self.branches, strict=True), 2):
            if not _FIT[self.combination](one, shape):
                raise ValueError(
                    f"branches must have channel shapes that {self.combination!r} combines; received {one} for branch "
                    f"{branch!r} and {shape} for branch {other!r}"
                )
        return SequenceSpec(_COMBINED_SHAPE[self.combination](shapes), dtype)

    def call_layer(self, x: Any, *, training: bool = False) -> Any:
        return self.call_step(x, ())[0]

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Any, Any]:
        x = x if self.num_inputs > 1 else (x,)
        masks = [y.mask for y in x if y.mask is not None]
        mask = functools.reduce(ops.logical_and, masks) if masks else None
        return Sequence(_COMBINATIONS[self.combination]([y.values for y in x]), mask), state


def _repeats(layer) -> int:
    """How many `Repeat`s a layer holds one within the other: their seeds must not be those of one around them."""
    within = max((_repeats(node.layer) for node in getattr(layer, "nodes", ())), default=0)
    return within + isinstance(layer, Repeat)


def _reseeded(config, place):
    """A configuration, each seed in it replaced by one that follows from it and from the numbers of a place."""
    if isinstance(config, dict):
        return {
            key: _seed_at(value, place) if key == "seed" and type(value) is int else _reseeded(value, place)
            for key, value in config.items()
        }
    return type(config)(_reseeded(value, place) for value in config) if type(config) in (list, tuple) else config


def _seed_at(seed, place):
    return int(np.random.SeedSequence([seed % 2**64, *place]).generate_state(1)[0]) % 2**31


def _combining(nodes, combination) -> LayerNode:
    # It takes what the layers give, whatever the dtype.
    layer = Combine(combination, [node.name for node in nodes], name=combination, autocast=False)
    return node_of(layer, [Read(node.outputs[0]) for node in nodes], hidden=True)


def _stack_shape(shapes):
    return (len(shapes), *_broadcast_shape(shapes))


def _concat_shape(shapes):
    return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))


def _broadcast_shape(shapes):
    rank = max(map(len, shapes))
    aligned = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(max(sizes) for sizes in zip(*aligned, strict=True))


def _aligned(values):
    """Values with unit channel axes put in front, so that channels align at the right as in NumPy."""
    rank = max(len(v.shape) for v in values)
    for v in values:
        while len(v.shape) < rank:
            v = ops.expand_dims(v, 2)
        yield v


_COMBINATIONS = {
    "stack": lambda values: ops.stack(values, axis=2),
    "concat": lambda values: ops.concatenate(values, axis=-1),
    "add": lambda values: functools.reduce(ops.add, _aligned(values)),
    "mean": lambda values: functools.reduce(ops.add, _aligned(values)) / len(values),
    "product": lambda values: functools.reduce(ops.multiply, _aligned(values)),
}


def _broadcast(a, b):
    return all(1 in pair or pair[0] == pair[1] for pair in zip(reversed(a), reversed(b), strict=False))


_FIT = dict.fromkeys(_COMBINATIONS, _broadcast)
_FIT |= {"stack": lambda a, b: a == b, "concat": lambda a, b: len(a) == len(b) and a[:-1] == b[:-1]}
_COMBINED_SHAPE = dict.fromkeys(_COMBINATIONS, _broadcast_shape) | {"stack": _stack_shape, "concat": _concat_shape}
