"""Layers made of layers: Serial, Parallel, Residual and Repeat, each aligning latencies by itself."""

import functools
from collections.abc import Iterable
from typing import Literal

import keras
from keras import ops

from .. import timing as algebra
from ..arguments import as_size
from ..registry import register
from ..sequence import Sequence, SequenceSpec
from .base import Example, SequenceLayer
from .delay import Delay
from .dense import Dense
from .recurrent.gated import GRU
from .windowed.convolution import Conv1D

Layers = SequenceLayer | Iterable[SequenceLayer]
Combination = Literal["stack", "concat", "add", "mean", "product"]


class _Combinator(SequenceLayer):
    """Attributes: `sublayers`, the layers in the order in which they run."""

    zeroes_invalid = False  # the sublayers do

    def _checked(self, layers, name="layers") -> tuple[SequenceLayer, ...]:
        layers = (layers,) if isinstance(layers, SequenceLayer) else tuple(layers)
        for i, layer in enumerate(layers):
            if not isinstance(layer, SequenceLayer):
                raise TypeError(
                    f"{type(self).__name__}: `{name}[{i}]` must be a kseq layer; received {layer!r} "
                    f"of type {type(layer).__name__}"
                )
        return layers

    @property
    def step_obstacle(self):
        for child in self.sublayers:
            if child.step_obstacle is not None:
                return f"{child.name} ({type(child).__name__}): {child.step_obstacle}"
        return None

    def _cast_spec(self, input_spec):
        """The spec of an input after the cast to the compute dtype, which is what children are given."""
        return SequenceLayer.output_spec(self, input_spec)


def _wait(length) -> Delay:
    """A delay between children, which keeps the dtype that they give."""
    return Delay(length, delay_layer_output=False, autocast=False)


class _Chain(_Combinator):
    """Children one after the other; a subclass names them by `_chain`."""

    def _chain(self, children):
        self.sublayers = children
        waits = algebra.serial_delays([child.timing for child in children])
        self._delays = tuple(_wait(wait) for wait in waits)

    def build(self, input_shape):
        for child in self.sublayers:
            if not child.built:
                child.build(input_shape)
            input_shape = child.compute_output_shape(input_shape)

    @property
    def timing(self):
        return algebra.serial([child.timing for child in self.sublayers])

    @property
    def creates_mask(self):
        return any(child.creates_mask for child in self.sublayers)

    def output_spec(self, input_spec):
        input_spec = self._cast_spec(input_spec)
        return functools.reduce(lambda spec, child: child.output_spec(spec), self.sublayers, input_spec)

    def output_length(self, length):
        return functools.reduce(lambda n, child: child.output_length(n), self.sublayers, length)

    def output_mask(self, mask):
        return functools.reduce(lambda m, child: child.output_mask(m), self.sublayers, mask)

    def call_layer(self, x, *, training=False, constants=None):
        for child in self.sublayers:
            x = child(x, training=training, constants=constants)
        return x

    def initial_state(self, batch_size, input_spec, constants=None):
        state, input_spec = [], self._cast_spec(input_spec)
        for wait, child in zip(self._delays, self.sublayers, strict=True):
            state.append(wait.initial_state(batch_size, input_spec))
            state.append(child.initial_state(batch_size, input_spec, constants))
            input_spec = child.output_spec(input_spec)
        return tuple(state)

    def call_step(self, x, state, *, training=False, constants=None):
        new_state = []
        for i, (wait, child) in enumerate(zip(self._delays, self.sublayers, strict=True)):
            x, waiting = wait.step(x, state[2 * i])
            x, after = child.step(x, state[2 * i + 1], training=training, constants=constants)
            new_state += [waiting, after]
        return x, tuple(new_state)


