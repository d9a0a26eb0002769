"""Files of seqp and hypersequence: golden ones that the packages wrote, and interop where they are installed."""

import contextlib
import gzip
import json
import pathlib
import struct
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kseq.data import Field, Schema, formats
from kseq.data.errors import FormatError, SchemaError, StoreError, StoreNotFoundError

GOLDEN = pathlib.Path(__file__).parent / "golden"
MANY = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


def values(n, shape, dtype):
    return (np.arange(np.prod(shape, dtype=int)).reshape(shape) * 3 + n * 7).astype(dtype)


def check(source, records):
    found = list(source)
    assert len(found) == len(records)
    for a, b in zip(found, records, strict=True):
        assert list(a) == list(b)
        for name, value in b.items():
            if value is None:
                assert a[name] is None
            else:
                np.testing.assert_array_equal(a[name], value, strict=True)


def native(array):
    return array.astype(array.dtype.newbyteorder("="))


# ---- seqp


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


def test_seqp_arrays(h5py):
    source = formats.read(GOLDEN / "seqp_arrays.hdf5")
    assert source.schema == Schema({"values": Field("int32", (None,))})
    assert source.metadata == {"vocab": '["a", "\\u00e9"]', "note": "née"}
    assert source.lengths.tolist() == [1, 2, 3, 4, 5]
    check(source, [{"values": values(n, (n + 1,), "int32")} for n in range(5)])
    assert list(formats.read(GOLDEN / "seqp_arrays.hdf5", field="ids").schema) == ["ids"]


@pytest.mark.parametrize("how", ["pattern", "list", "reversed"])
def test_seqp_fields_in_shards(h5py, how):
    paths = sorted(GOLDEN.glob("seqp_fields-*.hdf5"))
    assert len(paths) == 3
    path = {"pattern": GOLDEN / "seqp_fields-*.hdf5", "list": paths, "reversed": paths[::-1]}[how]
    source = formats.read(path)
    assert source.schema == Schema({"tokens": ("int64", (None,)), "heads": ("float32", (None, 3))}, main="tokens")
    assert source.metadata == {"language": "it"}
    wanted = [{"tokens": values(n, (n,), "int64"), "heads": native(values(n, (2, 3), ">f4"))} for n in range(7)]
    check(source, wanted)


def test_seqp_shards_that_its_own_reader_cannot_read(h5py):
    bigger = formats.read(GOLDEN / "seqp_bigger-*.hdf5")
    check(bigger, [{"values": values(n, (4, 2), "float32")} for n in range(7)])
    gap = formats.read(GOLDEN / "seqp_gap-*.hdf5")
    check(gap, [{"values": values(n, (3,), "uint8")} for n in (10, 11, 100, 101, 102)])
    missing = formats.read(GOLDEN / "seqp_missing.hdf5")
    assert missing.schema == Schema({"a": Field("int16", (None,)), "b": Field("int16", (None,), optional=True)})
    b = [values(n, (1,), "int16") if n != 1 else None for n in range(3)]
    check(missing, [{"a": values(n, (2,), "int16"), "b": b[n]} for n in range(3)])


def test_seqp_shards_must_belong_together(h5py):
    with pytest.raises(FormatError, match=r"seqp_fields-01.hdf5: shards must have equal fields"):
        formats.read([GOLDEN / "seqp_arrays.hdf5", GOLDEN / "seqp_fields-01.hdf5"])


def test_hdf5_shards_are_written(h5py, tmp_path):
    schema = Schema({"tokens": ("int32", (None,)), "label": "int8", "text": Field("string", optional=True)})
    records = [{"tokens": values(n, (n,), "int32"), "label": np.int8(n), "text": None} for n in range(7)]
    options = {"max_records_per_shard": 3}
    with formats.write(tmp_path / "x-{:03d}.hdf5", schema, {"name": "é", "n": 3}, **options) as sink:
        for record in records:
            sink.write(record)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-001.hdf5", "x-002.hdf5", "x-003.hdf5"]
    source = formats.read(tmp_path / "x-*.hdf5")
    assert (source.schema, source.metadata) == (schema, {"name": "é", "n": 3})
    check(source, records)
    with contextlib.suppress(RuntimeError), formats.write(tmp_path / "y-{}.hdf5", schema, **options) as sink:
        for record in records:
            sink.write(record)
        raise RuntimeError
    assert len(list(tmp_path.iterdir())) == 3
    for path, most in (("y.hdf5", 3), ("y-{}.hdf5", None), ("y-{}.hdf5", 0)):
        with pytest.raises(ValueError, match="max_records_per_shard"):
            formats.write(tmp_path / path, schema, max_records_per_shard=most)


