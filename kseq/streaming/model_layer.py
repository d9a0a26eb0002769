"""`streamable`: a Keras model as a layer of kseq's, of sequences alone."""

import functools
from typing import Any

import keras
from keras import ops

from ..arguments import as_size
from ..layers.base import SequenceLayer
from ..layers.network import LayerNode, Network, Read
from ..layers.structures import parts
from ..sequence import Sequence, SequenceSpec
from . import presence
from .adapters import StreamOptions
from .graph import as_layer


def streamable(model: keras.Model | SequenceLayer, max_length: int = 1024, window: int | None = None) -> SequenceLayer:
    """A kseq layer that computes what a Keras model computes, whole or step by step, with the same variables.

    [B, T, ...] -> [B, U, ...], or tuples of them. The model may be one that was made and trained without kseq: its
    stock layers step by adapters. Mask: Keras's; where a stock layer loses the mask, every step counts. Timing: what
    the layers' padding, windows and horizons come to; a stream gives what `model.predict` gives of the whole. Only at
    steps that a mask hides, stock multi-head attention gives something else than Keras, whose backends do not agree.

    Args:
        model: a kseq layer, a `keras.Sequential`, a functional model, with models and layers within it, layers that
            are called twice, and several inputs and outputs, of which the layer takes and gives tuples; or a subclassed
            model that is declared by `kseq.traceable`.
        max_length: steps of a stream that stock attention to all of the past has room for.
        window: steps that such attention sees instead, its own included: then a stream has no end, and gives other
            numbers than the model once it is longer.

    Raises:
        TypeError: something else.
        NotStreamable: layers and operations that have no streaming form, a row each, with what to use instead.
        ValueError: a model that is not built, or sizes below 1.

    Example:
        >>> import kseq, keras, numpy as np
        >>> layers = [keras.layers.Conv1D(4, 3, padding="same"), keras.layers.LSTM(2, return_sequences=True)]
        >>> model = keras.Sequential([keras.Input((None, 3)), *layers])
        >>> layer = kseq.streamable(model)
        >>> layer.timing.output_latency
        1
    """
    layer = as_layer(model, stream_options(max_length, window))
    return _OfMasks(layer) if layer.reads_presence else layer


def stream_options(max_length: Any, window: Any) -> StreamOptions:
    """What a model does not say and a stream has to know, checked.

    Raises:
        ValueError: sizes below 1.
    """
    window = None if window is None else as_size("window", window)
    return StreamOptions(as_size("max_length", max_length), window)


class _OfMasks(Network):
    """A model that loses masks, of sequences whose masks say which steps are there."""

    layer: Any

    def __init__(self, layer: SequenceLayer) -> None:
        super().__init__(name=layer.name, autocast=False)
        count = layer.num_inputs - 1
        given, there = tuple(map(Read, range(count))), object()
        ends = tuple(object() for _ in layer.timings)
        context = {name: name for name in layer.context_names}
        nodes = [
            LayerNode(_There(count), given, (there,), "there", hidden=True),
            LayerNode(layer, (*given, Read(there)), ends, layer.name, context),
        ]
        self.connect(nodes, list(map(Read, ends)), count)
        self.layer, self.built = layer, True

    def origin(self) -> Any:
        return self.layer.origin()

    @property
    def channel_shape(self) -> Any:
        shapes = self.layer.channel_shape[: self.num_inputs]
        return shapes if self.num_inputs > 1 else shapes[0]


class _There(SequenceLayer):
    """A sequence whose mask says which steps of all inputs are there."""

    num_inputs: int

    invalid_value: float | None = None

    def __init__(self, count: int) -> None:
        super().__init__(name="there", autocast=False)
        self.num_inputs, self.built = count, True

    def output_spec(self, input_spec: Any) -> SequenceSpec:
        return presence.SPEC

    def call_layer(self, x: Any, *, training: bool = False) -> Sequence:
        masks = [part.mask for part in parts(x) if part.mask is not None]
        mask = functools.reduce(ops.logical_and, masks) if masks else None
        return Sequence(ops.ones(ops.shape(parts(x)[0].values)[:2], dtype="bool"), mask)

    def call_step(self, x: Any, state: Any, *, training: bool = False) -> tuple[Sequence, Any]:
        return self.call_layer(x), state
