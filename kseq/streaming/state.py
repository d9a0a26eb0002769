"""Operations on states: the names of their leaves, rows of them, and states as bytes.

A state is a tree of arrays whose first axis is the batch. Its leaves have names: the keys on the way to them, joined by
a slash (`conv/values`). Bytes hold no code: a header in JSON, the arrays, and a checksum.
"""

import hashlib
import json
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ..dtypes import numpy_dtype
from ..layers.base import SequenceLayer
from ..layers.base import hold_rows as hold_rows
from ..layers.leaves import map_leaves, named_leaves
from ..layers.network import Network
from ..runtime import packed

# What configurations have of names, and what does not matter to a step.
_NAMES = ("name", "branches", "trainable")
_FORMAT = packed.ByteFormat(b"kseq-state\n", 2, "state")


class LeafSpec(NamedTuple):
    """A leaf of a state: its name, its shape with the batch first, and its dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def specs(state: Any) -> list[LeafSpec]:
    """What every leaf of a state is.

    Example:
        >>> import numpy as np
        >>> specs({"values": np.zeros((1, 2, 3), "float32")})
        [LeafSpec(name='values', shape=(1, 2, 3), dtype='float32')]
    """
    return [LeafSpec(name, tuple(x.shape), keras.backend.standardize_dtype(x.dtype)) for name, x in named_leaves(state)]


def take(state: Any, rows: Any) -> Any:
    """The rows, by integers [N], of every leaf."""
    return map_leaves(lambda leaf: ops.take(leaf, rows, axis=0), state)


def put(state: Any, rows: Any, other: Any) -> Any:
    """The state with its rows, by integers [N], replaced by the N rows of another."""

    def replaced(leaf, new):
        return ops.scatter_update(leaf, ops.reshape(ops.convert_to_tensor(rows, "int32"), (-1, 1)), new)

    return map_leaves(replaced, state, other)


def check(state: Any, wanted: list[LeafSpec]) -> None:
    """Refuse a state whose leaves are not as wanted.

    Raises:
        ValueError: another structure, shape or dtype, by the leaf's name.
    """
    found = specs(state)
    if [leaf.name for leaf in found] != [leaf.name for leaf in wanted]:
        raise ValueError(
            f"a state must have the leaves {', '.join(leaf.name for leaf in wanted) or 'none'}; "
            f"received {', '.join(leaf.name for leaf in found) or 'none'}"
        )
    for leaf, other in zip(found, wanted, strict=True):
        if leaf != other:
            raise ValueError(
                f"the state's leaf {leaf.name!r} must have shape {other.shape} and dtype {other.dtype}; "
                f"received shape {leaf.shape} and dtype {leaf.dtype}"
            )


def to_bytes(leaves: Any, wanted: list[LeafSpec], structure: str) -> bytes:
    """The leaves of a state as bytes, which any machine and backend can read.

    Args:
        leaves: NumPy arrays, in an order that does not depend on the names of layers.
        wanted: what they are.
        structure: of the layer whose state it is, by `structure_of`.
    """
    named = {leaf.name: array for leaf, array in zip(wanted, leaves, strict=True)}
    return packed.pack(_FORMAT, {"structure": structure}, named)


def from_bytes(data: bytes, wanted: list[LeafSpec], structure: str) -> list[np.ndarray]:
    """The leaves that `to_bytes` was given.

    Raises:
        ValueError: bytes that are no state, damaged, of another version, or of another model.
    """
    header, found = packed.unpack(_FORMAT, data)
    stored = [(leaf.shape, leaf.dtype) for leaf in found.values()]
    if header["structure"] != structure or stored != [(leaf.shape, numpy_dtype(leaf.dtype)) for leaf in wanted]:
        raise ValueError("the state is one of another model, batch size or dtype")
    return list(found.values())


def structure_of(layer: SequenceLayer) -> str:
    """A hash of what a layer is made of, its weights and automatic names left out."""
    return _digest(_described(layer))


def outline(layer: SequenceLayer) -> list[tuple[str, str]]:
    """Of each layer that is no network of others its class, and a hash of its arguments."""
    if isinstance(layer, Network):
        return [row for node in layer.nodes for row in outline(node.layer)]
    return [(type(layer.origin()).__name__, _digest(_described(layer)))]


def _digest(described):
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=_in_text).encode()).hexdigest()


def _in_text(x):
    """What JSON has no form for, the same in every process and on every backend."""
    if isinstance(x, np.ndarray) or keras.ops.is_tensor(x):
        return np.asarray(keras.ops.convert_to_numpy(x)).tolist()
    return getattr(x, "__qualname__", type(x).__qualname__)


def _described(layer):
    kind = type(layer.origin())
    if isinstance(layer, Network):
        keys = {i: i for i in range(layer.num_inputs)}
        keys |= {key: (n, i) for n, node in enumerate(layer.nodes) for i, key in enumerate(node.outputs)}
        reads = [[str([keys[k] for k in read.values]) for read in node.reads] for node in layer.nodes]
        return [kind.__name__, [_described(node.layer) for node in layer.nodes], reads]
    try:
        config = layer.origin().get_config() if isinstance(layer.origin(), keras.layers.Layer) else {}
    except (AttributeError, NotImplementedError):  # a layer that is made for a network, or is never saved
        config = {"timing": str(layer.timing)}
    return [kind.__name__, _without_names(config)]


def _without_names(config, names=None):
    """A configuration without the names of layers, which Keras counts; in a graph of them each is a number."""
    if isinstance(config, dict):
        if "input_layers" in config:
            names = {layer["name"]: number for number, layer in enumerate(config["layers"])}
        return {
            key: _without_names(value, names)
            for key, value in config.items()
            if key not in _NAMES and "initializer" not in key
        }
    if isinstance(config, (list, tuple)):
        return [_without_names(value, names) for value in config]
    return names.get(config, config) if names and isinstance(config, str) else config
