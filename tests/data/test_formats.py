"""Files of other formats: what goes out comes back, and what is damaged gives the named error."""

import contextlib
import functools
import importlib.util
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kseq.data import Field, Schema, formats
from kseq.data.errors import (
    FormatError,
    RecordError,
    SchemaError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
    StoreWriteError,
)
from kseq.data.formats.files import Aside

FEW = settings(deadline=None, max_examples=40, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
NUMBERS = ["bool", "int8", "uint16", "int32", "int64", "uint64", "float16", "float32", "float64"]
MORE = [*NUMBERS, "complex64", "bfloat16", "float8_e5m2", "M8[s]", "U3", "S2", "V3", [("a", "i4"), ("b", "f8", (2,))]]
NAMES = st.text("abcxyz_ .é", min_size=1, max_size=6).filter(str.isprintable)


@st.composite
def fields(draw, dtypes=MORE, sizes=(1, 3)):
    kind = draw(st.sampled_from(["ragged", "scalar", "array", "string", "bytes"]))
    optional = draw(st.booleans())
    if kind in ("string", "bytes"):
        return Field(kind, optional=optional)
    shape = tuple(draw(st.lists(st.sampled_from(sizes), max_size=2)))
    shape = {"ragged": (None, *shape), "scalar": (), "array": shape or (2,)}[kind]
    dtype = draw(st.sampled_from(dtypes))
    dtype = np.dtype([tuple(part) for part in dtype]) if isinstance(dtype, list) else dtype
    store = "int16" if dtype == "int32" and draw(st.booleans()) else None
    return Field(dtype, shape, optional, store)


@st.composite
def values(draw, field):
    if field.optional and draw(st.integers(0, 3)) == 0:
        return None
    if field.dtype == "string":
        return draw(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5))
    if field.dtype == "bytes":
        return draw(st.binary(max_size=5))
    shape = tuple(draw(st.integers(0, 4)) if n is None else n for n in field.shape)
    if field.store.kind in "biufc" and field.store.isbuiltin == 1:
        array = draw(hnp.arrays(field.store, shape))
    elif field.store.isbuiltin == 2:
        array = draw(hnp.arrays("float32", shape, elements=st.floats(width=32))).astype(field.store)
    elif field.store.kind == "U":
        array = draw(hnp.arrays(field.store, shape, elements=st.text("ab", max_size=3)))
    elif field.store.kind == "M":
        array = draw(hnp.arrays("int64", shape, elements=st.integers(-(1 << 40), 1 << 40))).astype(field.store)
    else:
        bare = draw(hnp.arrays("u1", (*shape, field.store.itemsize)))
        array = np.frombuffer(bare.tobytes(), field.store).reshape(shape)
    return array.astype(field.dtype)


@st.composite
def data(draw, dtypes=MORE, main=False, sizes=(1, 3)):
    schema = draw(st.dictionaries(NAMES, fields(dtypes, sizes), min_size=0 if main else 1, max_size=3))
    if main:  # not the first field
        schema["seq"] = Field(draw(st.sampled_from(dtypes[:9])), (None,))
    schema = Schema(schema, main="seq" if main else None)
    count = draw(st.integers(0, 5))
    return schema, [{name: draw(values(field)) for name, field in schema.items()} for _ in range(count)]


METADATA = st.dictionaries(
    st.text("abcé", min_size=1, max_size=4),
    st.one_of(st.text(max_size=4), st.integers(), st.lists(st.booleans())),
    max_size=3,
)


def same(a, b):
    """Whether two values are equal to the bit, dtypes and shapes too."""
    if a is None or type(a) in (str, bytes):
        return type(a) is type(b) and a == b
    b = np.asarray(b)
    a = np.asarray(a)
    if a.dtype.kind in "US" and not a.shape:  # scalars of these know no width
        a = a.astype(b.dtype)
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    if a.dtype.kind in "bfc" or a.dtype.isbuiltin == 2:
        with np.errstate(invalid="ignore"):
            return np.array_equal(a.astype("complex128"), b.astype("complex128"), equal_nan=True)
    return a.tobytes() == b.tobytes()


def check(found, records):
    found = list(found)
    assert len(found) == len(records)
    for a, b in zip(found, records, strict=True):
        assert list(a) == list(b)
        for name in a:
            assert same(a[name], b[name]), (name, a[name], b[name])


def files_of(name):
    """The files that are there once one is written: beside those that have no place for a schema it has its own."""
    beside = name.rpartition(".")[2] in ("csv", "tsv", "jsonl", "array_record")
    return [name, *([f"{name}.schema.json"] if beside else [])]


def round_trip(name, schema, records, metadata=None, read=None, **options):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, name)
        with formats.write(path, schema, metadata, **options) as sink:
            for record in records:
                sink.write(record)
        assert sorted(file.name for file in pathlib.Path(folder).iterdir()) == files_of(name)
        source = formats.read(path, **(read or {}))
        check(source, records)
        check(source, records)  # every iteration begins anew
        assert source.schema == schema
        assert source.metadata == (metadata or {})


@FEW
@given(data(), METADATA)
def test_parquet_gives_back_what_was_written(drawn, metadata):
    round_trip("x.parquet", *drawn, metadata)
    round_trip("x.parquet", *drawn, metadata, row_group_bytes=20)


@FEW
@given(data(), METADATA, st.booleans())
def test_npz_gives_back_what_was_written(drawn, metadata, compress):
    round_trip("x.npz", *drawn, metadata, compress=compress)


@FEW
@given(data(main=True), METADATA)
def test_hdf5_gives_back_what_was_written(drawn, metadata):
    pytest.importorskip("h5py")
    round_trip("x.hdf5", *drawn, metadata)


