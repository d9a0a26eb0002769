"""Records to the bytes of `tf.train.Example` and `tf.train.SequenceExample`."""

import functools
import itertools
import math

import numpy as np

from kseq import _ext

from ..errors import RecordError
from ..store.schema import TEXT
from .tf_features import BYTES, FLOAT, INT64, varint

_MOST_BYTES = 2**31 - 1  # of one message, by the rules of protobuf


def encoder(schema, kind):
    """The function from a record, as `convert_record` gives it, and its number to the bytes of a message of a kind."""
    fields = []
    for name, field in schema.items():
        in_list = kind == "sequence_example" and field.ragged
        key = _span(name.encode()) + b"\x12"
        fields.append((name, field, key, in_list, _encode_steps if in_list else _encode))

    def encode(record, number=None):
        context, lists = [], []
        for name, field, key, in_list, encode_value in fields:
            value = record[name]
            if value is not None:
                (lists if in_list else context).append(_span(key + _sized(encode_value(field, value))))
        message = _span(b"".join(context))
        if lists:
            message += b"\x12" + _sized(b"".join(lists))
        if len(message) > _MOST_BYTES:
            raise RecordError(f"a message has at most {_MOST_BYTES} bytes; this record needs {len(message)}", number)
        return message

    return encode


def _sized(data):
    return varint(len(data)) + data


def _span(data):
    """A message, or a value, that is field 1 of another."""
    return b"\x0a" + varint(len(data)) + data


def _native(dtype):
    """The kind of feature whose numbers hold the dtype's without loss; BYTES where raw bytes must."""
    if dtype.kind in "bi" or (dtype.kind == "u" and dtype.itemsize < 8):
        return INT64
    return FLOAT if dtype.kind == "f" and dtype.itemsize <= 4 else BYTES


def _int64(array):
    return array.reshape(-1).astype(np.int64, copy=False)


def _encode(field, value):
    if field.text:
        return b"\x0a" + _sized(_span(value.encode() if field.dtype == TEXT else value))
    kind = _native(field.store)
    if kind == INT64:
        return _numeric(_ext.pack_varints(_int64(value)), b"\x1a")
    if kind == FLOAT:
        return _numeric(value.astype("<f4").tobytes(), b"\x12")
    return _span(b"".join(map(_span, _raw(value, value.size if field.store.kind == "S" else 1))))


def _numeric(packed, tag):
    return tag + _sized(_span(packed) if packed else b"")


def _raw(array, parts):
    """The raw bytes of an array, little end first, in so many parts of one size."""
    raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
    size = len(raw) // parts if parts else 0
    return [raw[i * size : (i + 1) * size] for i in range(parts)]


@functools.lru_cache(4096)
def _head(size, tag):
    """What comes before the packed numbers of a step of so many bytes."""
    return _span(_numeric(bytes(size), tag))[: -size or None]


def _encode_steps(field, array):
    kind, inner = _native(field.store), math.prod(field.inner_shape)
    if kind == INT64:
        ends = np.zeros(array.size + 1, np.int64)
        packed = _ext.pack_varints(_int64(array), ends[1:])
        ends = ends[np.arange(len(array) + 1) * inner].tolist()
        return b"".join([_head(stop - at, b"\x1a") + packed[at:stop] for at, stop in itertools.pairwise(ends)])
    if kind == FLOAT:
        steps = _raw(array.astype(np.float32), len(array))
        return b"".join([_head(len(step), b"\x12") + step for step in steps])
    each = inner if field.store.kind == "S" else 1
    values = [_span(value) for value in _raw(array, each * len(array))]
    features = [_span(b"".join(values[i * each : (i + 1) * each])) for i in range(len(array))]
    return b"".join(map(_span, features))