def test_hdf5_refuses_what_seqp_has_no_place_for(h5py, tmp_path):
    with pytest.raises(SchemaError, match="need a sequence"):
        formats.write(tmp_path / "x.h5", {"a": "int32"})
    with pytest.raises(SchemaError, match="one field"):
        formats.write(tmp_path / "x.h5", {"a": ("int32", (None,)), "b": "int8"}, fields=False)
    for name in ("17", "17:a", "lengths", "a/b", "kseq"):
        with pytest.raises(FormatError, match="names of metadata"):
            formats.write(tmp_path / "x.h5", {"a": ("int32", (None,))}, {name: "x"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fields", [True, False])
def test_seqp_reads_what_kseq_writes(h5py, tmp_path, fields):
    hdf5 = pytest.importorskip("seqp.hdf5")
    schema = {"tokens": ("int32", (None, 2))} | ({"heads": ("float64", (None,)), "label": "int8"} if fields else {})
    wanted = [
        {
            "tokens": values(n, (n + 1, 2), "int32"),
            "heads": values(n, (2,), "float64"),
            "label": values(n, (1,), "int8"),
        }
        for n in range(8)
    ]
    with formats.write(
        tmp_path / "x-{}.hdf5", schema, {"vocab": "[1]"}, fields=fields, max_records_per_shard=3
    ) as sink:
        for record in wanted:
            sink.write({name: record[name][0] if name == "label" else record[name] for name in schema})
    with hdf5.Hdf5RecordReader([str(path) for path in sorted(tmp_path.iterdir())]) as reader:
        assert list(reader.indexes_and_lengths()) == [(n, n + 1) for n in range(8)]
        assert reader.num_records() == 8
        assert reader.metadata("vocab") == "b'[1]'"  # so it reads its own files too
        for n, record in enumerate(wanted):
            found = reader.retrieve(n)
            for name, value in found.items() if fields else [("tokens", found)]:
                np.testing.assert_array_equal(value, record[name], strict=True)
            assert not fields or set(found) == set(schema)


def test_kseq_reads_what_seqp_writes(h5py, tmp_path):
    hdf5 = pytest.importorskip("seqp.hdf5")
    path = tmp_path / "x.hdf5"
    with hdf5.Hdf5RecordWriter(str(path), fields=["a", "b"], sequence_field="b") as writer:
        for n in range(4):
            writer.write({"a": values(n, (2, 2), "float16"), "b": values(n, (n,), "bool")})
    source = formats.read(path)
    assert source.schema.main == "b"
    check(source, [{"a": values(n, (2, 2), "float16"), "b": values(n, (n,), "bool")} for n in range(4)])


def test_damaged_hdf5_is_named(h5py, tmp_path):
    path = tmp_path / "x.hdf5"

    def make(change):
        path.unlink(missing_ok=True)
        with h5py.File(GOLDEN / "seqp_arrays.hdf5") as old, h5py.File(path, "w") as file:
            for name in old:
                old.copy(name, file)
            change(file)

    def text(name, value):
        def change(file):
            del file[name]
            file.create_dataset(name, (1,), h5py.string_dtype())[0] = value

        return change

    def replace(name, value, **options):
        def change(file):
            if name in file:
                del file[name]
            file.create_dataset(name, data=value, **options)

        return change

    def link(file):
        del file["1"]
        file["1"] = h5py.ExternalLink(str(GOLDEN / "seqp_arrays.hdf5"), "1")

    def empty_chunks(file):
        del file["1"]
        file.create_dataset("1", (1 << 40,), "i4", chunks=(1 << 10,))

    for change, message in [
        (lambda file: file.__delitem__("lengths"), "has no 'lengths'"),
        (lambda file: file.__delitem__("2"), "record 2 is missing"),
        (text("lengths", "[1, 2"), "index is damaged"),
        (text("lengths", "[1, 2, 3, 4, -5]"), "lengths must be a list of integers"),
        (text("lengths", "[1, 2, 3, 4]"), "must have lengths; received 4"),
        (text("lengths", "[1, 2, 3, 4, 4]"), "record 4 must have length 4; received 5"),
        (text("initial_index", "x"), "index is damaged"),
        (replace("fields", [1, 2]), "'fields' must be one text"),
        (replace("kseq", ["{}"], dtype=h5py.string_dtype()), "must be a schema and metadata"),
        (replace("3", ["x"], dtype=h5py.string_dtype()), "values of a fixed size"),
        (replace("3", h5py.Empty("f4")), "must be a dataset"),
        (link, "received a link elsewhere"),
        (empty_chunks, "truncated"),
    ]:
        make(change)
        with pytest.raises(FormatError, match=message) as caught:
            list(formats.read(path))
        assert str(path) in str(caught.value)
    with pytest.raises(StoreNotFoundError):
        formats.read(tmp_path / "none.hdf5")


@MANY
@given(st.data())
def test_any_bytes_are_hdf5_or_a_format_error(data):
    pytest.importorskip("h5py")
    golden = (GOLDEN / "seqp_missing.hdf5").read_bytes()
    bare = bytearray(data.draw(st.one_of(st.just(golden), st.binary(max_size=200))))
    if bare[:4] == golden[:4]:
        for _ in range(data.draw(st.integers(1, 4))):
            kind = data.draw(st.sampled_from(["flip", "cut", "move"]))
            at = data.draw(st.integers(0, max(0, len(bare) - 1)))
            if kind == "flip" and bare:
                bare[at] = data.draw(st.integers(0, 255))
            elif kind == "cut" and data.draw(st.booleans()):
                del bare[at:]
            elif kind == "move":
                bare[at : at + 8] = bare[at : at + 8][::-1]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "x.hdf5")
        path.write_bytes(bare)
        with contextlib.suppress(FormatError):
            for record in formats.read(path):
                assert record.keys() == {"a", "b"}


# ---- hypersequence

CASES = {
    "hsq_3in_2out": ([("float32", (2,)), ("int64", ()), ("uint8", (2, 3))], [("float64", ()), ("int16", (4,))]),
    "hsq_1in_2out": ([("float32", (3,))], [("int32", ()), (">f4", (2,))]),
    "hsq_1in_1out": ([("float32", (3,))], [("int32", ())]),
    "hsq_legacy": ([("float32", (3,))], [("int32", ())]),
}


@pytest.mark.parametrize("name", CASES)
def test_hypersequence(name):
    source = formats.read(GOLDEN / f"{name}.hsq")
    inputs, outputs = CASES[name]
    parts = [(f"input_{n}", part, 0) for n, part in enumerate(inputs)]
    parts += [(f"output_{n}", part, 1) for n, part in enumerate(outputs)]
    assert source.schema == Schema({side: part for side, part, _ in parts})
    assert source.metadata == ({} if name == "hsq_legacy" else {"name": name})
    wanted = [
        {side: native(np.asarray(values(n + late, shape, dtype))) for side, (dtype, shape), late in parts}
        for n in range(8)
    ]
    check(source, wanted)
    check(source, wanted)


def test_hypersequence_reads_what_the_package_writes(tmp_path):
    package = pytest.importorskip("hypersequence")
    rng = np.random.default_rng(0)
    records = [
        {"input_0": rng.random((2, 3)), "input_1": rng.integers(0, 9, 4), "output_0": rng.random(1).astype("f4")}
        for _ in range(20)
    ]
    for part in range(2):
        with package.HyperSequenceWriter(tmp_path / f"{part}.hsq", batch_size=5) as writer:
            for record in records[part * 10 :][:10]:
                a, b, c = record.values()
                writer.append(inputs=(a, b), outputs=c)
    check(formats.read(tmp_path), records)


FIXED = {
    "x": Field("float32", (3, 2)),
    "y": Field("int64"),
    "b": Field("bfloat16", (2,)),
    "w": Field("int32", (2,), store="int8"),
    "s": Field("S3"),
    "t": Field(np.dtype([("a", "<i4"), ("b", "<f8", (2,))]), (2,)),
}


def fixed_records(count):
    for n in range(count):
        yield {
            name: np.frombuffer(bytes(range(n, n + 99)), field.store, np.prod(field.shape, dtype=int))
            .reshape(field.shape)
            .astype(field.dtype)
            for name, field in FIXED.items()
        }


@pytest.mark.parametrize(("count", "size"), [(0, 4), (4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("outputs", [["y"], ["t", "x"]])
def test_hypersequence_is_written(tmp_path, count, size, outputs):
    records = list(fixed_records(count))
    with formats.write(tmp_path / "a.hsq", FIXED, {"k": [1]}, batch_size=size, outputs=outputs) as sink:
        for record in records:
            sink.write(record)
    source = formats.read(tmp_path / "a.hsq")
    assert source.schema == Schema(FIXED)
    assert source.metadata == {"k": [1]}
    found = list(source)
    assert len(found) == count
    for a, b in zip(found, records, strict=True):
        assert list(a) == list(b)
        for name, value in b.items():
            assert a[name].dtype == value.dtype and a[name].tobytes() == value.tobytes()


def test_what_hypersequence_does_not_hold(tmp_path):
    for field in (Field("int8", (None,)), Field("string"), Field("int8", optional=True)):
        with pytest.raises(SchemaError, match="arrays of one shape in every record; received 'a'"):
            formats.write(tmp_path / "a.hsq", {"a": field, "output_0": "int8"})
    for outputs in (None, [], ["z"], ["a", "a"]):
        with pytest.raises(SchemaError, match="outputs must name some of the fields"):
            formats.write(tmp_path / "a.hsq", {"a": "int8"}, outputs=outputs)
    with pytest.raises(ValueError, match="batch_size must be an integer from 1; received 0"):
        formats.write(tmp_path / "a.hsq", {"output": "int8"}, batch_size=0)
    sink = formats.write(tmp_path / "a.hsq", {"output": "int8"}, batch_size=2)
    for n in range(3):
        sink.write({"output": n})
    with pytest.raises(StoreError, match="3 records do not fill batches of 2: 1 are left"):
        sink.close()
    assert not list(tmp_path.iterdir())
    with formats.write(tmp_path / "a.hsq", {"output": "int8"}, batch_size=2, drop_remainder=True) as sink:
        for n in range(3):
            sink.write({"output": n})
    assert list(formats.read(tmp_path / "a.hsq")) == [{"output": 0}, {"output": 1}]


def test_the_hypersequence_package_reads_what_kseq_writes(tmp_path):
    package = pytest.importorskip("hypersequence")
    schema = {"x": ("float32", (3,)), "z": "int64", "output_0": ("int16", (2,))}
    rows = [{"x": values(n, (3,), "f4"), "z": np.int64(n), "output_0": values(n, (2,), "i2")} for n in range(6)]
    with formats.write(tmp_path / "a.hsq", schema, {"name": "a"}, batch_size=3) as sink:
        for row in rows:
            sink.write(row)
    file = package.HyperSequenceFile(tmp_path / "a.hsq", copy_buffer=True)
    assert (len(file), file.batch_size(), file.user_meta()["name"]) == (2, 3, "a")
    for n in range(2):
        (x, z), y = file[n]
        for name, batch in (("x", x), ("z", z), ("output_0", y)):
            np.testing.assert_array_equal(batch, [row[name] for row in rows[3 * n :][:3]])


def hsq(meta, data=b"", unzipped=False):
    text = json.dumps(meta).encode()
    text = text if unzipped else gzip.compress(text, mtime=0)
    return data + text + struct.pack(">I", len(text)) + b"HSQ2"


META = {
    "records": 1,
    "batch_size": 2,
    "no_inputs": 1,
    "no_outputs": 1,
    "dtype": [["i0", "<f4", [2]], ["o0", "<i4", [2, 3]]],
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must end in"),
        (b"x" * 3000, "must end in"),
        (hsq(META), "truncated: 1 batches of 32 bytes"),
        (hsq(META | {"records": 1 << 70}, bytes(32)), "truncated"),
        (hsq(META | {"records": -1}, bytes(32)), "integers from 0"),
        (hsq(META | {"batch_size": 3}, bytes(32)), "batches of 3"),
        (hsq(META | {"no_inputs": 2}, bytes(32)), "2 inputs and 1 outputs"),
        (hsq(META | {"dtype": [["i0", "O", [2]], ["o0", "<i4", [2]]]}, bytes(32)), "batches of 2"),
        (hsq(META | {"dtype": 3}, bytes(32)), "metadata is damaged"),
        (hsq(META | {"usermeta": 3}, bytes(32)), "must be an object"),
        (hsq([], bytes(32)), "metadata is damaged"),
        (hsq(META, bytes(32), unzipped=True), "metadata is damaged"),
        (hsq(META, bytes(32))[20:][-12:], "must have at most"),
        (bytes(32) + b"@@FSEQ@@{", "metadata is damaged"),
    ],
)
def test_damaged_hypersequence_is_named(tmp_path, content, message):
    path = tmp_path / "x.hsq"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        list(formats.read(path))
    assert str(path) in str(caught.value)


@MANY
@given(st.data())
def test_any_bytes_are_hypersequence_or_a_format_error(tmp_path_factory, data):
    bare = bytearray(hsq(META, bytes(range(32)), unzipped=False))
    if data.draw(st.booleans()):
        bare = bytearray(bytes(32) + b"@@FSEQ@@" + json.dumps(META).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        bare[data.draw(st.integers(32, len(bare) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzz.hsq"
    path.write_bytes(bare)
    with contextlib.suppress(FormatError):
        list(formats.read(path))