def no_empty_text(field, value):
    """The value, or None where it is an empty text that may be left out: CSV cannot tell them."""
    is_text = field.text or (field.dtype.kind == "U" and not field.shape)
    return None if is_text and field.optional and value is not None and not len(np.asarray(value).item()) else value


@FEW
@given(data(NUMBERS + ["bfloat16", "U3"]), st.sampled_from(["x.csv", "x.tsv"]))
def test_csv_gives_back_what_was_written(drawn, name):
    schema, records = drawn
    for record in records:
        for key, field in schema.items():
            record[key] = no_empty_text(field, record[key])
    round_trip(name, schema, records, read={"schema": schema})
    round_trip(name, schema, records)


def test_csv_keeps_ends_of_lines_in_texts(tmp_path):
    texts = ["\r", "a\rb", "\n", "a\r\nb", "\u2028", '"', ""]
    schema = Schema({"a": "string", "b": "string"})
    with formats.write(tmp_path / "x.csv", schema) as sink:
        for text in texts:
            sink.write({"a": text, "b": text})
    check(formats.read(tmp_path / "x.csv", schema=schema), [{"a": text, "b": text} for text in texts])
    assert (tmp_path / "x.csv").read_bytes().startswith(b'a,b\n"\r","\r"\n"a\rb",')


@FEW
@given(data(NUMBERS + ["bfloat16", "U3"]))
def test_csv_without_a_header_gives_back_what_was_written(drawn):
    schema, records = drawn
    for record in records:
        for key, field in schema.items():
            record[key] = no_empty_text(field, record[key])
    round_trip("x.csv", schema, records, header=False)


def test_csv_rows_without_a_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('1,"a\nb",[1]\n2,c,"[1, 2]"\n')
    schema = Schema({"n": "int64", "t": "string", "x": ("int64", (None,))})
    wanted = [{"n": 1, "t": "a\nb", "x": np.array([1])}, {"n": 2, "t": "c", "x": np.array([1, 2])}]
    for options in ({"names": list(schema)}, {"schema": schema}, {"schema": schema, "names": list(schema)}):
        source = formats.read(path, header=False, **options)
        assert source.schema == schema
        check(source, wanted)
    assert list(formats.read(path, header=False).schema) == ["column_0", "column_1", "column_2"]
    check(
        formats.read(path, header=False, schema={"x": "string"}, names=["n", "t", "x"]), [{"x": "[1]"}, {"x": "[1, 2]"}]
    )
    with pytest.raises(FormatError, match="line 1: 2 cells must be there; received 3"):
        list(formats.read(path, header=False, names=["a", "b"]))
    with pytest.raises(ValueError, match="names must differ"):
        formats.read(path, header=False, names=["a", "a", "b"])
    with pytest.raises(ValueError, match="names are for files without a header"):
        formats.read(path, names=["a"])
    with pytest.raises(FormatError, match=r"must be columns \['z'\]"):
        formats.read(path, header=False, schema={"z": "int64"}, names=["a", "b", "c"])
    (tmp_path / "b.csv").touch()
    with pytest.raises(FormatError, match=r"it has no rows.*give names"):
        formats.read(tmp_path / "b.csv", header=False)
    assert list(formats.read(tmp_path / "b.csv", header=False, schema=schema)) == []
    with formats.write(tmp_path / "c.csv", schema, header=False) as sink:
        for record in wanted:
            sink.write(record)
    assert (tmp_path / "c.csv").read_text() == '1,"a\nb",[1]\n2,c,"[1, 2]"\n'
    check(formats.read(tmp_path / "c.csv"), wanted)
    with pytest.raises(
        FormatError, match=r"it has no header, as the .schema.json beside it says; received header=True"
    ):
        formats.read(tmp_path / "c.csv", header=True)


@FEW
@given(data(NUMBERS + ["bfloat16", "U3"]))
def test_jsonl_gives_back_what_was_written(drawn):
    round_trip("x.jsonl", *drawn, read={"schema": drawn[0]})
    round_trip("x.jsonl", *drawn)


@FEW
@given(st.lists(st.binary(max_size=20), max_size=5))
def test_array_record_gives_back_what_was_written(records):
    pytest.importorskip("array_record")
    round_trip("x.array_record", Schema({"record": "bytes"}), [{"record": data} for data in records])


@FEW
@given(data())
def test_array_record_of_examples_gives_back_what_was_written(drawn):
    pytest.importorskip("array_record")
    round_trip("x.array_record", *drawn, kind="example")


@FEW
@given(data())
def test_hypersequence_gives_back_what_was_written(drawn):
    schema, records = drawn
    fixed = {name: field for name, field in schema.items() if not (field.text or field.ragged or field.optional)}
    schema = Schema({**fixed, "last": "int64"})
    records = [{name: record[name] for name in fixed} | {"last": np.int64(n)} for n, record in enumerate(records)]
    round_trip("x.hsq", schema, records, batch_size=max(len(records), 1), outputs=["last"])


def test_hypersequence_names_the_file_of_other_fields_even_if_it_has_no_records(tmp_path):
    for name, dtype in (("a.hsq", "int32"), ("b.hsq", "int64")):
        with formats.write(tmp_path / name, Schema({"output": dtype})):
            pass
    with pytest.raises(FormatError, match=r"b\.hsq: files must have equal fields"):
        formats.read(tmp_path)


# ---- which format a path is of


