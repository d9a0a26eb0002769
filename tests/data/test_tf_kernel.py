"""The kernel that reads Examples gives what protobuf gives, or leaves them to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kseq import _ext
from kseq._ext import reference_example
from kseq.data.formats.tf import columns
from kseq.data.formats.tf.messages import Malformed, message_class
from kseq.data.store.schema import Field, Schema

SCHEMA = Schema(
    {
        "i": Field("int64", (None,), optional=True),
        "f": Field("float32", (None,), optional=True),
        "b": Field("bytes", optional=True),
        "n": Field("int8", optional=True),
    }
)
INTS = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 200)
FEATURES = st.dictionaries(
    st.sampled_from([*SCHEMA, "other", "é"]),
    st.one_of(
        st.lists(INTS, max_size=4),
        st.lists(st.floats(width=32), max_size=3),
        st.lists(st.binary(max_size=3), max_size=2),
        st.none(),
    ),
    max_size=5,
)


def message(features):
    made = message_class("SequenceExample")()
    made.context.SetInParent()
    for name, values in features.items():
        feature = made.context.feature[name]
        if values is not None:
            kind = {int: "int64_list", float: "float_list", bytes: "bytes_list"}[type((values or [0])[0])]
            getattr(feature, kind).SetInParent()
            getattr(feature, kind).value.extend(values)
    return made.SerializeToString()


def outcome(batch):
    try:
        found = columns.column_decoder(SCHEMA, "example")(batch)
    except Malformed as error:
        return str(error)
    return {
        name: [value if value is None or isinstance(value, bytes) else (value.dtype, value.tobytes()) for value in rows]
        for name, rows in found.items()
    }


def both(batch):
    """What comes of a batch with the kernel, and by protobuf alone."""
    with pytest.MonkeyPatch.context() as patch:
        with_kernel = outcome(batch)
        patch.setattr(_ext, "example_columns", reference_example.example_columns)
        return with_kernel, outcome(batch)


@given(st.lists(FEATURES, min_size=1, max_size=3))
@settings(deadline=None)
def test_messages_are_read_the_same(batch):
    with_kernel, without = both(list(map(message, batch)))
    assert with_kernel == without


CHANGES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 255), st.sampled_from(["set", "insert", "delete"])), max_size=3
)


@given(FEATURES, CHANGES)
@settings(deadline=None, max_examples=300)
def test_changed_bytes_are_read_the_same(features, changes):
    data = bytearray(message(features))
    for at, byte, how in changes:
        at %= len(data) or 1
        data[at : at + (how != "insert")] = b"" if how == "delete" else bytes([byte])
    with_kernel, without = both([bytes(data)])
    assert with_kernel == without


@pytest.mark.skipif(not _ext.COMPILED, reason="there is no kernel")
def test_what_most_programs_write_is_not_left_to_protobuf():
    batch = [message({"i": [1, -1], "b": [b"x"], "f": [0.5]}), message({"f": [], "é": [7], "i": [300]})]
    names = [name.encode() for name in (*SCHEMA, "é")]
    assert _ext.example_columns(batch, names) is None  # a name that is looked for may be any
    found = _ext.example_columns(batch[:1], names[:4])
    assert [kind for kind, *_ in found] == ["int64_list", "float_list", "bytes_list", None]
    assert found[0][1].tolist() == [1, -1]
    assert found[2][1] == [b"x"]
    assert [column[3].tolist() for column in found] == [[True], [True], [True], [False]]
    twice = message({"i": [1]})[2:] * 2
    assert _ext.example_columns([b"\x0a" + bytes([len(twice)]) + twice], names[:4]) is None
    assert _ext.example_columns([np.int64(1).tobytes()], names[:4]) is None
    with pytest.raises(TypeError):
        _ext.example_columns(["text"], names)
