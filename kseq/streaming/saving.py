"""A stream between two calls as bytes: all that decides what it gives next, but for the model itself."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import xxhash
from keras import ops

from ..layers.structures import as_sequence
from ..runtime import packed
from ..sequence import Sequence, SequenceSpec
from . import state
from .adapters import StreamOptions
from .ends import Form

_FORMAT = packed.ByteFormat(b"kseq-stream\n", 1, "stream")


class Saved(NamedTuple):
    """What is saved of a stream.

    Attributes:
        batch_size, dtype, context, options: as it was made.
        form: `Ends.form`.
        blocks: `Blocks.position`.
        leaves: of the state, in NumPy and in the order of the layers; `None` where the stream has had no step yet.
        seeds: by its number the value of every variable that random numbers, or counts, go on from.
        generator: of the backend, bytes as an array, where its random numbers go on from more than variables.
    """

    batch_size: int
    dtype: str | None
    context: dict[str, Any] | None
    options: StreamOptions
    form: Any
    blocks: Any
    leaves: list[Any] | None
    seeds: dict[int, Any]
    generator: Any


class ModelId(NamedTuple):
    """What a stream goes on with: what its model is made of, each of its layers, and a hash of the weights."""

    structure: str
    layers: list[list[str]]
    weights: str


def model_id(layer: Any, weights: Any) -> ModelId:
    """What a layer with weights from `freeze` is, in every process and on every backend."""
    layers = [list(row) for row in state.outline(layer)]
    return ModelId(state.structure_of(layer), layers, _digest(layer, weights))


def to_bytes(saved: Saved, model: ModelId) -> bytes:
    """A stream as bytes."""
    together, held, pushed, made, returned, usual = saved.blocks
    header = {
        **model._asdict(),
        "batch_size": saved.batch_size,
        "dtype": saved.dtype,
        "options": dataclasses.asdict(saved.options),
        "dtypes": [spec.dtype for spec in saved.form.specs],
        "channels": [spec.shape for spec in saved.form.specs],
        "as_sequence": saved.form.as_sequence,
        "batched": saved.form.batched,
        "counts": np.array([pushed, *made, *returned]).tolist(),
        "together": together,
        "usual": usual,
        "has_state": saved.leaves is not None,
        "has_context": saved.context is not None,
    }
    arrays = {f"state/{n}": leaf for n, leaf in enumerate(saved.leaves or ())}
    arrays |= {f"seed/{n}": seed for n, seed in saved.seeds.items()}
    arrays |= {} if saved.generator is None else {"generator": saved.generator}
    arrays |= _named("held", dict(enumerate(held or ())))
    arrays |= _named("context", {name: as_sequence(x) for name, x in (saved.context or {}).items()})
    return packed.pack(_FORMAT, header, arrays)


def from_bytes(data: Any, identify: Callable[[StreamOptions], ModelId], other_weights: bool = False) -> Saved:
    """What `to_bytes` was given with the same model, but for the weights if others will do.

    Args:
        data: the bytes.
        identify: what the model is, with the options of the stream that was saved.
        other_weights: whether the weights may be others.

    Raises:
        TypeError: no bytes.
        ValueError: bytes that are no stream, damaged, of another version, of another model or of other weights.
    """
    header, arrays = packed.unpack(_FORMAT, data)
    options = StreamOptions(**header["options"])
    model = identify(options)
    _check_layers(ModelId(*(header[name] for name in ModelId._fields)), model)
    if header["weights"] != model.weights and not other_weights:
        raise ValueError(
            "the stream was saved with other weights than those that the model has; `other_weights=True` lets it go on "
            "with these"
        )
    parts = {kind: _of_kind(arrays, kind) for kind in ("state", "seed", "held", "context")}
    count = (len(header["counts"]) - 1) // 2
    pushed, *counts = [n if header["together"] else np.array(n, np.int64) for n in header["counts"]]
    held = list(_sequences(parts["held"]).values()) or None
    channels = zip(header["channels"], header["dtypes"], strict=True)
    specs = tuple(SequenceSpec(tuple(shape), dtype) for shape, dtype in channels)
    return Saved(
        header["batch_size"],
        header["dtype"],
        _sequences(parts["context"]) if header["has_context"] else None,
        options,
        Form(specs, header["as_sequence"], header["batched"]),
        (header["together"], held, pushed, counts[:count], counts[count:], tuple(header["usual"])),
        list(parts["state"].values()) if header["has_state"] else None,
        {int(number): seed for number, seed in parts["seed"].items()},
        arrays.get("generator"),
    )


def seeds_of(layer: Any, weights: Any, written: dict[int, Any]) -> dict[int, np.ndarray]:
    """By its number the value of every variable that a layer's random numbers go on from, or a count.

    Args:
        layer: whose variables they are.
        weights: their values when the stream was made.
        written: those that its steps have written since.
    """
    kept = {id(v) for v in layer.weights}
    first = {i: weights.values[i] for i, v in enumerate(layer.variables) if id(v) not in kept and not _is_float(v)}
    return {i: np.asarray(ops.convert_to_numpy(value)) for i, value in (first | written).items()}


def _is_float(variable):
    return keras.backend.is_float_dtype(variable.dtype)


def _check_layers(saved, own):
    """Refuse a stream of another model, and say how it differs."""
    if saved.structure == own.structure:
        return
    theirs, ours = saved.layers, own.layers
    for number, (there, here) in enumerate(zip(theirs, ours, strict=False), 1):
        if there[0] != here[0]:
            reason = f"its layer {number} is {there[0]}, and that of the model {here[0]}"
            break
        if there != here:
            reason = f"its layer {number}, {there[0]}, has other arguments than that of the model"
            break
    else:
        reason = (
            "its layers are connected in another way"
            if len(theirs) == len(ours)
            else f"it has {len(theirs)} layers, and the model {len(ours)}"
        )
    raise ValueError(f"the stream was saved with another model: {reason}")


def _digest(layer, weights) -> str:
    """A hash of weights as numbers, without seeds: the same on every backend."""
    kept, digest = {id(v) for v in layer.weights}, xxhash.xxh3_128()
    for variable, value in zip(layer.variables, weights.values, strict=True):
        if id(variable) in kept:
            name = keras.backend.standardize_dtype(value.dtype)
            array = np.asarray(ops.convert_to_numpy(value)).astype(packed.numpy_dtype(name))
            digest.update(f"{array.shape}{name}".encode())
            array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _named(kind, sequences):
    """Arrays of sequences by names of their own."""
    found = {}
    for name, (values, mask) in sequences.items():
        found[f"{kind}/{name}/values"] = ops.convert_to_numpy(values)
        if mask is not None:
            found[f"{kind}/{name}/mask"] = ops.convert_to_numpy(mask)
    return found


def _of_kind(arrays, kind):
    return {name.removeprefix(f"{kind}/"): a for name, a in arrays.items() if name.startswith(f"{kind}/")}


def _sequences(arrays):
    """The sequences that `_named` was given, by name."""
    names = dict.fromkeys(name.rpartition("/")[0] for name in arrays)
    return {name: Sequence(arrays[f"{name}/values"], arrays.get(f"{name}/mask")) for name in names}