def test_formats_are_found_by_their_suffixes(tmp_path):
    for name, format in formats.formats().items():
        assert format.name == name
        for suffix in format.suffixes:
            assert formats.detect(f"a/b{suffix.upper()}") is format
    assert formats.detect(["a.csv", "b.tsv"]).name == "csv"
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.npy").touch()
    (tmp_path / "notes.txt").touch()
    assert formats.detect(tmp_path).name == "numpy"
    (tmp_path / "b.wav").touch()
    with pytest.raises(FormatError, match=r"received \['audio', 'numpy'\]"):
        formats.detect(tmp_path)
    with pytest.raises(FormatError, match=r"a\.xyz: no format is known by the name of this file: known are .*csv"):
        formats.detect("a.xyz")
    with pytest.raises(FormatError, match="no format 'xyz'"):
        formats.read("a.csv", format="xyz")
    with pytest.raises(FormatError, match="does not write"):
        formats.write(tmp_path / "a.flac", {"a": "int32"})
    for name in formats.formats().keys() - {"huggingface", "array_record", "seqp"}:
        with pytest.raises(StoreNotFoundError):
            formats.read(tmp_path / "none.x", format=name)


def test_importing_formats_imports_no_optional_package():
    code = """
import sys, kseq.data
before = {*sys.modules}  # Keras imports h5py where it is
from kseq.data import formats
formats.formats()
print(*{*sys.modules} - before)"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"h5py", "array_record", "datasets", "pyarrow.parquet"} & set(found)


@pytest.mark.parametrize("name", ["x.parquet", "x.npz", "x.csv", "x.jsonl", "x.hdf5", "x.array_record"])
def test_a_sink_leaves_a_whole_file_or_none(tmp_path, name):
    pytest.importorskip({"x.hdf5": "h5py", "x.array_record": "array_record"}.get(name, "numpy"))
    schema = Schema({"record": "bytes"} if "array" in name else {"record": ("int32", (None,)), "text": "string"})
    good = {"record": b"x"} if "array" in name else {"record": [1, 2], "text": "x"}
    with contextlib.suppress(KeyError), formats.write(tmp_path / name, schema) as sink:
        sink.write(good)
        raise KeyError
    assert not list(tmp_path.iterdir())
    with formats.write(tmp_path / name, schema) as sink:
        sink.write(good)
        assert not (tmp_path / name).exists()
        for bad in ({}, good | {"more": 1}, good | {"record": 1.5}, [1]):
            with pytest.raises(RecordError, match="record 1"):
                sink.write(bad)
        sink.write(good)
    assert len(list(formats.read(tmp_path / name))) == 2
    with pytest.raises(StoreError, match="closed"):
        sink.write(good)
    sink.close()
    sink.abort()
    assert sorted(path.name for path in tmp_path.iterdir()) == files_of(name)
    with pytest.raises(StoreExistsError):
        formats.write(tmp_path / name, schema)
    with pytest.raises(StoreError, match="no such folder"):
        formats.write(tmp_path / "none" / name, schema)


def test_the_main_sequence_is_kept(tmp_path):
    schema = Schema({"a": ("int8", (None,)), "b": ("int8", (None,))}, main="b")
    for name in ("x.parquet", "x.npz", "x.hdf5"):
        if name == "x.hdf5":
            pytest.importorskip("h5py")
        with formats.write(tmp_path / name, schema) as sink:
            sink.write({"a": [1], "b": [2, 3]})
        assert formats.read(tmp_path / name).schema == schema


# ---- Parquet and Arrow


def table():
    import pyarrow as pa

    return pa.table(
        {
            "ids": pa.array([[1, 2], [], [3]], pa.list_(pa.int32())),
            "large": pa.array([[1.5], None, []], pa.large_list(pa.float64())),
            "frames": pa.array([[[1, 2]], [], [[3, 4], [5, 6]]], pa.list_(pa.list_(pa.int16(), 2))),
            "box": pa.array([[1, 2, 3]] * 3, pa.list_(pa.float32(), 3)),
            "label": pa.array([1, None, 3], pa.int64()),
            "flag": pa.array([True, False, True]),
            "name": pa.array(["a", None, "é"]),
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "blob": pa.array([b"a", b"", b"c"]),
            "day": pa.array([0, 1, 2], pa.date32()),
        }
    )


WANTED = {
    "ids": [np.array(v, "int32") for v in ([1, 2], [], [3])],
    "large": [np.array([1.5]), None, np.zeros(0)],
    "frames": [np.array(v, "int16").reshape(-1, 2) for v in ([1, 2], [], [3, 4, 5, 6])],
    "box": [np.array([1, 2, 3], "float32")] * 3,
    "label": [np.int64(1), None, np.int64(3)],
    "flag": [np.True_, np.False_, np.True_],
    "name": ["a", None, "é"],
    "kind": ["x", "y", "x"],
    "blob": [b"a", b"", b"c"],
    "day": [np.datetime64(n, "D") for n in range(3)],
}
RECORDS = [{name: column[n] for name, column in WANTED.items()} for n in range(3)]


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.feather", "stream.arrow"])
def test_columns_of_arrow_become_fields(tmp_path, name):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = str(tmp_path / name)
    if name == "x.parquet":
        pq.write_table(table(), path, row_group_size=2)
    else:
        make = pa.ipc.new_stream if name == "stream.arrow" else pa.ipc.new_file
        with make(path, table().schema) as writer:
            writer.write_table(table(), 2)
    source = formats.read(path)
    assert source.schema == Schema(
        {
            "ids": Field("int32", (None,)),
            "large": Field("float64", (None,), optional=True),
            "frames": Field("int16", (None, 2)),
            "box": Field("float32", (3,)),
            "label": Field("int64", optional=True),
            "flag": Field("bool"),
            "name": Field("string", optional=True),
            "kind": Field("string"),
            "blob": Field("bytes"),
            "day": Field("M8[D]"),
        }
    )
    check(source, RECORDS)
    if "stream" not in name:
        check(source, RECORDS)
    some = formats.read(path, columns=["label", "ids"])
    check(some, [{"label": record["label"], "ids": record["ids"]} for record in RECORDS])
    with pytest.raises(FormatError, match="must be a column 'none'"):
        formats.read(path, columns=["none"])


def test_columns_that_no_field_holds_are_named(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "x.parquet"
    for column in (
        pa.array([[[1]]]),
        pa.array([{"a": 1}]),
        pa.array([["a"]]),
        pa.array([1], pa.timestamp("s", "UTC")),
        pa.array([None]),
    ):
        pq.write_table(pa.table({"odd": column, "n": [1]}), path)
        with pytest.raises(FormatError, match=r"x.parquet: column 'odd' must be of numbers"):
            formats.read(path)
        assert list(formats.read(path, columns=["n"])) == [{"n": 1}]
    pq.write_table(pa.table({"ids": [[1, None]]}), path)
    with pytest.raises(FormatError, match="no nulls in its lists"):
        list(formats.read(path))


def test_slices_of_arrow_are_read_right():
    from kseq.data.formats import arrow

    batch = table().to_batches()[0].slice(1, 2)
    schema = arrow.schema_of(batch.schema, {"large", "label", "name"}, None)
    check(arrow.records(batch, schema, None), RECORDS[1:])


@FEW
@given(st.data(), st.sampled_from(["x.parquet", "x.npz", "x.npy", "x.arrow"]))
def test_any_bytes_are_a_file_or_a_format_error(data, name):
    import pyarrow as pa

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, name)
        if name == "x.npy":
            np.save(path, np.arange(6).reshape(3, 2))
        elif name == "x.arrow":
            with pa.ipc.new_file(str(path), table().schema) as writer:
                writer.write_table(table())
        else:
            with formats.write(path, {"a": ("int32", (None,)), "b": Field("string", optional=True)}) as sink:
                sink.write({"a": [1, 2], "b": "x"})
        bare = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            bare[data.draw(st.integers(0, len(bare) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.one_of(st.just(len(bare)), st.integers(0, len(bare))))
        path.write_bytes(bare[:cut])
        with contextlib.suppress(FormatError):
            list(formats.read(path))


MUTATE = """
import pathlib, sys
import pyarrow as pa, pyarrow.parquet as pq
from kseq.data import formats
from kseq.data.errors import FormatError
path = pathlib.Path(sys.argv[1])
pq.write_table(pa.table({"a": [[1, 2], [3]], "b": ["x", None]}), path)
good = path.read_bytes()
for at in range(len(good) - 8 - int.from_bytes(good[-8:-4], "little"), len(good)):
    for byte in (28, 63):
        path.write_bytes(good[:at] + bytes([byte]) + good[at + 1 :])
        try:
            list(formats.read(path))
        except FormatError:
            pass
