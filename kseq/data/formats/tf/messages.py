"""`tf.train.Example` and `tf.train.SequenceExample` as messages of protobuf, without TensorFlow."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import require

_MESSAGES = {
    "BytesList": {"value": "repeated bytes"},
    "FloatList": {"value": "repeated float"},
    "Int64List": {"value": "repeated int64"},
    "Feature": {"bytes_list": "BytesList", "float_list": "FloatList", "int64_list": "Int64List"},
    "Features": {"feature": "map Feature"},
    "FeatureList": {"feature": "repeated Feature"},
    "FeatureLists": {"feature_list": "map FeatureList"},
    # An `Example` is one without feature lists: its `features` have the number of `context`.
    "SequenceExample": {"context": "Features", "feature_lists": "FeatureLists"},
}
KINDS: dict[str | None, str] = {
    None: "values",
    "bytes_list": "byte strings",
    "float_list": "float32 numbers",
    "int64_list": "int64 numbers",
}
_NUMBERS = {"float_list": ("FloatList", np.float32), "int64_list": ("Int64List", np.int64)}


class Malformed(ValueError):
    """Bytes that are no such message, or a message that holds what it should not."""


@functools.cache
def message_class(name: str) -> Any:
    """The class of a message.

    Raises:
        ImportError: protobuf is not installed.
    """
    require("google.protobuf", "tfrecord", "protobuf")
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"tensorflow.{name}"))


@functools.cache
def _pool():
    """The descriptions of the messages, apart from those that TensorFlow has of its own."""
    from google.protobuf import descriptor_pb2, descriptor_pool

    types = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    def add(message, name, number, kind, repeated=False):
        label = types.LABEL_REPEATED if repeated else types.LABEL_OPTIONAL
        field = message.field.add(name=name, number=number, label=label)
        field.type = getattr(types, f"TYPE_{kind.upper()}", types.TYPE_MESSAGE)
        if field.type == types.TYPE_MESSAGE:
            field.type_name = f".tensorflow.{kind}"
        return field

    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, text) in enumerate(fields.items(), 1):
            *how, kind = text.split()
            if how == ["map"]:
                entry = message.nested_type.add(name=field.title().replace("_", "") + "Entry")
                entry.options.map_entry = True
                add(entry, "key", 1, "string")
                add(entry, "value", 2, kind)
                kind = f"{name}.{entry.name}"
            add(message, field, number, kind, bool(how))
        if name == "Feature":
            message.oneof_decl.add(name="kind")
            for field in message.field:
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def parser(kind: str) -> Callable[[bytes], Any]:
    """The function from bytes to the message of a kind; `Malformed` for bytes that are none."""
    parse = message_class("SequenceExample").FromString
    from google.protobuf.message import DecodeError

    name = "Example" if kind == "example" else "SequenceExample"

    def parsed(data):
        try:
            message = parse(data)
        except DecodeError as error:
            raise Malformed(f"it is no tf.train.{name}: {str(error).rpartition(': ')[2]}") from None
        if kind == "example" and message.HasField("feature_lists"):
            raise Malformed("it has feature lists: read it with kind='sequence_example'")
        return message

    return parsed


def joined(features: Sequence[Any]) -> tuple[str | None, Any, NDArray[np.int64]]:
    """What features of one kind hold.

    Returns:
        The kind, a key of `KINDS`; the values of all features one after the other, an array of numbers or a list of
        bytes; how many each feature has, int64 [N].

    Raises:
        Malformed: features of several kinds.
    """
    kinds = {feature.WhichOneof("kind") for feature in features}
    if len(kinds) > 1:
        raise Malformed("the steps of a feature list hold " + " and ".join(sorted(KINDS[kind] for kind in kinds)))
    kind = kinds.pop() if kinds else None
    lists = [] if kind is None else [getattr(feature, kind) for feature in features]
    counts = np.array([len(found.value) for found in lists] or [0] * len(features), np.int64)
    if kind not in _NUMBERS:
        return kind, [value for found in lists for value in found.value], counts
    # Parsing the bytes of all is quicker than an array of each; lists that follow each other are one list to protobuf.
    name, dtype = _NUMBERS[kind]
    whole = message_class(name).FromString(b"".join([found.SerializeToString() for found in lists]))
    return kind, np.array(whole.value, dtype), counts
