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
VALUES = st.one_of(
    st.lists(INTS, max_size=4),
    st.lists(st.floats(width=32), max_size=3),
    st.lists(st.binary(max_size=3), max_size=2),
    st.none(),
)
NAMES = st.sampled_from([*SCHEMA, "other", "é"])
FEATURES = st.dictionaries(NAMES, VALUES, max_size=5)
LISTS = st.dictionaries(NAMES, st.lists(VALUES, max_size=3) | st.integers(0, 3).map(lambda n: [[n]] * n), max_size=3)


def message(features, lists=None):
    made = message_class("SequenceExample")()
    made.context.SetInParent()
    for name, values in features.items():
        fill(made.context.feature[name], values)
    for name, steps in (lists or {}).items():
        found = made.feature_lists.feature_list[name].feature
        for values in steps:
            fill(found.add(), values)
    return made.SerializeToString()


def fill(feature, values):
    if values is not None:
        kind = {int: "int64_list", float: "float_list", bytes: "bytes_list"}[type((values or [0])[0])]
        getattr(feature, kind).SetInParent()
        getattr(feature, kind).value.extend(values)


def outcome(batch, kind):
    try:
        found = columns.column_decoder(SCHEMA, kind)(batch)
    except Malformed as error:
        return str(error)
    return {
        name: [value if value is None or isinstance(value, bytes) else (value.dtype, value.tobytes()) for value in rows]
        for name, rows in found.items()
    }


def check_both(batch, kind):
    """What comes of a batch with the kernel is what comes of it by protobuf alone."""
    with pytest.MonkeyPatch.context() as patch:
        with_kernel = outcome(batch, kind)
        patch.setattr(_ext, "example_columns", reference_example.example_columns)
        assert with_kernel == outcome(batch, kind)


KINDS = pytest.mark.parametrize("kind", ["example", "sequence_example"])


@KINDS
@given(st.lists(st.tuples(FEATURES, LISTS), min_size=1, max_size=3))
@settings(deadline=None)
def test_messages_are_read_the_same(kind, batch):
    check_both([message(*parts) for parts in batch], kind)


CHANGES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 255), st.sampled_from(["set", "insert", "delete"])), max_size=3
)


@KINDS
@given(FEATURES, LISTS, CHANGES)
@settings(deadline=None, max_examples=300)
def test_changed_bytes_are_read_the_same(kind, features, lists, changes):
    data = bytearray(message(features, lists))
    for at, byte, how in changes:
        at %= len(data) or 1
        data[at : at + (how != "insert")] = b"" if how == "delete" else bytes([byte])
    check_both([bytes(data)], kind)


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


@pytest.mark.skipif(not _ext.COMPILED, reason="there is no kernel")
def test_feature_lists_are_not_left_to_protobuf():
    lists = {"i": [[1, 2], [300, 4]], "f": [], "b": [[b"x"], [b""]]}
    data = message({"n": [7]}, lists)
    names = [b"i", b"f", b"b", b"n", b"none"]
    assert _ext.example_columns([data], names) is None  # it is no Example
    i, f, b, n, none = _ext.example_columns([data, message({"n": [8]})], names, True)
    assert (i[1].tolist(), i[2].tolist(), i[3].tolist(), i[4].tolist()) == ([1, 2, 300, 4], [2, 2], [True, False], [2])
    assert (f[0], f[3].tolist(), f[4].tolist()) == (None, [True, False], [0])
    assert (b[1], b[4].tolist()) == ([b"x", b""], [2])
    assert (n[1].tolist(), n[4]) == ([7, 8], None)
    assert (none[0], none[3].tolist()) == (None, [False, False])
    many = message({}, {"i": [[k] for k in range(1000)]})
    assert _ext.example_columns([many] * 3, [b"i"], True)[0][1].tolist() == [*range(1000)] * 3