class _Branches(_Combinator):
    """Children side by side; a subclass names them by `_branch`."""

    def _branch(self, children, combination):
        self.sublayers = children
        self._combination = combination
        self.timing  # noqa: B018 - refuses unequal ratios now rather than in the first call
        waits = algebra.parallel_delays([child.timing for child in children])
        self._delays = tuple(_wait(wait) for wait in waits)

    def build(self, input_shape):
        for child in self.sublayers:
            if not child.built:
                child.build(input_shape)

    @property
    def timing(self):
        return algebra.parallel([child.timing for child in self.sublayers], [child.name for child in self.sublayers])

    @property
    def creates_mask(self):
        return any(child.creates_mask for child in self.sublayers)

    def output_spec(self, input_spec):
        input_spec = self._cast_spec(input_spec)
        if not self.sublayers:
            return input_spec
        specs = [child.output_spec(input_spec) for child in self.sublayers]
        dtype = keras.backend.result_type(*(spec.dtype for spec in specs))
        if self._combination == "mean" and not keras.backend.is_float_dtype(dtype):
            dtype = "float32"
        return SequenceSpec(_COMBINED_SHAPE[self._combination]([spec.shape for spec in specs]), dtype)

    def output_length(self, length):
        lengths = {child.output_length(length) for child in self.sublayers} or {length}
        if len(lengths) > 1:
            raise ValueError(
                f"the branches of {self.name} must give outputs of equal length; received "
                + ", ".join(f"{child.output_length(length)} from {child.name}" for child in self.sublayers)
            )
        return lengths.pop()

    def output_mask(self, mask):
        masks = [child.output_mask(mask) for child in self.sublayers] or [mask]
        return functools.reduce(ops.logical_and, masks)

    def call_layer(self, x, *, training=False, constants=None):
        if x.values.shape[1] is not None:
            self.output_length(x.values.shape[1])
        if not self.sublayers:
            return x
        return self._combine([child(x, training=training, constants=constants) for child in self.sublayers])

    def initial_state(self, batch_size, input_spec, constants=None):
        input_spec = self._cast_spec(input_spec)
        return tuple(
            (
                child.initial_state(batch_size, input_spec, constants),
                wait.initial_state(batch_size, child.output_spec(input_spec)),
            )
            for child, wait in zip(self.sublayers, self._delays, strict=True)
        )

    def call_step(self, x, state, *, training=False, constants=None):
        if not self.sublayers:
            return x, state
        outputs, new_state = [], []
        for child, wait, (before, waiting) in zip(self.sublayers, self._delays, state, strict=True):
            y, after = child.step(x, before, training=training, constants=constants)
            y, waiting = wait.step(y, waiting)
            outputs.append(y)
            new_state.append((after, waiting))
        return self._combine(outputs), tuple(new_state)

    def _combine(self, outputs):
        masks = [y.mask for y in outputs if y.mask is not None]
        mask = functools.reduce(ops.logical_and, masks) if masks else None
        return Sequence(_COMBINATIONS[self._combination]([y.values for y in outputs]), mask)


@register
class Serial(_Chain):
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

    def __init__(self, layers: Layers = (), **kwargs):
        super().__init__(**kwargs)
        self.layers = self._checked(layers)
        self._chain(self.layers)

    @classmethod
    def examples(cls):
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
class Parallel(_Branches):
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

    def __init__(self, layers: Layers = (), combination: Combination = "stack", **kwargs):
        super().__init__(**kwargs)
        if combination not in _COMBINATIONS:
            raise ValueError(f"`combination` must be one of {', '.join(_COMBINATIONS)}; received {combination!r}")
        self.layers = self._checked(layers)
        self.combination = combination
        self._branch(self.layers, combination)

    @classmethod
    def examples(cls):
        branches = [Conv1D(2, 3, padding="reverse_causal"), Dense(2)]
        return [
            Example({"layers": branches, "combination": "concat"}),
            Example({"layers": [Conv1D(2, 3, strides=2), Conv1D(2, 4, strides=2, padding="reverse_causal")]}),
            Example({"layers": []}),
        ]


@register
class Residual(_Branches):
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

    def __init__(self, layers: Layers = (), shortcut_layers: Layers = (), **kwargs):
        super().__init__(**kwargs)
        self.layers = self._checked(layers)
        self.shortcut_layers = self._checked(shortcut_layers, "shortcut_layers")
        # They take what the residual has cast, and so leave the dtype as it is.
        body = Serial(self.layers, name="body", autocast=False)
        self._branch((body, Serial(self.shortcut_layers, name="shortcut", autocast=False)), "add")

    @classmethod
    def examples(cls):
        return [
            Example({"layers": [Conv1D(3, 3, padding="reverse_causal"), GRU(3)]}),
            Example({"layers": [Conv1D(2, 3, strides=2)], "shortcut_layers": [Conv1D(2, 1, strides=2)]}),
        ]


@register
class Repeat(_Chain):
    """A layer, or layers one after the other, several times over, each time with weights of its own.

    Mask and timing as in `Serial`.

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

    def __init__(self, layers: Layers, num_repeats: int, **kwargs):
        super().__init__(**kwargs)
        self.num_repeats = as_size("num_repeats", num_repeats)
        self.layers = self._checked(layers)
        copies = [self._copy(layer, i) for i in range(1, num_repeats) for layer in self.layers]
        self._chain((*self.layers, *copies))

    def _copy(self, layer, i):
        return type(layer).from_config(layer.get_config() | {"name": f"{layer.name}_repeat_{i}"})

    @classmethod
    def examples(cls):
        return [Example({"layers": [Residual([Conv1D(3, 3, padding="reverse_causal")])], "num_repeats": 2})]


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
_COMBINED_SHAPE = dict.fromkeys(_COMBINATIONS, _broadcast_shape) | {"stack": _stack_shape, "concat": _concat_shape}
