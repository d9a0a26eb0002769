"""Records to the bytes of `tf.train.Example` and `tf.train.SequenceExample`."""

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np

from ...errors import RecordError
from ...store.schema import TEXT, Schema
from .messages import message_class

_MOST_BYTES = 2**31 - 1  # of one message, by the rules of protobuf


def encoder(schema: Schema, kind: str) -> Callable[..., bytes]:
    """The function from a record, as `convert_record` gives it, and its number to the bytes of a message of a kind."""
    message_type = message_class("SequenceExample")
    from google.protobuf.message import EncodeError

    fields = [(name, field.ragged and kind != "example", _setter(field)) for name, field in schema.items()]

    def encode(record, number=None):
        message = message_type()
        features = message.context.feature
        for name, in_list, put in fields:
            value = record[name]
            if value is None:
                continue
            if not in_list:
                put(features[name], value)
                continue
            _put_steps(message.feature_lists.feature_list[name], value, put)
        try:
            # By name: the order of a map would differ from run to run.
            data = message.SerializeToString(deterministic=True)
        except EncodeError:
            data = None
        if data is None or len(data) > _MOST_BYTES:
            raise RecordError(f"a message has at most {_MOST_BYTES} bytes; this record needs more", number)
        return data

    return encode


def _setter(field):
    """The function that puts a value, or a step, into a feature, as the one kind that holds it without loss."""
    if field.text:
        return _put_text if field.dtype == TEXT else _put_bytes
    dtype = field.store
    if dtype.kind == "b":
        return _put_booleans
    if dtype.kind == "i" or (dtype.kind == "u" and dtype.itemsize < 8):
        return _put_integers
    if dtype.kind == "f" and dtype.itemsize <= 4:
        return _put_floats
    return _put_strings if dtype.kind == "S" else _put_raw


def _put_steps(steps, array, put):
    if put is _put_integers or put is _put_booleans:
        numbers = array.view(np.int8) if array.dtype.kind == "b" else array
        whole = message_class("Int64List")(value=numbers.ravel().tolist()).SerializeToString()
        ends = (np.frombuffer(whole, np.uint8) < 0x80).nonzero()[0] + 1  # of a tag, a length and all numbers
        ends = ends[1 :: math.prod(array.shape[1:])].tolist()
        parts = [_head(0x1A, stop - at) + whole[at:stop] for at, stop in itertools.pairwise(ends)]
    elif put is _put_floats:
        raw, size = array.astype("<f4", copy=False).tobytes(), 4 * math.prod(array.shape[1:])
        parts = [_head(0x12, size) + raw[at : at + size] for at in range(0, len(raw), size)]
    else:
        for at in range(len(array)):
            put(steps.feature.add(), array[at : at + 1])
        return
    # As they are on the wire: quicker than a message for each step.
    steps.MergeFromString(b"".join(parts))


@functools.lru_cache(4096)
def _head(tag, size):
    """What comes before the packed numbers of a step of so many bytes: a feature, its list of a kind, its values."""
    values = b"\x0a" + _varint(size)
    kind = bytes([tag]) + _varint(len(values) + size) + values
    return b"\x0a" + _varint(len(kind) + size) + kind


def _put_text(feature, value):
    feature.bytes_list.value.append(value.encode())


def _put_bytes(feature, value):
    feature.bytes_list.value.append(value)


def _put_integers(feature, value):
    if value.size:
        feature.int64_list.value.extend((value if value.ndim == 1 else value.ravel()).tolist())
    else:
        feature.int64_list.SetInParent()  # no values are a list too


def _put_booleans(feature, value):
    _put_integers(feature, value.view(np.int8))


def _put_floats(feature, value):
    data = value.astype("<f4", copy=False).tobytes()
    # Packed values as they are on the wire, which is quicker than one by one.
    feature.float_list.MergeFromString(b"\x0a" + _varint(len(data)) + data)


def _put_strings(feature, value):
    """NumPy's S: each string with the zeros that fill it up."""
    feature.bytes_list.SetInParent()
    size = value.dtype.itemsize
    raw = value.tobytes()
    feature.bytes_list.value.extend(raw[at : at + size] for at in range(0, len(raw), size))


def _put_raw(feature, value):
    feature.bytes_list.value.append(value.astype(value.dtype.newbyteorder("<")).tobytes())


def _varint(n):
    digits = bytearray()
    while n >= 0x80:
        digits.append(n & 0x7F | 0x80)
        n >>= 7
    digits.append(n)
    return bytes(digits)
