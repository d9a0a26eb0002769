"""Whether a layer can be called: many tell the shape of their output without a look at what they do to get there."""

import functools
import inspect
import math
from typing import Any

import keras

from ..sequence import Sequence
from .masking import takes_sequences

_STEPS = (4, 64, 4096)  # tried one after the other: a layer may need some
_BATCH = 2
_MOST_NUMBERS = 2**22  # read, held or given by a call that is tried


def try_call(layer: Any, given: Any, said: Any, held: int) -> None:
    """Call a layer on a few lengths, without values where the backend can trace: one must do, and give what it says.

    Args:
        layer: built.
        given: the symbolic tensors or the sequence that it reads.
        said: the output that it says that it gives.
        held: numbers of the state of one stream, of which a call may make as many.

    Raises:
        Exception: what the layer raises.
        ValueError: an output of other channels than the layer has said.
    """
    failure, wanted = None, _channels(said)
    for steps in _lengths(layer, given, wanted, held):
        try:
            found = _channels(_trial(layer, keras.tree.map_structure(functools.partial(_sized, steps), given)))
        except Exception as error:
            failure = failure or error
            continue
        if found != wanted:
            raise ValueError(f"it says that it gives channels {_listed(wanted)}, and gives {_listed(found)}")
        return
    if failure is not None:
        raise failure


def _trial(layer, given):
    call = _Trial(layer)
    if keras.backend.backend() == "jax":
        return call.compute_output_spec(given)
    # Torch has shapes without values too, but takes more of them than it can compute; a graph of tensorflow's takes
    # fewer names, and is left in their scope by one that it does not take.
    with keras.StatelessScope():
        return call(keras.tree.map_structure(lambda x: keras.ops.zeros(x.shape, x.dtype), given))


def _lengths(layer, given, wanted, held):
    """How many steps to try: those of the input, or some that give outputs, and no more numbers than are allowed."""
    shapes = [x.shape[1:] for x in _values(given)]
    known = [time for time, *_ in shapes if time is not None]
    channels = max(math.prod(shape) for shape in [shape[1:] for shape in shapes] + wanted)
    for steps in known[:1] or _STEPS:
        gives, block = (layer.output_length(steps), layer.timing.block_size) if takes_sequences(layer) else (steps, 1)
        if gives and _BATCH * (max(steps, block) * channels + held) <= _MOST_NUMBERS:  # blocks are filled up
            yield steps


def _values(x):
    return [x.values] if isinstance(x, Sequence) else keras.tree.flatten(x)


def _channels(y):
    return [tuple(x.shape[2:]) for x in _values(y)]


def _listed(shapes):
    return " and ".join(map(str, shapes))


def _sized(steps, x):
    _, time, *channels = x.shape
    return keras.KerasTensor((_BATCH, steps if time is None else time, *channels), x.dtype)


class _Trial(keras.Operation):
    """A call of which the backend says the shape, and not the layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, given):
        if not takes_sequences(self.layer) and "training" in inspect.signature(self.layer.call).parameters:
            self.layer(given, training=True)
        return self.layer(given)
