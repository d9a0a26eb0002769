"""TFRecord files: checksums, frames, messages; damage of every kind; TensorFlow in both directions."""

import contextlib
import gzip
import importlib.util
import json
import os
import struct
import uuid
import zlib

import ml_dtypes
import numpy as np
import pytest
from google_crc32c import value as crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kseq.data import Writer
from kseq.data import open as open_store
from kseq.data.errors import (
    FormatError,
    RecordError,
    SchemaError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StoreWriteError,
)
from kseq.data.formats.tf.columns import column_decoder
from kseq.data.formats.tf.exact import exact
from kseq.data.formats.tf.frames import frame, masked
from kseq.data.formats.tf.messages import Malformed
from kseq.data.formats.tf.records import record_decoder
from kseq.data.formats.tf.tfrecord import FORMAT, read_tfrecord, write_tfrecord
from kseq.data.formats.tf.writing import _varint as varint
from kseq.data.formats.tf.writing import encoder
from kseq.data.store.schema import Field, Schema
from kseq.data.store.writer import convert_record

needs_tensorflow = pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is missing")
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = ["example", "sequence_example"]
DTYPES = [
    *map(np.dtype, ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "g", "c8", "c16"]),
    *map(np.dtype, ["S3", "U2", "M8[s]", "m8[ns]", "V3", [("a", "<i4"), ("b", "<f8", (2,))]]),
    *map(np.dtype, [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4]),
]


def written(path, *messages):
    path.write_bytes(b"".join(map(frame, messages)))
    return str(path)


def span(number, data):
    """A length-delimited field of a message."""
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def example(name, feature):
    return span(1, span(1, span(1, name) + span(2, feature)))


def records(path, **options):
    return list(read_tfrecord(path, **options))


def fresh(folder):
    return folder / f"{uuid.uuid4().hex}.tfrecord"


# ---- checksums


def test_checksums_of_known_data():
    known = {b"": 0, b"123456789": 0xE3069283, bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43}
    known[bytes(range(32))] = 0x46DD794E  # these four are in RFC 3720
    for data, crc in known.items():
        assert frame(data)[-4:] == struct.pack("<I", masked(crc))


# ---- round trips


def arrays(dtype, shape):
    if dtype.kind in "biufc":
        return hnp.arrays(dtype, shape)
    size = int(np.prod(shape)) * dtype.itemsize
    if dtype.kind == "U":
        return hnp.arrays(dtype, shape, elements=st.text("aé\U0001f600", max_size=2))
    raw = st.binary(min_size=size, max_size=size)
    if dtype == ml_dtypes.int4:
        raw = raw.map(lambda data: bytes(byte & 7 for byte in data))
    return raw.map(lambda data: np.frombuffer(data, dtype).reshape(shape).copy())


@st.composite
def cases(draw, kind):
    names = draw(st.lists(st.text("abÄ /", min_size=1, max_size=4), min_size=1, max_size=4, unique=True))
    fields = {}
    for name in names:
        optional = draw(st.booleans())
        dtype = draw(st.sampled_from(["string", "bytes", *DTYPES]))
        inner = () if isinstance(dtype, str) else draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
        ragged = not isinstance(dtype, str) and draw(st.booleans())
        fields[name] = Field(dtype, (None, *inner) if ragged else inner, optional)
    rows = []
    for _ in range(draw(st.integers(0, 3))):
        row = {}
        for name, field in fields.items():
            if field.optional and draw(st.booleans()):
                row[name] = None
            elif field.text:
                row[name] = draw(st.text(max_size=5) if field.dtype == "string" else st.binary(max_size=5))
            else:
                shape = tuple(draw(st.integers(0, 5)) if n is None else n for n in field.shape)
                row[name] = draw(arrays(field.dtype, shape))
        rows.append(row)
    return Schema(fields), rows


