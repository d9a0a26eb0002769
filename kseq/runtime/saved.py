"""A stream between two calls as bytes: all that decides what it gives next, but for the model itself."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..sequence import Sequence, SequenceSpec
from . import packed
from .ends import Form

_FORMAT = packed.ByteFormat(b"kseq-stream\n", 1, "stream")


class Saved(NamedTuple):
    """What is saved of a stream.

    Attributes:
        batch_size, dtype, options: as it was made.
        context: a `Sequence` of NumPy arrays by name, or `None`.
        form: `Ends.form`.
        blocks: `Blocks.position`.
        leaves: of the state, in NumPy and in the order of the layers; `None` where the stream has had no step yet.
        seeds: by its number the value of every variable that random numbers, or counts, go on from.
        generator: of the backend, bytes as an array, where its random numbers go on from more than variables.
    """

    batch_size: int
    dtype: str | None
    context: dict[str, Sequence] | None
    options: dict[str, Any]
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


def to_bytes(saved: Saved, model: ModelId) -> bytes:
    """A stream as bytes."""
    together, held, waiting, pushed, made, returned, usual = saved.blocks
    if together and held:
        held = [x.slice_time(0, waiting) for x in held]  # the rest is room
    header = {
        **model._asdict(),
        "batch_size": saved.batch_size,
        "dtype": saved.dtype,
        "options": saved.options,
        "dtypes": [spec.dtype for spec in saved.form.specs],
        "channels": [spec.shape for spec in saved.form.specs],
        "as_sequence": saved.form.as_sequence,
        "batched": saved.form.batched,
        "counts": np.array([waiting, pushed, *made, *returned]).tolist(),
        "together": together,
        "usual": usual,
        "has_state": saved.leaves is not None,
        "has_context": saved.context is not None,
    }
    arrays = {f"state/{n}": leaf for n, leaf in enumerate(saved.leaves or ())}
    arrays |= {f"seed/{n}": seed for n, seed in saved.seeds.items()}
    arrays |= {} if saved.generator is None else {"generator": saved.generator}
    arrays |= packed.named("held", dict(enumerate(held or ())))
    arrays |= packed.named("context", saved.context or {})
    return packed.pack(_FORMAT, header, arrays)


def from_bytes(data: Any, identify: Callable[[dict[str, Any]], ModelId], other_weights: bool = False) -> Saved:
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
    with packed.reading(_FORMAT):
        saved, theirs = _read(header, arrays)
    model = identify(saved.options)
    _check_layers(theirs, model)
    if theirs.weights != model.weights and not other_weights:
        raise ValueError(
            "the stream was saved with other weights than those that the model has; `other_weights=True` lets it go on "
            "with these"
        )
    return saved


def _read(header, arrays):
    """What is saved, and of which model."""
    count = (len(header["counts"]) - 2) // 2
    waiting, pushed, *counts = [n if header["together"] else np.array(n, np.int64) for n in header["counts"]]
    held = list(packed.sequences_of(arrays, "held").values()) or None
    channels = zip(header["channels"], header["dtypes"], strict=True)
    specs = tuple(SequenceSpec(tuple(shape), dtype) for shape, dtype in channels)
    saved = Saved(
        header["batch_size"],
        header["dtype"],
        packed.sequences_of(arrays, "context") if header["has_context"] else None,
        header["options"],
        Form(specs, header["as_sequence"], header["batched"]),
        (header["together"], held, waiting, pushed, counts[:count], counts[count:], tuple(header["usual"])),
        list(packed.of_kind(arrays, "state").values()) if header["has_state"] else None,
        {int(number): seed for number, seed in packed.of_kind(arrays, "seed").items()},
        arrays.get("generator"),
    )
    return saved, ModelId(*(header[name] for name in ModelId._fields))


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