"""


@pytest.mark.slow
def test_damaged_statistics_of_parquet_do_not_end_the_process(tmp_path):
    done = subprocess.run([sys.executable, "-c", MUTATE, tmp_path / "x.parquet"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


# ---- NumPy files


def test_numpy_files_of_others(tmp_path):
    rows = np.arange(12, dtype=">i2").reshape(3, 4)
    np.save(tmp_path / "rows.npy", rows)
    source = formats.read(tmp_path / "rows.npy", field="x")
    assert source.schema == Schema({"x": Field("int16", (4,))})
    check(source, [{"x": row} for row in rows.astype("int16")])
    flat = np.arange(5.0)
    np.savez(tmp_path / "x.npz", a=flat, a_lengths=[2, 0, 3], b=rows, c=np.array(["p", "qq", ""]))
    np.savez(tmp_path / "y.npz", a=flat, a_offsets=np.array([0, 2, 2, 5], "uint8"), b=rows, c=["p", "qq", ""])
    wanted = [
        {"a": flat[i:j], "b": rows.astype("int16")[n], "c": c}
        for n, (i, j, c) in enumerate([(0, 2, "p"), (2, 2, "qq"), (2, 5, "")])
    ]
    for name in ("x.npz", "y.npz"):
        check(formats.read(tmp_path / name), wanted)
    files = tmp_path / "files"
    files.mkdir()
    for n in (2, 0, 1):
        np.save(files / f"{n}.npy", np.full((n, 3), n, "float32"))
    source = formats.read(files)
    assert source.schema == Schema({"values": Field("float32", (None, 3))})
    check(source, [{"values": np.full((n, 3), n, "float32")} for n in range(3)])
    np.save(files / "3.npy", np.zeros((2, 4), "float32"))
    with pytest.raises(FormatError, match=r"3.npy: each file must have float32"):
        list(formats.read(files))


def test_wrong_numpy_files_are_named(tmp_path):
    for arrays, message in [
        ({"a": np.array([{}])}, "damaged"),
        ({"a": np.arange(3), "b": np.arange(4)}, "one number of records"),
        ({"a": np.arange(3), "a_offsets": np.array([0, 2, 1, 3])}, "must rise"),
        ({"a": np.arange(3), "a_offsets": np.array([0, 4])}, "must rise"),
        ({"a": np.arange(3), "a_offsets": np.array([0.0, 3.0])}, "must be integers"),
        ({"a": np.arange(3), "a_lengths": np.array([4, -1])}, "integers from 0"),
        ({"a": np.array(3)}, "received a scalar"),
        ({}, "no arrays"),
    ]:
        np.savez(tmp_path / "x.npz", **arrays)
        with pytest.raises(FormatError, match=f"x.npz: .*{message}"):
            list(formats.read(tmp_path / "x.npz"))
    np.save(tmp_path / "x.npy", np.array([{}]))
    with pytest.raises(FormatError, match=r"x.npy"):
        formats.read(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.array(1))
    with pytest.raises(FormatError, match="a scalar"):
        formats.read(tmp_path / "x.npy")


# ---- CSV, JSON lines, text


def test_csv_columns_are_inferred(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(
        '\ufeffi,f,s,zip,l,m,none,b,big\n1,1,a,01,"[1, 2]","[[1, 2]]",,true,18446744073709551615\n'
        '-2,2.5,"b,""c""",1,[],[],,false,1\n,nan,,2,[3],"[[3, 4]]",,true,2\n',
        encoding="utf-8",
    )
    source = formats.read(path)
    assert source.schema == Schema(
        {
            "i": Field("int64", optional=True),
            "f": Field("float64"),
            "s": Field("string"),
            "zip": Field("string"),
            "l": Field("int64", (None,)),
            "m": Field("int64", (None, 2)),
            "none": Field("string"),
            "b": Field("bool"),
            "big": Field("uint64"),
        }
    )
    first, second, third = source
    assert (first["i"], second["s"], third["i"], third["s"], first["zip"], first["none"]) == (
        1,
        'b,"c"',
        None,
        "",
        "01",
        "",
    )
    assert second["m"].shape == (0, 2) and first["m"].tolist() == [[1, 2]] and second["b"] == np.False_
    assert np.isnan(third["f"]) and first["big"] == 2**64 - 1


