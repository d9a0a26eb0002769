"""The kernels of protobuf's wire format, and their definitions in Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kseq import _ext
from kseq._ext import reference_varint
from kseq._ext.reference_varint import Malformed

BOTH = pytest.mark.parametrize("ext", [_ext, reference_varint], ids=["compiled", "reference"])
INTS = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 300) | st.integers(0, 63).map(lambda n: 2**n - 1)
MESSAGES = st.binary(max_size=30) | st.lists(
    st.sampled_from(
        [b"\x0a\x02ab", b"\x08\xac\x02", b"\x0d1234", b"\x1112345678", b"\x1b\x08\x01\x1c", b"\x1a", b"\xff"]
    ),
    max_size=5,
).map(b"".join)


def outcome(function, *arguments):
    try:
        result = function(*arguments)
    except Malformed as error:
        return str(error), error.at
    return result.tolist() if isinstance(result, np.ndarray) else result


@BOTH
@given(values=st.lists(INTS, max_size=40))
def test_numbers_come_back(ext, values):
    ends = np.empty(len(values), np.int64)
    packed = ext.pack_varints(np.array(values, np.int64), ends)
    assert packed == ext.pack_varints(np.array(values, np.int64))
    at = 0
    for value, end in zip(values, ends, strict=True):
        read, at = reference_varint.varint(packed, at, len(packed))
        assert (read, at) == (value % 2**64, end)
    assert at == len(packed)
    back = ext.unpack_varints(b"\x80" + packed + b"\x80", 1, 1 + len(packed))
    assert back.dtype == np.int64
    assert back.tolist() == values


@given(st.binary(max_size=40) | st.lists(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]), max_size=25).map(bytes))
def test_any_bytes_give_what_the_reference_gives(data):
    for at, stop in [(0, len(data)), (len(data) // 2, len(data)), (0, len(data) // 2)]:
        arguments = data, at, stop
        assert outcome(_ext.unpack_varints, *arguments) == outcome(reference_varint.unpack_varints, *arguments)


@given(MESSAGES, st.integers(0, 5), st.integers(0, 63))
@settings(max_examples=300)
def test_any_message_gives_what_the_reference_gives(data, known, wires):
    arguments = data, 0, len(data), known, wires
    assert outcome(_ext.message_fields, *arguments) == outcome(reference_varint.message_fields, *arguments)


@BOTH
def test_fields(ext):
    data = b"\x0a\x02ab" + b"\x10\xac\x02" + b"\x4b\x0a\x00\x4c" + b"\x1d1234" + b"\x5912345678" + b"\x0a\x00"
    wanted = [(1, 2, 2, 4), (2, 0, 5, 7), (3, 5, 12, 16), (1, 2, 27, 27)]
    assert ext.message_fields(data, 0, len(data), 3, 0b100101) == wanted
    assert ext.message_fields(data, 4, 7, 3, 1) == wanted[1:2]
    with pytest.raises(
        Malformed, match=r"field 2 must be of wire type 2; received wire type 0 \(byte 4 of the record\)"
    ):
        ext.message_fields(data, 0, len(data), 3, 1 << 2)


@BOTH
@pytest.mark.parametrize(
    ("packed", "message", "at"),
    [
        (b"\x01\x80", "a varint is cut off", 1),
        (b"\x80", "a varint is cut off", 0),
        (b"\x01" + b"\xff" * 9 + b"\x02", "a varint holds more than 64 bits", 1),
        (b"\x01" + b"\x80" * 10 + b"\x01", "a varint is longer than 10 bytes", 1),
    ],
)
def test_what_is_malformed_is_named_with_its_place(ext, packed, message, at):
    for many in (0, 5000):  # where the compiled one lets other threads run
        with pytest.raises(Malformed, match=message) as error:
            ext.unpack_varints(b"\x07" * many + packed, 0, many + len(packed))
        assert error.value.at == many + at


@BOTH
def test_arguments_are_checked(ext):
    for at, stop in [(-1, 2), (2, 1), (0, 4), (4, 4)]:
        with pytest.raises(ValueError, match=f"bytes {at} to {stop} must lie in 3 bytes"):
            ext.unpack_varints(b"abc", at, stop)
        with pytest.raises(ValueError, match=f"bytes {at} to {stop} must lie in 3 bytes"):
            ext.message_fields(b"abc", at, stop, 1, 1)
    with pytest.raises(ValueError, match="ends must have 2 elements; received 1"):
        ext.pack_varints(np.zeros(2, np.int64), np.zeros(1, np.int64))
    assert ext.unpack_varints(b"", 0, 0).tolist() == []
    assert ext.message_fields(b"", 0, 0, 1, 1) == []


@BOTH
def test_long_features(ext, monkeypatch):
    values = np.arange(-50, 10_000) ** 5
    values.flags.writeable = False
    monkeypatch.setattr(reference_varint, "_CHUNK", 7)
    ends = np.empty(len(values), np.int64)
    packed = ext.pack_varints(values, ends)
    assert ends[-1] == len(packed)
    assert np.array_equal(ext.unpack_varints(packed, 0, len(packed)), values)
