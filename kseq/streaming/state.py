"""Operations on states: the names of their leaves, rows of them, and states as bytes.

A state is a tree of arrays whose first axis is the batch. Its leaves have names: the keys on the way to them, joined by
a slash (`conv/values`). Bytes hold no code: a header in JSON, the arrays, and a checksum.
"""

import hashlib
import json
from typing import Any, NamedTuple

import keras
import numpy as np
import xxhash
from keras import ops

from ..layers.base import SequenceLayer
from ..layers.base import hold_rows as hold_rows
from ..layers.leaves import map_leaves, named_leaves
from ..layers.network import Network

_MAGIC = b"kseq-state\n"
_VERSION = 1


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
        leaves: NumPy arrays.
        wanted: what they are.
        structure: of the layer whose state it is, by `structure_of`.
    """
    header = {"version": _VERSION, "structure": structure, "leaves": [list(leaf) for leaf in wanted]}
    data = [json.dumps(header).encode()]
    data += [np.ascontiguousarray(leaf, np.dtype(leaf.dtype).newbyteorder("<")).tobytes() for leaf in leaves]
    body = _MAGIC + len(data[0]).to_bytes(4, "little") + b"".join(data)
    return body + xxhash.xxh3_128_digest(body)


def from_bytes(data: bytes, wanted: list[LeafSpec], structure: str) -> list[np.ndarray]:
    """The leaves that `to_bytes` was given.

    Raises:
        ValueError: bytes that are no state, damaged, of another version, or of another model.
    """
    body, checksum = data[:-16], data[-16:]
    if not body.startswith(_MAGIC):
        raise ValueError("the bytes are not a state that kseq has written")
    if xxhash.xxh3_128_digest(body) != checksum:
        raise ValueError("the bytes of the state are damaged: their checksum differs")
    start = len(_MAGIC) + 4
    end = start + int.from_bytes(body[len(_MAGIC) : start], "little")
    header = json.loads(body[start:end])
    if header["version"] != _VERSION:
        raise ValueError(f"the state must be of version {_VERSION}; received version {header['version']}")
    stored = [LeafSpec(name, tuple(shape), dtype) for name, shape, dtype in header["leaves"]]
    if header["structure"] != structure or [leaf[1:] for leaf in stored] != [leaf[1:] for leaf in wanted]:
        raise ValueError("the state is one of another model, batch size or dtype")
    leaves = []
    for leaf in stored:
        dtype = numpy_dtype(leaf.dtype)
        size = int(np.prod(leaf.shape, dtype=np.int64)) * dtype.itemsize
        leaves.append(np.frombuffer(body[end : end + size], dtype).reshape(leaf.shape))
        end += size
    return leaves


def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of a backend's."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def structure_of(layer: SequenceLayer) -> str:
    """A hash of what a layer is made of, its weights and automatic names left out."""
    return hashlib.sha256(json.dumps(_described(layer), sort_keys=True, default=repr).encode()).hexdigest()


def _described(layer):
    kind = type(layer.origin())
    if isinstance(layer, Network):
        keys = {i: i for i in range(layer.num_inputs)}
        keys |= {key: (n, i) for n, node in enumerate(layer.nodes) for i, key in enumerate(node.outputs)}
        reads = [[str([keys[k] for k in read.values]) for read in node.reads] for node in layer.nodes]
        return [kind.__name__, [_described(node.layer) for node in layer.nodes], reads]
    config = layer.origin().get_config() if isinstance(layer.origin(), keras.layers.Layer) else {}
    return [kind.__name__, _without_names(config)]


def _without_names(config):
    if isinstance(config, dict):
        return {
            k: _without_names(v) for k, v in config.items() if k not in ("name", "trainable") and "initializer" not in k
        }
    return [_without_names(v) for v in config] if isinstance(config, (list, tuple)) else config