def test_long_cells_are_read_and_the_limit_stays(tmp_path):
    import csv

    limit = csv.field_size_limit()
    with formats.write(tmp_path / "x.csv", {"a": ("int64", (None,))}) as sink:
        sink.write({"a": np.arange(100_000)})
    (record,) = formats.read(tmp_path / "x.csv")
    assert np.array_equal(record["a"], np.arange(100_000))
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "first line must be names"),
        ("x.csv", b"a,a\n", "names of columns that differ"),
        ("x.csv", b"a,b\n1,2\n1\n", "line 3: 2 cells must be there; received 1"),
        ("x.csv", b"a\n\xff\n", "line"),
        ("x.csv", b'a\n"x\n', "unexpected end of data"),
        ("x.csv", b"a\n[1]\n[[1]]\n", r"field 'a' had shape \(None,\)"),
        ("x.jsonl", b'{"a": 1}\n{', "line 2: it is no JSON"),
        ("x.jsonl", b"[1]", "line 1: it must be an object"),
        ("x.jsonl", b'{"a": "x"}\n{"a": 1}', "one kind"),
        ("x.jsonl", b'{"a": [[1], [2, 3]]}', "line 1: field 'a' must be"),
        ("x.jsonl", b'{"a": {"b": 1}}', "line 1: field 'a' must be"),
        ("x.jsonl", b'{"a": 99999999999999999999}', "line 1: field 'a' must be"),
        ("x.txt", b"a\n\xff\n", "line 2"),
    ],
)
def test_lines_that_are_wrong_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        list(formats.read(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "cell", "value"),
    [
        (Field("int32"), "1.5", 1.5),
        (Field("int32"), "", None),
        (Field("int8"), "300", 300),
        (Field("int32", (None,)), "[1.5]", [1.5]),
        (Field("int32", (2,)), "[1]", [1]),
        (Field("int32", (None,)), "1", 1),
        (Field("bool"), "yes", "yes"),
        (Field("float32"), "x", "x"),
        (Field("bytes"), "?", "?"),
        (Field("uint64", (None,)), "[-1.5]", [-1.5]),
    ],
)
def test_cells_and_values_that_do_not_fit_the_schema_are_named(tmp_path, field, cell, value):
    (tmp_path / "x.csv").write_text(f'n,a\n1,"{cell}"\n')
    with pytest.raises(FormatError, match=r"x.csv: line 2, column 'a': it must be Field"):
        list(formats.read(tmp_path / "x.csv", schema={"a": field}))
    (tmp_path / "x.jsonl").write_text(json.dumps({"a": value}))
    with pytest.raises(FormatError, match=r"x.jsonl: line 1, field 'a': it must be Field"):
        list(formats.read(tmp_path / "x.jsonl", schema={"a": field}))


def test_jsonl_fields_are_inferred(tmp_path):
    lines = [{"a": [], "b": 1, "c": "x", "d": [[1, 2]]}, {"a": [1], "b": 2.5, "d": [], "e": None}, {"a": [2**63]}]
    (tmp_path / "x.jsonl").write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    source = formats.read(tmp_path / "x.jsonl")
    assert source.schema == Schema(
        {
            "a": Field("uint64", (None,)),
            "b": Field("float64", optional=True),
            "c": Field("string", optional=True),
            "d": Field("int64", (None, 2), optional=True),
            "e": Field("string", optional=True),
        }
    )
    first, second, third = source
    assert first["d"].tolist() == [[1, 2]] and second["d"].shape == (0, 2) and third["a"].tolist() == [2**63]
    assert second["c"] is None and third["e"] is None


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.tfrecord"])
@pytest.mark.parametrize("count", [1, 20_000], ids=["on close", "on write"])
def test_a_full_disk(tmp_path, monkeypatch, name, count):
    full = functools.partial(open, "/dev/full")
    monkeypatch.setattr(Aside, "open", lambda aside, mode, **options: full(mode.replace("x", "w")))
    sink = formats.write(tmp_path / name, {"a": "string"})

    def fill():
        for _ in range(count):
            sink.write({"a": "some text to write"})
        sink.close()

    with pytest.raises(StoreWriteError, match=f"{name}: cannot write: .*No space left"):
        fill()
    with pytest.raises(StoreError, match="closed"):
        sink.write({"a": ""})
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_text_formats_refuse_what_they_cannot_hold(tmp_path):
    for name in ("x.csv", "x.jsonl", "x.array_record"):
        assert not formats.detect(name).keeps_metadata
        if name == "x.array_record" and importlib.util.find_spec("array_record") is None:
            continue
        with pytest.raises(FormatError, match=r"no place for metadata; received \['k'\]"):
            formats.write(tmp_path / name, {"a": "bytes"}, {"k": 1})
    for dtype in ("complex64", "M8[s]", "longdouble", [("a", "i4")]):
        for name in ("x.csv", "x.jsonl"):
            with pytest.raises(SchemaError, match="holds"):
                formats.write(tmp_path / name, Schema({"a": Field(np.dtype(dtype))}))
    with formats.write(tmp_path / "x.csv", {"a": Field("string", optional=True), "b": "string"}) as sink:
        with pytest.raises(RecordError, match="an empty text from none"):
            sink.write({"a": "", "b": ""})
        with pytest.raises(RecordError, match="NUL"):
            sink.write({"a": None, "b": "\0"})