def assert_same(got, wanted, schema):
    assert list(got) == list(schema)
    for name, field in schema.items():
        if wanted[name] is None or field.text:
            assert got[name] == wanted[name]
        else:
            b = np.asarray(wanted[name])
            # Scalars of strings know no width.
            a = np.asarray(got[name], b.dtype if isinstance(got[name], (str, bytes)) else None)
            assert a.dtype == b.dtype == field.dtype
            assert a.shape == b.shape
            assert (a.tobytes() == b.tobytes()) or np.array_equal(a, b, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@quick
def test_what_is_written_is_read(tmp_path_factory, kind, data):
    schema, rows = data.draw(cases(kind))
    compression = data.draw(st.sampled_from([None, "GZIP", "ZLIB"]))
    path = fresh(tmp_path_factory.getbasetemp())
    with write_tfrecord(path, schema, {"made": "by hand"}, kind=kind, compression=compression) as sink:
        for row in rows:
            sink.write({name: value for name, value in row.items() if value is not None})
    source = read_tfrecord(path)
    assert source.schema == schema
    assert source.metadata == {"made": "by hand"}
    for _ in range(2):  # every iteration begins anew
        got = list(source)
        assert len(got) == len(rows)
        for a, b in zip(got, rows, strict=True):
            assert_same(a, b, schema)
    for name in (path, f"{path}.schema.json"):
        os.remove(name)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@quick
def test_columns_make_the_store_that_records_make(tmp_path_factory, kind, data):
    schema, rows = data.draw(cases(kind))
    path = fresh(tmp_path_factory.getbasetemp())
    with write_tfrecord(path, schema, kind=kind) as sink:
        for row in rows:
            sink.write(row)
    with Writer(path.with_suffix(".store"), schema) as writer:
        for columns in read_tfrecord(path).columns():
            writer.write_batch(columns)
    got = list(open_store(path.with_suffix(".store")))
    assert len(got) == len(rows)
    for a, b in zip(got, rows, strict=True):
        assert_same(a, b, schema)


@given(st.lists(st.lists(st.integers(-5, 2**20), min_size=2, max_size=2), max_size=30), st.booleans())
@quick
def test_steps_packed_and_unpacked_in_any_order(tmp_path_factory, steps, packed):
    encoded = []
    for step in steps:
        varints = [varint(value % 2**64) for value in step]
        values = span(1, b"".join(varints)) if packed else b"".join(b"\x08" + one for one in varints)
        encoded.append(span(1, span(3, values)))
    message = span(2, span(1, span(1, b"x") + span(2, b"".join(encoded))))
    path = written(fresh(tmp_path_factory.getbasetemp()), message)
    [record] = records(path, kind="sequence_example", schema={"x": ("int64", (None, 2))})
    assert record["x"].tolist() == steps
    [record] = records(path, kind="sequence_example")
    assert np.asarray(record["x"]).tolist() == steps


def test_store_dtype_is_what_is_written(tmp_path):
    schema = Schema({"x": Field("float64", (None,), store="float32")})
    with write_tfrecord(tmp_path / "a.tfrecord", schema) as sink:
        sink.write({"x": [0.5, 1.5]})
        with pytest.raises(RecordError, match="record 1, field 'x': the value must be one that float32 holds"):
            sink.write({"x": [1e300]})
    [record] = records(tmp_path / "a.tfrecord")
    assert record["x"].dtype == np.float64
    os.remove(tmp_path / "a.tfrecord.schema.json")
    [record] = records(tmp_path / "a.tfrecord")
    assert record["x"].dtype == np.float32


def test_reading_without_a_schema(tmp_path):
    schema = Schema({"i": ("int32", (None,)), "f": ("float16", ()), "s": "string", "e": ("int64", (None,))})
    row = {"i": [1, 300, -1], "f": 0.5, "s": "é", "e": []}
    for kind in KINDS:
        path = tmp_path / f"{kind}.tfrecord"
        with write_tfrecord(path, schema, kind=kind) as sink:
            sink.write(row)
        os.remove(f"{path}.schema.json")
    source = read_tfrecord(tmp_path / "example.tfrecord")
    assert source.schema is None
    [record] = source
    assert record["i"].dtype == np.int64
    assert record["i"].tolist() == [1, 300, -1]
    assert record["f"].dtype == np.float32
    assert record["f"].tolist() == [0.5]
    assert record["s"] == "é".encode()
    assert record["e"].shape == (0,)
    [record] = records(tmp_path / "sequence_example.tfrecord", kind="sequence_example")
    assert record["i"].tolist() == [1, 300, -1]
    assert record["f"] == 0.5 and np.ndim(record["f"]) == 0
    assert record["e"] == []
    with pytest.raises(FormatError, match=r"record 0 at byte 0: it has feature lists: read it with kind='seq"):
        records(tmp_path / "sequence_example.tfrecord")


def test_features_of_bytes(tmp_path):
    several = span(1, b"a") + span(1, b"bc")
    path = written(tmp_path / "a", *(example(b"x", span(1, values)) for values in (several, b"", span(1, b"d"))))
    assert [record["x"] for record in records(path)] == [[b"a", b"bc"], [], b"d"]
    got = records(path, schema={"x": ("S2", (None,))})
    assert [record["x"].tolist() for record in got] == [[b"a", b"bc"], [], [b"d"]]
    with pytest.raises(FormatError, match=r"record 0 .*'x': a field of dtype 'bytes' must hold one byte string; rec"):
        records(path, schema={"x": "bytes"})
    with pytest.raises(FormatError, match=r"must fit \|S1; received one of 2 bytes"):
        records(path, schema={"x": ("S1", (None,))})
    path = written(tmp_path / "b", example(b"x", span(1, span(1, struct.pack("<3d", 1, 2, 3)))))
    assert records(path, schema={"x": ("float64", (None,))})[0]["x"].tolist() == [1, 2, 3]
    assert records(path, schema={"x": ("float64", (1, 3))})[0]["x"].shape == (1, 3)
    with pytest.raises(FormatError, match=r"raw bytes of complex128 must be a multiple of 16 bytes; received 24"):
        records(path, schema={"x": ("complex128", (None,))})
    path = written(tmp_path / "c", example(b"x", span(1, span(1, b"\xff"))))
    with pytest.raises(FormatError, match="must be UTF-8"):
        records(path, schema={"x": "string"})


def test_the_rules_of_protobuf(tmp_path):
    ints = b"\x08\x05" + span(1, b"\xac\x02\x07") + b"\x08" + b"\xff" * 9 + b"\x01"
    unknown = b"\x50\x01" + b"\x5d1234" + b"\x5912345678" + span(12, b"\xff") + b"\x7b\x0b\x08\x01\x0c\x7c"
    path = written(tmp_path / "a", unknown + example(b"x", span(2, b"") + unknown + span(3, ints) + unknown) + unknown)
    assert records(path)[0]["x"].tolist() == [5, 300, 7, -1]
    floats = b"\x0d" + struct.pack("<f", 1.5) + span(1, struct.pack("<2f", 2, 3))
    halves = span(1, span(1, b"x") + span(2, span(2, floats)) + span(2, span(2, floats)))
    path = written(tmp_path / "b", span(1, halves) + example(b"y", b"") + example(b"z", span(3, b"\x08\x01")) * 2)
    [record] = records(path)
    assert record["x"].tolist() == [1.5, 2, 3] * 2  # parts of one message merge
    assert record["y"] is None
    assert record["z"].tolist() == [1]  # a later entry of a map replaces an earlier one
    assert records(written(tmp_path / "c", b"", span(1, span(1, b"")))) == [{}, {"": None}]


MALFORMED = {
    "a varint of more than 10 bytes": b"\xff" * 11,
    "a varint that is cut off": b"\x50\xff",
    "a field of 5 bytes in a message that has 1 left": b"\x0a\x05x",
    "a field of 8 bytes in a message that has 2 left": b"\x49ab",
    "a wire type that does not exist": b"\x56",
    "a field number 0": b"\x02\x00",
    "the end of a group that did not begin": b"\x4c",
    "the end of another group": b"\x4b\x54",
    "groups that do not end": b"\x4b" * 5000,
    "floats of 3 bytes": example(b"x", span(2, span(1, b"abc"))),
    "a list whose last varint is cut off": example(b"x", span(3, span(1, b"\x01\x80"))),
    "a list with a varint of more than 10 bytes": example(b"x", span(3, span(1, b"\xff" * 10 + b"\x01"))),
    "a name that is not UTF-8": example(b"\xff", b""),
}


@pytest.mark.parametrize("schema", [None, {"x": Field("int64", (None,), optional=True)}])
@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_messages(tmp_path, what, schema):
    good = example(b"x", span(3, span(1, b"\x01")))
    path = written(tmp_path / "a", good, MALFORMED[what])
    source = iter(read_tfrecord(path, schema=schema))
    if schema:  # without one several records are looked at first
        assert next(source)["x"].tolist() == [1]
    with pytest.raises(FormatError) as error:
        next(source)
    start = f"{path}: record 1 at byte {len(frame(good))}: it is no tf.train.Example: "
    assert str(error.value).startswith(start) and len(str(error.value)) > len(start)
    assert error.value.path == path


@pytest.mark.parametrize("message", [b"\x08\x01", example(b"x", span(3, b"\x0d1234")), example(b"x", b"\x18\x01")])
def test_known_fields_of_another_wire_type_are_unknown_ones(tmp_path, message):
    path = written(tmp_path / "a", message)
    with pytest.raises(FormatError, match=r"feature 'x': (it is missing|0 values do not fill)"):
        records(path, schema={"x": "int64"})


def test_steps_that_no_array_can_hold(tmp_path):
    def steps(*features):
        return span(2, span(1, span(1, b"x") + span(2, b"".join(span(1, feature) for feature in features))))

    one, two, real = span(3, span(1, b"\x01")), span(3, span(1, b"\x01\x02")), span(2, b"")
    for message, *features in [
        ("'x': step 0 of a feature list holds 1 values, and step 1 holds 2", one, two),
        ("'x': the steps of a feature list hold float32 numbers and int64 numbers", one, real),
    ]:
        path = written(fresh(tmp_path), steps(*features))
        for schema in (None, {"x": ("int64", (None,))}):
            with pytest.raises(FormatError, match=message):
                records(path, kind="sequence_example", schema=schema)
    # A step of the size of the one before it, but of other fields: its values are no varints of one list.
    path = written(fresh(tmp_path), steps(span(3, b"\x08\xac\x02"), span(3, b"\x08\x01\x02")))
    with pytest.raises(FormatError, match="byte"):
        records(path, kind="sequence_example")
    both = span(1, span(1, span(1, b"x") + span(2, one))) + steps(one, one)
    path = written(fresh(tmp_path), both)
    with pytest.raises(FormatError, match="in the context and in the feature lists: give a schema"):
        records(path, kind="sequence_example")
    assert records(path, kind="sequence_example", schema={"x": "int64"}) == [{"x": 1}]
    assert records(path, kind="sequence_example", schema={"x": ("int8", (None,))})[0]["x"].tolist() == [1, 1]


def test_what_does_not_fit_the_schema_is_refused(tmp_path):
    path = written(tmp_path / "a", example(b"x", span(3, span(1, b"\x01\xac\x02"))))
    for field, message in [
        (("int8", (None,)), r"2 int64 numbers must be exact in int8; received \[  1, 300\]"),
        (("uint64", (None, 3)), r"2 values do not fill the shape \(None, 3\)"),
        ("int64", r"2 values do not fill the shape \(\)"),
        ("string", "a field of dtype 'string' must hold one byte string; received 2 int64 numbers"),
        (("S3", (None,)), r"2 int64 numbers must be exact in \|S3"),
        (("bool", (None,)), "2 int64 numbers must be exact in bool"),
    ]:
        with pytest.raises(FormatError, match=f"a: record 0 at byte 0: feature 'x': {message}"):
            records(path, schema={"x": field})
    with pytest.raises(
        FormatError, match=r"a: record 0 at byte 0: feature 'y': it is missing, and the schema does not"
    ):
        records(path, schema={"y": "int64"})
    assert records(path, schema={"y": Field("int64", optional=True)}) == [{"y": None}]
    assert records(path, schema={"x": ("float16", (None,))})[0]["x"].tolist() == [1, 300]
    with pytest.raises(SchemaError, match="have one field of dtype 'bytes'"):
        read_tfrecord(path, schema={"x": "int64"}, kind="bytes")


@pytest.mark.parametrize(
    ("value", "dtype", "fits"),
    [
        ([2**53 + 1], "float64", False),
        ([2**63 - 1], "float64", False),
        ([-(2**63)], "float64", True),
        ([-1], "uint64", False),
        ([-1], "uint8", False),
        ([2.0**63], "int64", False),
        ([-0.5], "uint8", False),
        ([np.nan], "int32", False),
        ([np.nan, np.inf], "float16", True),
        ([65520.0], "float16", False),
        ([0.1], "float32", False),
        ([7], ml_dtypes.int4, True),
        ([9], ml_dtypes.int4, False),
        ([1j], "float64", False),
        ([True], "int8", True),
        (["ab"], "U1", False),
        (["a"], "U3", True),
        ([b"a"], "U3", False),
        ([5], "U3", False),
        ([None], "int64", False),
    ],
)
def test_exact_casts(value, dtype, fits):
    array = np.asarray(value)
    cast = exact(array, np.dtype(dtype))
    assert (cast is not None) == fits
    if fits:
        assert cast.dtype == dtype
        assert np.array_equal(cast.astype(array.dtype), array, equal_nan=array.dtype.kind == "f")


# ---- writing


def test_records_that_do_not_fit_are_not_written(tmp_path):
    path = tmp_path / "a.tfrecord"
    schema = Schema({"x": ("float32", (None, 2)), "t": Field("string", optional=True)})
    with write_tfrecord(path, schema) as sink:
        sink.write({"x": [[0.1, 1]]})
        for record, message in [
            ([1], "record 1: a record must be a dict of fields; received list"),
            ({}, "record 1, field 'x': the field is missing"),
            ({"x": [[1, 2]], "z": 1}, r"record 1: a record must have the fields \['x', 't'\]; received \['z'\]"),
            ({"x": [1, 2]}, r"field 'x': the value must have shape \(T, 2\); received \(2,\)"),
            ({"x": [[1, 2], [3]]}, "field 'x': "),
            ({"x": [[2**24 + 1, 2]]}, "field 'x': the value must be one that float32 holds; received 16777217"),
            ({"x": np.array([[0.1, 2]])}, "must be float32; received float64, which is wider"),
            ({"x": [[1e300, 2]]}, "must be one that float32 holds"),
            ({"x": [["a", "b"]]}, "must be float32; received str"),
            ({"x": [[1, 2]], "t": b"a"}, "field 't': the value must be string; received bytes"),
            ({"x": [[1, 2]], "t": "\ud800"}, "field 't': "),
        ]:
            with pytest.raises(RecordError, match=message) as error:
                sink.write(record)
            assert error.value.record == 1
        sink.write({"x": []})
    sink.close()
    with pytest.raises(StoreError, match="the sink is closed"):
        sink.write({"x": []})
    assert [record["x"].shape for record in records(path)] == [(1, 2), (0, 2)]


def test_a_failed_writer_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), write_tfrecord(tmp_path / "a", {"x": "int64"}) as sink:
        sink.write({"x": 1 // 0})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreWriteError, match="there is no such folder to write to"):
        write_tfrecord(tmp_path / "none" / "a", {"x": "int64"})
    (tmp_path / "a").touch()
    with pytest.raises(StoreExistsError, match="there is something already"):
        write_tfrecord(tmp_path / "a", {"x": "int64"})
    for options in ({"kind": "record"}, {"compression": "auto"}, {"metadata": 3}, {"metadata": {"a": b""}}):
        with pytest.raises(ValueError, match=next(iter(options))):
            write_tfrecord(tmp_path / "b", {"x": "int64"}, **options)


def test_the_disk_is_full(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    sink = write_tfrecord(tmp_path / "a", {"x": "int64"})
    sink.write({"x": 1})
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreWriteError, match="No space left"):
        sink.close()
    assert list(tmp_path.iterdir()) == []


def test_bytes_as_they_are(tmp_path):
    path = tmp_path / "a.tfrecord"
    with write_tfrecord(path, {"blob": "bytes"}, kind="bytes", compression="ZLIB") as sink:
        for data in (b"", b"a" * 300_000, b"c"):
            sink.write({"blob": data})
        with pytest.raises(RecordError, match="record 3, field 'blob': the value must be bytes; received str"):
            sink.write({"blob": "text"})
    assert [record["blob"] for record in records(path)] == [b"", b"a" * 300_000, b"c"]
    os.remove(f"{path}.schema.json")
    source = read_tfrecord(path, kind="bytes")
    assert source.schema == Schema({"data": "bytes"})
    assert [len(record["data"]) for record in source] == [0, 300_000, 1]


# ---- files


def test_several_files(tmp_path):
    for i in (2, 0, 1):
        with write_tfrecord(tmp_path / f"part-{i}.tfrecord", {"x": "int64"}, {"part": i}) as sink:
            sink.write({"x": i})
    for path in (tmp_path / "part-*", [tmp_path / "part-[0]*", tmp_path / "part-1.tfrecord", tmp_path / "part-2*"]):
        source = read_tfrecord(path)
        assert list(source) == [{"x": 0}, {"x": 1}, {"x": 2}]
        assert source.metadata == {"part": 0}
    with write_tfrecord(tmp_path / "part-3.tfrecord", {"y": "int64"}):
        pass
    with pytest.raises(FormatError, match=r"part-3.tfrecord: its schema must be that of .*part-0.tfrecord"):
        read_tfrecord(tmp_path / "part-*")
    for missing in (tmp_path / "none", tmp_path / "none-*", []):
        with pytest.raises(StoreNotFoundError, match="file"):
            read_tfrecord(missing)
    assert len(records(tmp_path, schema={"x": "int64"})) == 3  # a folder
    for options in ({"kind": "record"}, {"compression": "BZ2"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            read_tfrecord(tmp_path / "part-0.tfrecord", **options)
    source = read_tfrecord(tmp_path / "part-0.tfrecord")
    os.remove(tmp_path / "part-0.tfrecord")
    with pytest.raises(StoreNotFoundError, match="no such file"):
        list(source)
    assert FORMAT.read is read_tfrecord
    assert FORMAT.write is write_tfrecord


def test_a_damaged_schema(tmp_path):
    path = written(tmp_path / "a", b"")
    about = tmp_path / "a.schema.json"
    good = {"format": "kseq-tfrecord-1", "kind": "example", "records": 1, "metadata": {}}
    good["schema"] = {"fields": {"x": {"dtype": "int64", "optional": True}}, "main": None}
    about.write_text(json.dumps(good))
    assert records(path) == [{"x": None}]
    wrong = [{"format": 1}, {"kind": []}, {"records": -1}, {"records": True}, {"metadata": None}, {"schema": 3}]
    for text in ["", "[]", "\xff", "{", "[" * 100_000, *(json.dumps(good | change) for change in wrong)]:
        about.write_text(text)
        with pytest.raises(FormatError, match=r"a\.schema\.json: "):
            read_tfrecord(path)
    about.write_text(json.dumps(good | {"records": 2}))
    with pytest.raises(FormatError, match=r"it has 1 records, but .*a.schema.json says 2: the end is missing, or"):
        records(path)


@pytest.mark.parametrize("size", [0x1F, 0x8B1F, 0x088B1F, 0x9C78])
def test_a_record_whose_length_looks_like_compression(tmp_path, size):
    path = written(tmp_path / "a", bytes(size))
    assert len(records(path, kind="bytes")[0]["data"]) == size


def test_joined_and_damaged_compressed_files(tmp_path):
    path = tmp_path / "a"
    parts = [b"".join(frame(b"%d" % i * 5) for i in range(start, start + 50)) for start in (0, 50)]
    path.write_bytes(gzip.compress(parts[0]) + gzip.compress(parts[1]))
    assert [record["data"] for record in records(path, kind="bytes")] == [b"%d" % i * 5 for i in range(100)]
    for data, message in [
        (zlib.compress(parts[0]) + b"x", "something after the end of the compressed data"),
        (gzip.compress(parts[0]) + b"x", "cut off|incorrect header"),
        (zlib.compress(parts[0][:-1]), r"record 49 at byte 1224 of the uncompressed data: it is cut off: 13 of 14"),
        (zlib.compress(struct.pack("<Q", 2**62) + bytes(4)), "the checksum of its length is wrong"),
        (zlib.compress(frame(bytes(9))[:12] + bytes(10**6)), "the checksum of its data is wrong"),
    ]:
        path.write_bytes(data)
        with pytest.raises(FormatError, match=message):
            records(path, kind="bytes")
    path.write_bytes(b"".join(map(frame, [b"a", b"b"])))
    with pytest.raises(FormatError, match="record 0 at byte 0 of the uncompressed data: Error -3"):
        records(path, kind="bytes", compression="GZIP")
    path.write_bytes(b"")
    assert records(path) == []
    path.write_bytes(gzip.compress(frame(b"a")))
    with pytest.raises(
        FormatError, match="record 0 at byte 0: the checksum of its length is wrong: is it a TFRecord f"
    ):
        records(path, compression=None)


def test_a_length_that_lies(tmp_path):
    path = tmp_path / "a"
    size = struct.pack("<Q", 2**60)
    path.write_bytes(frame(b"abc") + size + struct.pack("<I", masked(crc32c(size))) + bytes(30))
    message = f"record 1 at byte 19: it is cut off: its length is {2**60}, and at most 30 bytes are left"
    for options in ({}, {"verify": False}):
        with pytest.raises(FormatError, match=message):
            records(path, kind="bytes", **options)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(FormatError, match=f"its length is {2**60}"):
        records(path, kind="bytes")


@pytest.fixture(params=[None, "GZIP", "ZLIB"])
def small(request, tmp_path):
    """A small file, its records, and how it is compressed."""
    path = tmp_path / "small.tfrecord"
    with write_tfrecord(path, {"x": ("int64", (None,)), "t": "string"}, compression=request.param) as sink:
        for i in range(3):
            sink.write({"x": range(i), "t": "text" * i})
    return path, records(path), request.param


def test_every_flipped_bit_shows(small):
    path, good, compression = small
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        wrong = bytearray(data)
        wrong[bit // 8] ^= 1 << bit % 8
        path.write_bytes(wrong)
        if means_the_same(wrong, data, compression):
            assert repr(records(path)) == repr(good)
        else:
            with pytest.raises(FormatError) as error:
                records(path)
            assert str(error.value).startswith(f"{path}: record ")


def means_the_same(wrong, data, compression):
    """Whether a bit differs that nobody reads: of the time in gzip's header, after the last code of the data."""
    if compression is None:
        return False
    wbits = {"GZIP": 31, "ZLIB": 15}[compression]
    try:
        return zlib.decompress(wrong, wbits) == zlib.decompress(data, wbits)
    except zlib.error:
        return False


def test_every_truncation_shows(small):
    path, good, compression = small
    data = path.read_bytes()
    ends = {0}
    if compression is None:
        for _ in good:
            end = max(ends)
            ends.add(end + 16 + struct.unpack_from("<Q", data, end)[0])
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(FormatError):
            records(path)
    # Without the number of records beside it, a file that ends where a record does is a shorter file.
    os.remove(f"{path}.schema.json")
    for size in range(len(data)):
        path.write_bytes(data[:size])
        if size in ends:
            assert len(records(path)) < len(good)
        else:
            with pytest.raises(FormatError, match="record"):
                records(path)


@given(
    st.binary(max_size=60) | st.binary(max_size=40).map(frame) | st.binary(max_size=40).map(gzip.compress),
    st.sampled_from(["example", "sequence_example", "bytes"]),
    st.sampled_from([None, "GZIP", "ZLIB", "auto"]),
    st.booleans(),
)
@quick
def test_files_of_noise(tmp_path_factory, data, kind, compression, verify):
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(data)
    with contextlib.suppress(FormatError):
        records(path, kind=kind, compression=compression, verify=verify)


@pytest.fixture(scope="module")
def messages():
    """A good message of each kind, and the schema of its record."""
    schema = Schema({"x": ("int64", (None, 2)), "f": ("float32", (None,)), "u": ("uint64", (2,)), "t": "string"})
    record = {"x": [[1, 2], [300, 4], [-1, 0]], "f": [1, 2], "u": [1, 2], "t": "hello"}
    return schema, {kind: encoder(schema, kind)(convert_record(schema, record)) for kind in KINDS}


@given(
    st.sampled_from(KINDS),
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 255), st.sampled_from(["set", "insert", "delete"])), max_size=4
    ),
)
@settings(max_examples=300, deadline=None)
def test_messages_with_changed_bytes(messages, kind, changes):
    schema, good = messages
    data = bytearray(good[kind])
    for at, byte, how in changes:
        at %= len(data)
        data[at : at + (how != "insert")] = b"" if how == "delete" else bytes([byte])
    with contextlib.suppress(Malformed):
        record_decoder(kind)(bytes(data))
    with contextlib.suppress(Malformed):
        columns = column_decoder(schema, kind)([bytes(data), good[kind]])
        for name, field in schema.items():
            assert len(columns[name]) == 2
            assert field.text or columns[name][0].dtype == field.dtype


# ---- TensorFlow


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


@pytest.fixture(params=[None, "GZIP", "ZLIB"])
def compression(request):
    return request.param


@needs_tensorflow
@pytest.mark.filterwarnings("ignore")
def test_tensorflow_reads_our_examples(tf, tmp_path, compression):
    path = str(tmp_path / "a.tfrecord")
    schema = {
        "i": ("int32", (None,)),
        "m": ("float32", (2, 3)),
        "d": ("float64", (None, 2)),
        "t": "string",
        "b": "bool",
    }
    row = {"i": [-1, 0, 2**31 - 1], "m": np.arange(6, dtype="f").reshape(2, 3), "d": [[0.1, 0.2]], "t": "é", "b": True}
    with write_tfrecord(path, schema, compression=compression) as sink:
        for _ in range(3):
            sink.write(row)
    parsed = 0
    for data in tf.data.TFRecordDataset(path, compression_type=compression or ""):
        got = tf.io.parse_single_example(
            data,
            {
                "i": tf.io.VarLenFeature(tf.int64),
                "m": tf.io.FixedLenFeature([2, 3], tf.float32),
                "d": tf.io.FixedLenFeature([], tf.string),
                "t": tf.io.FixedLenFeature([], tf.string),
                "b": tf.io.FixedLenFeature([], tf.int64),
            },
        )
        assert tf.sparse.to_dense(got["i"]).numpy().tolist() == row["i"]
        assert np.array_equal(got["m"].numpy(), row["m"])
        assert tf.io.decode_raw(got["d"], tf.float64).numpy().tolist() == [0.1, 0.2]
        assert got["t"].numpy() == "é".encode()
        assert got["b"].numpy() == 1
        parsed += 1
    assert parsed == 3


@needs_tensorflow
@pytest.mark.filterwarnings("ignore")
def test_tensorflow_reads_our_sequence_examples(tf, tmp_path, compression):
    path = str(tmp_path / "a.tfrecord")
    schema = {"i": ("int32", (None,)), "f": ("float32", (None, 2)), "d": ("float64", (None, 2)), "n": "int64"}
    row = {"i": [-1, 7, 300], "f": [[0.5, 1], [2, 3]], "d": [[0.1, 0.2], [0.3, 0.4]], "n": 5}
    with write_tfrecord(path, schema, kind="sequence_example", compression=compression) as sink:
        sink.write(row)
    [data] = tf.data.TFRecordDataset(path, compression_type=compression or "")
    context, lists = tf.io.parse_single_sequence_example(
        data,
        {"n": tf.io.FixedLenFeature([], tf.int64)},
        {
            "i": tf.io.FixedLenSequenceFeature([], tf.int64),
            "f": tf.io.FixedLenSequenceFeature([2], tf.float32),
            "d": tf.io.FixedLenSequenceFeature([], tf.string),
        },
    )
    assert context["n"].numpy() == 5
    assert lists["i"].numpy().tolist() == row["i"]
    assert lists["f"].numpy().tolist() == row["f"]
    assert tf.io.decode_raw(lists["d"], tf.float64).numpy().tolist() == row["d"]


@needs_tensorflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [0, 200])
def test_we_read_what_tensorflow_writes(tf, tmp_path, compression, count):
    rng = np.random.default_rng(1)
    train, wanted = tf.train, {kind: [] for kind in KINDS}
    for i in range(count):
        ints, floats = rng.integers(-9, 2**40, i % 5), rng.random((i % 3 + 2, 2), np.float32)
        features = {
            "ints": train.Feature(int64_list=train.Int64List(value=ints)),
            "floats": train.Feature(float_list=train.FloatList(value=floats.ravel())),
            "text": train.Feature(bytes_list=train.BytesList(value=[b"a%d" % i])),
        }
        steps = [train.Feature(float_list=train.FloatList(value=step)) for step in floats]
        tokens = [train.Feature(int64_list=train.Int64List(value=[token])) for token in ints]
        lists = {"steps": train.FeatureList(feature=steps), "tokens": train.FeatureList(feature=tokens)}
        plain = train.Example(features=train.Features(feature=features))
        sequence = train.SequenceExample(
            context=train.Features(feature=features), feature_lists=train.FeatureLists(feature_list=lists)
        )
        wanted["example"].append((plain.SerializeToString(), ints, floats))
        wanted["sequence_example"].append((sequence.SerializeToString(), ints, floats))
    for kind in KINDS:
        path = str(tmp_path / kind)
        with tf.io.TFRecordWriter(path, options=compression) as writer:
            for data, _, _ in wanted[kind]:
                writer.write(data)
        got = records(path, kind=kind)
        assert len(got) == count
        for i, (record, (_, ints, floats)) in enumerate(zip(got, wanted[kind], strict=True)):
            assert record["text"] == b"a%d" % i
            assert np.array_equal(np.atleast_1d(record["ints"]), ints)
            assert np.array_equal(record["floats"], floats.ravel())
            if kind == "sequence_example":
                assert np.array_equal(record["steps"], floats)
                assert np.array_equal(record["tokens"], ints)
        got = records(
            path, kind=kind, schema={"floats": ("float64", (None, 2)), "text": "string"}, compression=compression
        )
        assert [record["text"] for record in got] == [f"a{i}" for i in range(count)]
        assert all(np.array_equal(record["floats"], row[2]) for record, row in zip(got, wanted[kind], strict=True))
