"""Columns of many `tf.train.Example`s or `tf.train.SequenceExample`s, by a schema."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kseq import _ext
from kseq.ragged import Ragged

from ...store.schema import Schema
from .exact import exact
from .messages import KINDS, Malformed, joined, parser
from .records import check_steps, within


def column_decoder(schema: Schema, kind: str) -> Callable[[Sequence[bytes]], dict[str, Any]]:
    """The function from the bytes of several messages of a kind to their columns, as `Writer.write_batch` takes them.

    It raises `Malformed` where one of the messages is malformed, or does not fit the schema; or where they differ in
    what they hold for a field, which fits one by one.
    """
    parse, names = parser(kind), [name.encode() for name in schema]

    def decode(batch):
        quick = _ext.example_columns(batch, names, kind != "example")
        if quick is None:
            found = _parsed(schema, list(map(parse, batch)), kind)
        else:
            found = [
                (_of_features, *column) if steps is None else (_of_lists, *column, steps) for *column, steps in quick
            ]
        return {
            name: within(name, _column, field, *column)
            for (name, field), column in zip(schema.items(), found, strict=True)
        }

    return decode


def columns_of(
    decode: Callable[[Sequence[bytes]], dict[str, Any]],
    batch: Sequence[bytes],
    error: Callable[[int, Malformed], Exception],
) -> Iterator[dict[str, Any]]:
    """Yield the columns of a batch of messages: of all at once, or one by one where that is malformed.

    Args:
        decode: as `column_decoder` gives it.
        batch: the messages, bytes.
        error: from the place of a malformed message in the batch, and what is wrong, the error to raise.
    """
    try:
        found = [decode(batch)]
    except Malformed:
        found = (_alone(decode, data, place, error) for place, data in enumerate(batch))
    yield from found


def _alone(decode, data, place, error):
    try:
        return decode([data])
    except Malformed as wrong:
        raise error(place, wrong) from None


def _parsed(schema, messages, kind):
    """For each field: how its column is made, what `joined` gives, and which messages have it."""
    contexts = [message.context.feature for message in messages]
    lists = [message.feature_lists.feature_list for message in messages]
    for name, field in schema.items():
        steps = [list(found[name].feature) if name in found else None for found in lists]
        features = [context.get(name) for context in contexts]
        # One that holds nothing is not there.
        features = [None if feature is None or not feature.WhichOneof("kind") else feature for feature in features]
        in_lists = np.array([value is not None for value in steps])
        in_context = np.array([value is not None for value in features])
        if in_lists.any() and (field.ragged or not in_context.any()):  # of both, sequences are feature lists
            if (in_context & ~in_lists).any():
                raise Malformed(f"feature {name!r}: it is a feature list of some records only")
            steps = [value for value in steps if value is not None]
            counts = np.array(list(map(len, steps)), np.int64)
            found = within(name, joined, [feature for features in steps for feature in features])
            yield _of_lists, *found, in_lists, counts
        else:
            yield _of_features, *within(name, joined, [value for value in features if value is not None]), in_context


def _column(field, read, kind, values, counts, there, *steps):
    """The column of a field, with None in the rows that have it not."""
    if there.all():
        return read(field, kind, values, counts, *steps)
    if not field.optional:
        raise Malformed("it is missing, and the schema does not say that it is optional")
    found = iter(read(field, kind, values, counts, *steps) if there.any() else ())
    return [next(found) if here else None for here in there.tolist()]


def _of_features(field, kind, values, counts):
    if field.text:
        return _texts(field, kind, values, counts)
    values, sizes = _array(field, kind, values, counts, None)
    inner = math.prod(field.inner_shape)
    steps = sizes // inner if field.ragged else np.ones_like(sizes)
    return _rows(field, values, sizes, steps)


def _of_lists(field, kind, values, counts, steps):
    if field.text:
        raise Malformed(f"a field of dtype {field.dtype!r} must hold one byte string; received a feature list")
    if not field.shape or (not field.ragged and (steps != field.shape[0]).any()):
        raise Malformed(f"a feature list of {steps[0]} steps does not fit {field}")
    ends = np.concatenate([[0], steps.cumsum()])
    if len(counts) and (counts != counts[0]).any():
        for start, stop in itertools.pairwise(ends):
            check_steps(counts[start:stop])
    values, sizes = _array(field, kind, values, counts, math.prod(field.shape[1:]))
    sizes = np.diff(np.concatenate([[0], sizes.cumsum()])[ends])
    return _rows(field, values, sizes, steps if field.ragged else np.ones_like(steps))


def _rows(field, values, sizes, steps):
    """The values as rows of so many steps, each of so many values."""
    if (wrong := sizes[sizes != steps * math.prod(field.inner_shape)]).size:
        raise Malformed(f"{wrong[0]} values do not fill the shape {field.shape}")
    values = values.reshape(-1, *field.inner_shape)
    if not field.ragged:
        return values
    offsets = np.concatenate([[0], steps.cumsum()])
    if values.dtype.kind in "biufc" or values.dtype.isbuiltin == 2:
        return Ragged(values, offsets)
    return [values[start:stop] for start, stop in itertools.pairwise(offsets)]


def _texts(field, kind, values, counts):
    if kind != "bytes_list" or (counts != 1).any():
        have = f"{counts[0]} {KINDS[kind]}"
        raise Malformed(f"a field of dtype {field.dtype!r} must hold one byte string; received {have}")
    if field.dtype == "bytes":
        return values
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError as error:
        raise Malformed(f"a string must be UTF-8; received {error.object!r:.100} ({error.reason})") from None


def _array(field, kind, values, counts, step):
    """The values in the field's dtype, and how many each feature has; `step`: how many a feature of a list has."""
    if kind == "bytes_list" and field.dtype.kind != "S":
        return _raw(field, values, counts, step)
    if kind == "bytes_list":
        longest = max(map(len, values), default=0)
        if longest > field.dtype.itemsize:
            raise Malformed(f"byte strings must fit {field.dtype}; received one of {longest} bytes")
        return np.array(values, field.dtype), counts
    found = exact(values, field.dtype) if kind else np.empty(0, field.dtype)  # steps that hold nothing, or no steps
    if found is None:
        some = np.array2string(values[:8], separator=", ", threshold=8)
        raise Malformed(f"{counts.sum()} {KINDS[kind]} must be exact in {field.dtype}; received {some}")
    return found, counts


def _raw(field, values, counts, step):
    """The array of raw bytes, little end first, and how many values each feature has."""
    size, sizes = field.store.itemsize, np.array(list(map(len, values)), np.int64)
    step = step if step is not None and (counts == 1).all() else None
    wrong = sizes % size != 0 if step is None else sizes != step * size
    if wrong.any():
        wanted = f"a multiple of {size}" if step is None else step * size
        raise Malformed(f"raw bytes of {field.store} must be {wanted} bytes; received {sizes[wrong][0]} bytes")
    raw = values[0] if len(values) == 1 else b"".join(values)
    ends = np.concatenate([[0], sizes.cumsum() // size])
    found = np.frombuffer(raw, field.store.newbyteorder("<")).astype(field.dtype)
    return found, np.diff(ends[np.concatenate([[0], counts.cumsum()])])
