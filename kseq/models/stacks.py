"""Stacks of recurrent layers by sizes, or of layers that are given in their place."""

from collections.abc import Iterable
from typing import Any

import keras

from ..arguments import as_number, as_size, check_choice
from ..layers import Bidirectional, Dropout
from ..layers.base import SequenceLayer
from ..registry import registered_layers
from ..sequence import SequenceSpec

Layers = SequenceLayer | Iterable[SequenceLayer]
#: The recurrent layers that sizes are of: those whose first argument is `units`.
CELLS = ("GRU", "LSTM", "SimpleRNN", "MinGRU", "MinLSTM")


def rate_of(rate: Any, keep_prob: Any) -> float:
    """The fraction that dropout sets to zero, given as such, or by what it keeps.

    Raises:
        ValueError: both, or a number that is no such fraction.
    """
    if keep_prob is None:
        return as_number("rate", rate, "at least 0 and below 1", lambda x: 0 <= x < 1)
    if rate:
        raise ValueError(f"give one of rate and keep_prob, which is 1 - rate; received {rate} and {keep_prob}")
    return 1 - as_number("keep_prob", keep_prob, "above 0 and at most 1", lambda x: 0 < x <= 1)


def sizes_of(layer_sizes: Any) -> list[int]:
    """Sizes of layers, one at least, checked."""
    if isinstance(layer_sizes, (str, dict)) or not isinstance(layer_sizes, Iterable):
        raise TypeError(f"layer_sizes must be a list of sizes, as in [50, 30]; received {layer_sizes!r}")
    sizes = [as_size(f"layer_sizes[{i}]", size) for i, size in enumerate(layer_sizes)]
    if not sizes:
        raise ValueError("layer_sizes must have one size at least; received []")
    return sizes


def stack(
    sizes: list[int], cell: str, rate: float, prefix: str, bidirectional: bool, dtype: Any, seed: int
) -> list[Any]:
    """Recurrent layers of these sizes, with dropout after each."""
    known = {name: cls for name, cls in registered_layers().items() if name in CELLS}
    check_choice("cell", cell, sorted(known))
    found: list[SequenceLayer] = []
    for i, size in enumerate(sizes):
        layer = known[cell](size, name=f"{prefix}_{i}", dtype=dtype)
        found.append(Bidirectional(layer, name=f"{prefix}_both_{i}", dtype=dtype) if bidirectional else layer)
        if rate:
            # Without a seed Keras on torch draws zeros from torch's generator, which no backup has.
            found.append(Dropout(rate, seed=seed % 2**31, name=f"{prefix}_dropout_{i}", dtype=dtype))
    return found


def given_layers(layers: Any, name: str) -> list[Any]:
    """Layers that were given in the place of sizes: kseq's, or configurations of them as files have them."""
    given = [layers] if isinstance(layers, (SequenceLayer, dict)) else layers
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"{name} must be kseq layers; received {layers!r:.200}")
    found = [keras.saving.deserialize_keras_object(each) if isinstance(each, dict) else each for each in given]
    for i, layer in enumerate(found):
        if not isinstance(layer, SequenceLayer):
            raise TypeError(f"{name}[{i}] must be a kseq layer; received {layer!r:.200}")
    return found


def exact(dtype: str) -> str:
    """The dtype in which data is scaled: half precision has not its digits."""
    return "float64" if dtype == "float64" else "float32"


def width_of(layers: list[Any]) -> int:
    """Channels that layers give, whatever they read."""
    spec = SequenceSpec((1,), "float32")
    for layer in layers:
        spec = layer.output_spec(spec)
    return spec.shape[0]