def test_lines_without_fields(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n\n")
    assert list(formats.read(tmp_path / "a.jsonl")) == []
    (tmp_path / "a.jsonl").write_text("{}\n{}\n")
    with pytest.raises(FormatError, match=r"a\.jsonl: its lines have no fields"):
        formats.read(tmp_path / "a.jsonl")


def test_places_beyond_a_dictionary_are_named():
    import pyarrow as pa

    from kseq.data.formats import arrow

    indices = pa.array([0, 7, -1], pa.int32())
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["a", "b"]), safe=False)
    batch = pa.RecordBatch.from_arrays([column], names=["t"])
    with pytest.raises(FormatError, match=r"column 't' is damaged"):
        list(arrow.records(batch, Schema({"t": "string"}), None))


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
def test_lists_of_strings(tmp_path, name):
    lists = [["a", "née"], [], ["longer", "", "b"]]
    if name == "x.csv":
        lines = ["tags", *('"' + json.dumps(tags).replace('"', '""') + '"' for tags in lists)]
    else:
        lines = [json.dumps({"tags": tags}) for tags in lists]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    source = formats.read(tmp_path / name)
    assert source.schema == Schema({"tags": ("U6", (None,))})
    assert [record["tags"].tolist() for record in source] == lists
    with formats.write(tmp_path / f"y{name}", source.schema) as sink:
        for record in source:
            sink.write(record)
    assert [record["tags"].tolist() for record in formats.read(tmp_path / f"y{name}")] == lists
    with pytest.raises(FormatError, match="must be"):
        list(formats.read(tmp_path / name, schema={"tags": ("U3", (None,))}))
    (tmp_path / "z.jsonl").write_text('{"tags": ["a", 1]}')
    with pytest.raises(FormatError, match="lists of equal lengths of either"):
        formats.read(tmp_path / "z.jsonl")


def test_text_lines(tmp_path):
    from kseq.data.text import Vocabulary

    (tmp_path / "x.txt").write_bytes("\ufeffto be\r\n\nné".encode())
    lines = [{"text": "to be"}, {"text": ""}, {"text": "né"}]
    check(formats.read(tmp_path / "x.txt"), lines)
    vocabulary = Vocabulary.from_text([line["text"] for line in lines])
    source = formats.read(tmp_path / "x.txt", vocabulary=vocabulary, add_eos=True)
    assert source.schema == Schema({"tokens": ("int32", (None,))})
    assert Vocabulary.from_json(source.metadata["vocabulary"]) == vocabulary
    assert [vocabulary.decode(record["tokens"]) for record in source] == [["to", "be"], [], ["né"]]
    with pytest.raises(FormatError, match=r"x.txt: line 3: there is no token 'né'"):
        list(formats.read(tmp_path / "x.txt", vocabulary=Vocabulary.from_text(["to be"]), unknown="error"))


@given(st.lists(st.integers(0, 9), max_size=6), st.integers(2, 7))
@settings(max_examples=30, deadline=None)
def test_text_in_pieces(tmp_path_factory, lengths, window):
    """Every byte after a file's first is predicted once, over the ends of lines too."""
    folder = tmp_path_factory.mktemp("text")
    text = "".join("abcdefghi"[:length] + "\r\n" for length in lengths).encode()
    (folder / "x.txt").write_bytes(text)
    source = formats.read(folder / "x.txt", level="byte", window=window)
    assert source.metadata == {"level": "byte"}
    pieces = [record["tokens"].tolist() for record in source]
    assert [len(piece) for piece in pieces[:-1]] == [window] * (len(pieces) - 1)
    assert [token for piece in pieces for token in piece[1:]] == list(text[1:])
    assert [piece[0] for piece in pieces] == list(text[:-1][:: window - 1])


def test_text_as_bytes_and_what_does_not_go_together(tmp_path):
    from kseq.data.text import Vocabulary

    (tmp_path / "x.txt").write_bytes("né\nb".encode())
    assert [r["tokens"].tolist() for r in formats.read(tmp_path / "x.txt", level="byte")] == [[110, 195, 169], [98]]
    vocabulary = Vocabulary.from_text(["né\nb"], level="char")
    pieces = list(formats.read(tmp_path / "x.txt", vocabulary=vocabulary, level="char", window=3))
    assert ["".join(vocabulary.decode(piece["tokens"])) for piece in pieces] == ["né\n", "\nb"]
    for options, message in (
        ({"level": "byte", "vocabulary": vocabulary}, "level='byte' takes no vocabulary"),
        ({"level": "byte", "add_eos": True}, "add_eos=True"),
        ({"level": "char", "window": 3}, "needs a vocabulary, or level='byte'"),
        ({"level": "byte", "window": 1}, "`?window`? must be .*2.*1"),
        ({"level": "bytes"}, "'bytes'"),
    ):
        with pytest.raises(ValueError, match=message):
            formats.read(tmp_path / "x.txt", **options)


# ---- WAV


def wav(samples, width, tag=1, rate=8000, extensible=False, size=None):
    """A file of integers [T, channels] in `width` bytes, or of float32."""
    if tag == 3:
        data = samples.astype("<f4").tobytes()
    else:
        low = samples.astype("<i8").view("u1").reshape(*samples.shape, 8)[..., :width].copy()
        data = (low + np.uint8(128) if width == 1 else low).tobytes()
    channels = samples.shape[1]
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else tag, channels, rate, 0, width * channels, width * 8)
    if extensible:
        form += struct.pack("<HHIH", 22, width * 8, 0, tag) + bytes.fromhex("000000001000800000aa00389b71")
    chunks = b"LIST\3\0\0\0abc\0fmt " + struct.pack("<I", len(form)) + form + b"data"
    return b"RIFF\0\0\0\0WAVE" + chunks + struct.pack("<I", len(data) if size is None else size) + data


@pytest.mark.parametrize(
    ("width", "dtype", "shift"), [(1, "int16", 8), (2, "int16", 0), (3, "int32", 8), (4, "int32", 0)]
)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("extensible", [True, False])
def test_wav_samples(tmp_path, width, dtype, shift, channels, extensible):
    pytest.importorskip("soundfile")
    top = 1 << (8 * width - 1)
    samples = np.array([-top, -1, 0, 1, top - 1, 5][: 6 // channels * channels]).reshape(-1, channels)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.wav").write_bytes(wav(samples, width, extensible=extensible))
    (tmp_path / "a.WAV").write_bytes(wav(samples[:1], width, rate=16000, size=0xFFFFFFFF))
    source = formats.read(tmp_path)
    inner = () if channels == 1 else (2,)
    assert source.schema["samples"] == Field(dtype, (None, *inner))
    values = (samples << shift).astype(dtype).reshape(-1, *inner)
    wanted = [
        {"samples": values[:1], "sample_rate": 16000, "path": "a.WAV"},
        {"samples": values, "sample_rate": 8000, "path": str(pathlib.Path("b", "x.wav"))},
    ]
    check(source, wanted)
    floats = list(formats.read(tmp_path, dtype="float32"))[1]["samples"]
    np.testing.assert_array_equal(floats, (samples / top).astype("float32").reshape(-1, *inner), strict=True)


def test_wav_of_floats_and_of_mixed_kinds(tmp_path):
    pytest.importorskip("soundfile")
    samples = np.array([[0.5], [-2.0]])
    (tmp_path / "a.wav").write_bytes(wav(samples, 4, tag=3))
    (record,) = formats.read(tmp_path)
    np.testing.assert_array_equal(record["samples"], samples[:, 0].astype("float32"), strict=True)
    (tmp_path / "b.wav").write_bytes(wav(np.array([[-32768]]), 2))
    with pytest.raises(FormatError, match=r"a.wav: samples must be int16; received float32"):
        list(formats.read(tmp_path, dtype="int16"))
    assert [record["samples"].tolist() for record in formats.read(tmp_path)] == [[0.5, -2.0], [-1.0]]
    (tmp_path / "c.wav").write_bytes(wav(np.array([[1, 2]]), 2))
    with pytest.raises(FormatError, match=r"c.wav: files must have 1 channels; received 2"):
        list(formats.read(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no audio file"),
        (b"RIFX" + bytes(20), "no audio file"),
        (wav(np.zeros((4, 1)), 2)[:-1], "truncated"),
        (wav(np.zeros((4, 1)), 2)[:30], "no audio file"),
        (wav(np.zeros((4, 2)), 2, size=6), "truncated"),
        (wav(np.zeros((4, 1)), 2, tag=99), "no audio file"),
        (wav(np.zeros((4, 0)), 2), "no audio file"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "no audio file"),
    ],
)
def test_damaged_wav_is_named(tmp_path, content, message):
    pytest.importorskip("soundfile")
    (tmp_path / "x.wav").write_bytes(content)
    with pytest.raises(FormatError, match=f"x.wav: .*{message}"):
        list(formats.read(tmp_path / "x.wav"))


@pytest.mark.parametrize("suffix", ["flac", "ogg", "opus", "mp3"])
def test_compressed_audio(tmp_path, suffix):
    soundfile = pytest.importorskip("soundfile")
    how = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    sound = np.sin(np.arange(16000) / 20).astype("float32") / 2
    soundfile.write(tmp_path / f"a.{suffix}", sound, 16000, **how)
    soundfile.write(tmp_path / f"b.{suffix}", np.zeros(16000), 16000, **how)
    source = formats.read(tmp_path)
    assert formats.detect(tmp_path).name == "audio"
    assert source.schema["samples"].dtype == ("int16" if suffix == "flac" else "float32")
    first, second = formats.read(tmp_path, dtype="float32")
    assert first["samples"].shape == (16000,)
    assert abs(abs(np.fft.rfft(first["samples"])) - abs(np.fft.rfft(sound))).max() < 100  # of 4000: some lose much
    assert abs(second["samples"]).max() < 1e-6
    assert (second["sample_rate"], second["path"]) == (16000, f"b.{suffix}")
    with pytest.raises(FormatError, match="more than 1000: give max_bytes"):
        list(formats.read(tmp_path, max_bytes=1000))
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=rf"a\.{suffix}: "):
        list(formats.read(tmp_path, dtype="float32"))


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_that_was_written_to_a_pipe(tmp_path, size, width):
    pytest.importorskip("soundfile")
    samples = np.array([[1, 2], [3, -4], [5, 6]])
    (tmp_path / "a.wav").write_bytes(wav(samples, width, size=size) + b"\1")  # and the beginning of a frame
    (record,) = formats.read(tmp_path / "a.wav")
    assert record["samples"].tolist() == (samples << (8 if width in (1, 3) else 0)).tolist()
    (floats,) = formats.read(tmp_path / "a.wav", dtype="float64")
    np.testing.assert_array_equal(floats["samples"], samples / (1 << (8 * width - 1)), strict=True)


# ---- packages that may be missing


def test_damaged_array_record_is_named(tmp_path):
    pytest.importorskip("array_record")
    path = tmp_path / "x.array_record"
    with formats.write(path, {"record": "bytes"}) as sink:
        for n in range(100):
            sink.write({"record": bytes([n]) * 1000})
    whole = path.read_bytes()
    assert len(list(formats.read(path, field="x"))) == 100
    for cut in (0, 1, 1000, 1 << 16, len(whole) - 1, len(whole) - (1 << 16)):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match=r"x.array_record: (truncated|damaged)"):
            list(formats.read(path))
    path.write_bytes(whole[:2000] + b"x" * 100 + whole[2100:])
    with pytest.raises(FormatError, match=r"x.array_record"):
        list(formats.read(path))


def test_array_record_of_examples(tmp_path):
    pytest.importorskip("array_record")
    schema = Schema({"tokens": Field("int64", (None,)), "label": Field("float32"), "text": Field("string")})
    records = [{"tokens": np.arange(n), "label": np.float32(n), "text": "é" * n} for n in range(5)]
    with formats.write(tmp_path / "x.array_record", schema) as sink:
        for record in records:
            sink.write(record)
    check(formats.read(tmp_path / "x.array_record", kind="example", schema=schema), records)
    first, *_ = formats.read(tmp_path / "x.array_record", kind="example")
    assert set(first) == set(schema)


def test_huggingface(tmp_path):
    pytest.importorskip("datasets.arrow_dataset")
    import datasets

    columns = table().drop_columns(["day"])
    wanted = [{name: value for name, value in record.items() if name != "day"} for record in RECORDS]
    data = datasets.Dataset(columns)
    source = formats.read(data)
    assert source.schema["frames"] == Field("int16", (None, 2))
    check(source, wanted)
    check(formats.read(data.select([2, 0]), format="huggingface"), [wanted[2], wanted[0]])
    data.save_to_disk(tmp_path / "saved")
    check(formats.read(tmp_path / "saved"), wanted)
    some = formats.read(tmp_path / "saved", columns=["label"])
    check(some, [{"label": record["label"]} for record in wanted])
    stream = formats.read(data.to_iterable_dataset(), format="huggingface")
    check(stream, wanted)
    assert all(field.optional for field in stream.schema.values())
    with pytest.raises(FormatError, match=r"choose one data set of \['train'\]"):
        formats.read(datasets.DatasetDict(train=data), format="huggingface")
    labels = datasets.Features(label=datasets.ClassLabel(names=["no", "yes"]))
    named = datasets.Dataset.from_dict({"label": [0, 1]}, features=labels)
    assert formats.read(named, format="huggingface").metadata["labels"] == {"label": ["no", "yes"]}


TYPED = Schema({"x": ("int32", (None,)), "y": "uint8", "z": Field("float32", optional=True), "s": "string"})


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.array_record"])
def test_what_is_written_has_its_schema_when_it_is_read(tmp_path, name):
    if "array" in name:
        pytest.importorskip("array_record")
    rows = [{"x": np.int32([n, 1]), "y": np.uint8(n), "z": None if n else np.float32(0.5), "s": "1"} for n in range(3)]
    for file in ("a", "b"):
        with formats.write(tmp_path / f"{file}{name}", TYPED) as sink:
            for row in rows:
                sink.write(row)
    source = formats.read([tmp_path / f"a{name}", tmp_path / f"b{name}"])
    assert source.schema == TYPED
    check(source, rows + rows)
    (tmp_path / f"b{name}.schema.json").write_text("{}")
    with pytest.raises(FormatError, match=r"schema.json: it must say \"format\""):
        formats.read(tmp_path / f"b{name}")
    other = tmp_path / f"c{name}"
    with formats.write(other, {"q": "int64"}) as sink:
        sink.write({"q": 1})
    with pytest.raises(FormatError, match=r"schema must be that of|files must have the header"):
        formats.read([tmp_path / f"a{name}", other])


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_a_text_file_that_was_written_anew_is_not_read_by_an_old_schema(tmp_path, name):
    with formats.write(tmp_path / name, {"a": "int32"}) as sink:
        sink.write({"a": 1})
    (tmp_path / name).write_text("a,b\n1,2\n" if "csv" in name else '{"a": 1, "b": 2}')
    with pytest.raises(FormatError, match=r"fields \['a'\], as the .schema.json beside it says; received \['a', 'b'\]"):
        list(formats.read(tmp_path / name))
    assert len(list(formats.read(tmp_path / name, schema={"b": "int8"}))) == 1
    (tmp_path / f"{name}.schema.json").unlink()
    assert list(formats.read(tmp_path / name).schema) == ["a", "b"]


def test_an_array_record_that_lacks_records(tmp_path):
    pytest.importorskip("array_record")
    for name, count in (("a", 2), ("b", 3)):
        with formats.write(tmp_path / f"{name}.array_record", TYPED) as sink:
            for _ in range(count):
                sink.write({"x": [1], "y": 2, "s": ""})
    (tmp_path / "a.array_record").replace(tmp_path / "b.array_record")
    with pytest.raises(FormatError, match=r"it has 2 records, but .*b.array_record.schema.json says 3"):
        formats.read(tmp_path / "b.array_record")
