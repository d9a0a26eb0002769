"""The record store: what is written is what is read, however it is written and wherever it is read."""

import itertools
import multiprocessing
import os
import pathlib
import pickle
import shutil
import tempfile
import threading
import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kseq import data
from kseq.data import Field, Schema, Writer, errors, set_metadata, verify
from kseq.data.store import splits, writer
from kseq.ragged import Ragged

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
PAIR = np.dtype([("label", "i2"), ("weight", "f8")])
NESTED = np.dtype([("at", [("x", "f4"), ("y", "f4")]), ("when", "M8[ms]"), ("c", "u1", (2,))])
PADDED = np.dtype([("a", "i1"), ("b", "f8")], align=True)
DTYPES = [*(np.dtype(c) for c in "?bBhHiIlLefdFD"), *map(np.dtype, ("M8[us]", "m8[D]", "U3", "S4", "V5"))]
DTYPES += [PAIR, NESTED, np.dtype(ml_dtypes.bfloat16), np.dtype(ml_dtypes.float8_e4m3fn)]
STORED = [("int64", "uint16"), ("int64", "bool"), ("uint8", "bool"), ("int32", "int8"), ("float64", "float32")]
STORED += [("float64", "int32"), ("float64", "int64"), ("float32", "float16"), ("complex128", "complex64")]
STORED += [("int8", "bool"), ("float64", "uint64")]


def values(rng, dtype, shape):
    """An array of any values of a dtype: any bits, but for those that are no value."""
    if dtype.names is not None:
        out = np.zeros(shape, dtype)
        for name in dtype.names:
            part = out[name]
            part[...] = values(rng, part.dtype, part.shape)
        return out
    if dtype.kind == "U":
        return np.array(
            ["".join(map(chr, rng.integers(97, 900, 3))) for _ in range(int(np.prod(shape)))], dtype
        ).reshape(shape)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    data = rng.integers(0, 256, (*shape, dtype.itemsize)).astype(np.uint8)
    return data.reshape(-1).view(dtype).reshape(shape)


@st.composite
def fields(draw):
    optional = draw(st.booleans())
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return Field(draw(st.sampled_from(["string", "bytes"])), optional=optional)
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 2), (None,), (None, 3), (None, 2, 1)]))
    if kind == 1:
        dtype, store = draw(st.sampled_from(STORED))
        return Field(dtype, shape, optional, store)
    return Field(draw(st.sampled_from(DTYPES)), shape, optional)


def value(draw, rng, field):
    """A value of a field."""
    if field.optional and rng.random() < 0.3:
        return None
    if field.text:
        return draw(st.text(max_size=6) if field.dtype == "string" else st.binary(max_size=6))
    shape = tuple(int(rng.integers(0, 9)) if n is None else n for n in field.shape)
    if field.store != field.dtype:
        return (rng.integers(0, 2 if field.store.kind == "b" else 100, shape)).astype(field.dtype)
    return values(rng, field.dtype, shape)


@st.composite
def tables(draw):
    """A schema, and records of it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    schema = Schema({f"f{n}": draw(fields()) for n in range(draw(st.integers(1, 4)))})
    count = draw(st.integers(0, 12))
    rows = [{name: value(draw, rng, field) for name, field in schema.items()} for _ in range(count)]
    return schema, rows


def assert_value(got, wanted, field):
    if wanted is None or field.text:
        assert got == wanted and type(got) is type(wanted)
        return
    assert got.dtype == field.dtype and got.shape == wanted.shape
    assert np.asarray(got).tobytes() == np.asarray(wanted).tobytes()


def assert_records(store, rows, schema):
    assert len(store) == len(rows)
    for got, wanted in zip(store, rows, strict=True):
        assert list(got) == list(schema)
        for name, field in schema.items():
            assert_value(got[name], wanted.get(name), field)


def numeric(dtype):
    """Whether a `Ragged` holds it."""
    return dtype.kind in "biufc" or (dtype.kind == "V" and dtype.isbuiltin == 2)


def as_columns(schema, rows):
    """Records by column, as `write_batch` takes them."""
    columns = {}
    for name, field in schema.items():
        column = [row[name] for row in rows]
        if not field.text and not any(v is None for v in column) and (not field.ragged or numeric(field.dtype)):
            column = Ragged.from_rows(column) if field.ragged else np.stack(column)
        columns[name] = column
    return columns


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of a few records."""
    monkeypatch.setattr(writer, "CHUNK_BYTES", 100)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


def write(path, rows=8, **options):
    """A store of tokens, a text and a label; returns the records."""
    records = [
        {"tokens": np.arange(n % 5, dtype=np.int32) + n, "text": f"text {n}", "label": np.int64(n // 2)}
        for n in range(rows)
    ]
    with Writer(path, SCHEMA, **options) as out:
        for record in records:
            out.write(record)
    return records


SCHEMA = Schema({"tokens": Field("int32", (None,)), "text": Field("string"), "label": Field("int64")})


@settings(UNHURRIED, max_examples=120)
@given(tables(), st.sampled_from([None, 1, 3, 5]), st.sampled_from([1, 60, 1 << 20]), st.sampled_from([90, 1 << 20]))
def test_round_trips(table, shard_rows, shard_bytes, chunk_bytes):
    schema, rows = table
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "CHUNK_BYTES", chunk_bytes)
        paths = [pathlib.Path(folder) / name for name in ("records", "batch")]
        options = {"shard_rows": shard_rows, "shard_bytes": shard_bytes}
        with Writer(paths[0], schema, **options) as out:
            assert [out.write(row) for row in rows] == list(range(len(rows)))
        with Writer(paths[1], schema, **options) as out:
            if rows:
                assert out.write_batch(as_columns(schema, rows)) == range(len(rows))
        for path in paths:
            assert verify(path).ok and not verify(path).leftovers
            for store in (data.open(path), data.open(path, in_memory=True, verify=True)):
                assert_records(store, rows, schema)
                assert store.schema == schema and store.complete
                check_columns(store, rows, schema)


def check_columns(store, rows, schema):
    for name, field in schema.items():
        wanted = [row[name] for row in rows]
        if field.ragged or field.text:
            steps = [len(v.encode() if isinstance(v, str) else v) if v is not None else 0 for v in wanted]
            assert store.field_lengths(name).tolist() == steps
            if name == schema.main:
                assert store.lengths.tolist() == steps and store.lengths.dtype == np.int32
        if field.text:
            assert store.column(name) == wanted
        elif field.ragged:
            column = store.column(name)
            assert isinstance(column, Ragged if numeric(field.dtype) else list)
            empty = np.empty((0, *field.inner_shape), field.dtype)
            for got, value in zip(column, wanted, strict=True):
                assert_value(got, empty if value is None else value, field)
        elif not any(v is None for v in wanted):
            column = store.column(name)
            assert (column.dtype, column.shape) == (field.dtype, (len(rows), *field.shape))
            assert column.tobytes() == b"".join(v.tobytes() for v in wanted)
        else:
            with pytest.raises(errors.RecordError, match="missing"):
                store.column(name)
    if schema.main is None:
        with pytest.raises(errors.SchemaError):
            _ = store.lengths


@pytest.mark.parametrize(
    ("field", "given", "wanted"),
    [
        (Field("int64"), True, 1),
        (Field("int32"), 7, 7),
        (Field("float32"), 0.5, 0.5),
        (Field("float32"), 1e300, None),
        (Field("uint8"), 300, None),
        (Field("uint8"), -1, None),
        (Field("uint64"), -1, None),
        (Field("int64"), 2**63, None),
        (Field("uint64"), 2**63, 2**63),
        (Field("float64"), 2**53 + 1, None),
        (Field("int8", (None,)), [1, 2], [1, 2]),
        (Field("float16", (None,)), [], []),
        (Field("float32", (None, 2)), [], np.zeros((0, 2))),
        (Field("float32", (None, 2)), [[1, 2]], [[1, 2]]),
        (Field("float32", (None, 2)), [1, 2], None),
        (Field("float32", (2,)), (1, 2), [1, 2]),
        (Field("float32", (2,)), (1, 2, 3), None),
        (Field("int32"), 1.5, None),
        (Field("int64", (None,)), np.arange(3.0), None),
        (Field("float32", (None,)), np.arange(3.0), None),
        (Field("complex64"), 1 + 2j, 1 + 2j),
        (Field("bool", (None,)), [True, False], [True, False]),
        (Field("bool"), 2, None),
        (Field("int64", (None,), store="uint8"), [1, 255], [1, 255]),
        (Field("int64", (None,), store="uint8"), [1, 256], None),
        (Field("M8[s]"), np.datetime64("2020-01-02"), np.datetime64("2020-01-02", "s")),
        (Field("U3"), "abc", "abc"),
        (Field("U3"), "abcd", None),
        (Field("U3", (None,)), np.array(["abc", "a"], "U9"), ["abc", "a"]),
        (Field("U3"), 7, None),
        (Field("S3"), b"abcd", None),
        (Field("M8[s]"), np.datetime64("2020-01-02T00:00:00.5"), None),
        (Field("M8[ns]"), np.datetime64(10**15, "s"), None),
        (Field("M8[ns]", (None,)), np.array(["NaT", "2020"], "M8[s]"), np.array(["NaT", "2020"], "M8[ns]")),
        (Field("float64", store="int32"), 0.5, None),
        (Field("float64", store="int32"), np.nan, None),
        (Field("float64", store="int32"), 2.0, 2.0),
        (Field("bfloat16"), 1e300, None),
        (Field("bfloat16"), np.float32(1), None),
        (Field("float8_e4m3fn"), 1e9, None),
        (Field("int4"), 9, None),
        (Field("float32"), ml_dtypes.bfloat16(1.5), 1.5),
        (Field("float32", (None,)), [np.nan, np.inf], [np.nan, np.inf]),
        (Field(PAIR), np.zeros((), PADDED), None),
        (Field(PADDED), np.ones((), PADDED), np.ones((), PADDED)),
        (Field("string"), "\ud800", None),
        (Field("string"), b"abc", None),
        (Field("bytes"), bytearray(b"abc"), b"abc"),
        (Field("bytes"), "abc", None),
        (Field("bfloat16", (None,)), [1.0, 2.0], [1.0, 2.0]),
        (Field("int64"), None, None),
        (Field("int64"), object(), None),
        (Field("int64", (None,)), np.arange(6)[::2], [0, 2, 4]),
        (Field("int64", (None,)), np.arange(3, dtype=">i8"), [0, 1, 2]),
    ],
)
def test_values_are_converted_only_where_nothing_is_lost(path, field, given, wanted):
    if field.text:
        empty = {"string": "", "bytes": b""}[field.dtype]
    else:
        empty = np.zeros([0 if n is None else n for n in field.shape], field.dtype)[()]
    with Writer(path, {"a": field, "b": "int8"}) as out:
        out.write({"a": empty, "b": 0})
        if wanted is None:
            with pytest.raises(errors.RecordError, match=r"record 1, field 'a'") as caught:
                out.write({"a": given, "b": 1})
            assert (caught.value.record, caught.value.field) == (1, "a")
        else:
            out.write({"a": given, "b": 1})
    store = data.open(path)
    assert len(store) == 1 + (wanted is not None)
    if wanted is not None:
        got = store[1]["a"]
        assert got == wanted if field.text else np.testing.assert_array_equal(got, wanted) is None
        assert field.text or (got.dtype == field.dtype and got.shape == np.shape(wanted))


def test_writing_is_deterministic(tmp_path, small_chunks):
    for name in ("a", "b"):
        write(tmp_path / name, rows=30, shard_rows=12, metadata={"of": "both"})
    files = sorted(os.listdir(tmp_path / "a"))
    assert files == sorted(os.listdir(tmp_path / "b"))
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_shards(path, tmp_path):
    write(path, rows=10, shard_rows=4)
    shards = [path / f"shard-{n:05d}.arrow" for n in range(3)]
    assert all(shard.exists() for shard in shards) and len(list(path.iterdir())) == 7
    write(tmp_path / "bytes", rows=10, shard_bytes=1)
    assert len(data.open(tmp_path / "bytes")) == 10


def test_batches_that_are_written_as_they_are(path):
    """Columns large enough to go to the disk without passing through the rows."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 900, 3000)
    ragged = Ragged(rng.integers(0, 99, (lengths.sum(), 2)).astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]))
    fixed = rng.random((3000, 5))
    schema = {"a": Field("int32", (None, 2)), "b": Field("float64", (5,))}
    with Writer(path, schema, shard_rows=1700) as out:
        out.write({"a": ragged[7], "b": fixed[7]})
        assert out.write_batch({"b": fixed, "a": ragged}) == range(1, 3001)
        out.write({"a": ragged[8], "b": fixed[8]})
    store = data.open(path, verify=True)
    assert len(store) == 3002
    for row, source in [(0, 7), (3001, 8), *((n + 1, n) for n in range(0, 3000, 7))]:
        assert np.array_equal(store[row]["a"], ragged[source]) and np.array_equal(store[row]["b"], fixed[source])


def test_appending_commits_and_metadata(path):
    records = write(path, metadata={"of": "first", "n": [1]})
    with Writer(path, append=True, metadata={"n": 2}) as out:
        assert out.records == 8
        assert out.write(records[0]) == 8
        out.commit()
        assert len(open_quietly(path)) == 9
        out.write(records[1])
        out.metadata["late"] = True
    store = data.open(path)
    assert_records(store, [*records, records[0], records[1]], SCHEMA)
    assert store.metadata == {"of": "first", "n": 2, "late": True}
    with Writer(path, append=True):
        pass
    assert data.open(path).content_hash == store.content_hash
    set_metadata(path, {"n": None, "new": 1}, {"test": [[0, 3], [5, 6]]})
    after = data.open(path)
    assert after.metadata == {"of": "first", "late": True, "new": 1}
    assert [int(record["label"]) for record in after.splits["test"]] == [0, 0, 1, 2]
    assert after.content_hash == store.content_hash
    assert verify(path).ok


def open_quietly(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.IncompleteStoreWarning)
        return data.open(path, **options)


def test_the_first_record_gives_the_schema(path):
    with Writer(path) as out:
        out.commit()  # nothing yet
        out.write({"tokens": [1, 2], "text": "x", "score": 0.5})
    wanted = Schema({"tokens": Field("int64", (None,)), "text": Field("string"), "score": Field("float64")})
    assert data.open(path).schema == wanted


def test_an_exception_drops_the_open_shard_and_keeps_what_is_committed(path, tmp_path):
    class Stop(Exception):
        pass

    def fail(where, rows):
        with Writer(where, SCHEMA, shard_rows=3) as out:
            for n in range(rows):
                out.write({"tokens": [n], "text": "", "label": n})
            raise Stop

    with pytest.raises(Stop):
        fail(path, 8)
    with pytest.warns(errors.IncompleteStoreWarning, match="6 records"):
        store = data.open(path)
    assert [int(record["label"]) for record in store] == list(range(6)) and not store.complete
    assert not verify(path).leftovers
    with Writer(path, append=True) as out:
        out.write({"tokens": [], "text": "", "label": 6})
    assert len(data.open(path)) == 7
    with pytest.raises(Stop):
        fail(tmp_path / "nothing", 2)
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(Stop):
        fail(tmp_path / "empty", 2)
    assert list((tmp_path / "empty").iterdir()) == []


def test_arrays_are_views_of_the_mapped_file(path):
    write(path)
    store = data.open(path)
    a, b = store[4]["tokens"], store[4]["tokens"]
    assert np.shares_memory(a, b) and not a.flags.writeable and not a.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 1
    with Writer(path.with_name("narrow"), {"a": Field("int64", (None,), store="uint8")}) as out:
        out.write({"a": [1, 2]})
    assert data.open(path.with_name("narrow"))[0]["a"].flags.writeable  # widened, so a copy


@pytest.mark.parametrize("in_memory", [False, True])
def test_arrays_stay_valid_after_the_store_is_closed_and_removed(path, in_memory):
    records = write(path, rows=20, shard_rows=6)
    with data.open(path, in_memory=in_memory) as store:
        arrays, lengths = [record["tokens"] for record in store], store.lengths
    shutil.rmtree(path)
    assert all(np.array_equal(a, r["tokens"]) for a, r in zip(arrays, records, strict=True))
    assert lengths.tolist() == [len(r["tokens"]) for r in records]
    for use in (lambda: store.lengths, lambda: store[:1], lambda: store.column("label"), lambda: len(store)):
        with pytest.raises(errors.StoreError, match="closed"):
            use()
    assert repr(store) == "Store(closed)"


def test_a_view_stays_open_when_the_store_is_closed(path):
    write(path)
    store = data.open(path)
    view = store[2:]
    store.close()
    with pytest.raises(errors.StoreError, match="closed"):
        store[0]
    assert int(view[0]["label"]) == 1


def test_stores_one_after_another(tmp_path):
    a, b = write(tmp_path / "a", 5), write(tmp_path / "b", 3, shard_rows=2)
    set_metadata(tmp_path / "a", splits={"test": [[0, 2]], "train": [[2, 5]]})
    set_metadata(tmp_path / "b", splits={"test": [[1, 3]]})
    store = data.open([tmp_path / "a", tmp_path / "b"])
    assert_records(store, a + b, SCHEMA)
    assert store.lengths.tolist() == [len(r["tokens"]) for r in a + b]
    assert [int(r["label"]) for r in store.splits["test"]] == [0, 0, 0, 1]
    assert len(store.splits["train"]) == 3
    parts = [data.open(tmp_path / "b")[[2, 0]], data.open(tmp_path / "a")[1:3]]
    assert_records(data.concatenate(parts), [b[2], b[0], a[1], a[2]], SCHEMA)
    assert data.concatenate([data.open(tmp_path / "a"), data.open(tmp_path / "b")]).content_hash == store.content_hash
    with Writer(tmp_path / "c", {"other": "int8"}) as out:
        out.write({"other": 1})
    with pytest.raises(errors.SchemaError, match="c: the fields must be those of"):
        data.open([tmp_path / "a", tmp_path / "c"])
    with pytest.raises(errors.StoreError):
        data.open([])


INDICES = [
    slice(2, 7),
    slice(None, None, -2),
    slice(90, 2),
    [3, -1, 3],
    np.array([0, 9]),
    [],
    np.arange(10) % 3 == 0,
    (1, 2),
]


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_views(path, index):
    records = write(path, 10, shard_rows=3)
    store = data.open(path)
    wanted = np.arange(10)[np.array(index, int) if isinstance(index, (list, tuple)) else index]
    view = store[index]
    assert_records(view, [records[i] for i in wanted], SCHEMA)
    assert view.lengths.tolist() == store.lengths[wanted].tolist()
    assert view.field_lengths("text").tolist() == store.field_lengths("text")[wanted].tolist()
    twice = view[::-1]
    assert_records(twice, [records[i] for i in wanted[::-1]], SCHEMA)
    assert view.content_hash == store[wanted.tolist()].content_hash != store.content_hash
    with pytest.raises(errors.StoreError):
        _ = view.splits


def test_records_that_are_not_there(path):
    write(path, 4)
    store = data.open(path)
    assert store[-4]["text"] == "text 0" and store[np.int8(3)]["text"] == "text 3"
    for index in (4, -5, 2**70, [4], [-5], np.ones(3, bool), np.ones((4, 1), bool)):
        with pytest.raises(IndexError):
            store[index]
    for index in (1.0, "text", None, [1.5]):
        with pytest.raises((TypeError, ValueError)):
            store[index]
    for field in ("other", 0, None):
        with pytest.raises(errors.SchemaError):
            store.column(field)
        with pytest.raises(errors.SchemaError):
            store.field_lengths(field)
    with pytest.raises(errors.SchemaError, match="no sequence"):
        store.field_lengths("label")


def test_filter_and_split(path):
    write(path, 40)
    store = data.open(path)
    assert [int(r["label"]) for r in store.filter(lambda r: len(r["tokens"]) == 4)] == [2, 4, 7, 9, 12, 14, 17, 19]

    def ids(view):
        return [int(r["text"].split()[1]) for r in view]

    for options in ({}, {"seed": 0}, {"seed": 1}, {"by": "label"}, {"by": "label", "seed": 3}):
        parts = [ids(part) for part in store.split(0.5, 0.25, **options)]
        assert sorted(itertools.chain(*parts)) == list(range(40))
        assert [len(part) for part in parts] == [20, 10, 10]
        assert all(part == sorted(part) for part in parts)
        assert parts == [ids(part) for part in store.split(0.5, 0.25, **options)]
        if "by" in options:
            assert all(not {i // 2 for i in a} & {i // 2 for i in b} for a in parts for b in parts if a is not b)
    assert ids(store.split(0.5, seed=0)[0]) != ids(store.split(0.5, seed=1)[0])
    assert len(store.split(0.2, 0.8)) == 2
    view = store[10:20]
    assert sorted(itertools.chain(*map(ids, view.split(0.3)))) == list(range(10, 20))
    for shares in ((), (0,), (-0.1,), (0.6, 0.6)):
        with pytest.raises(ValueError):
            store.split(*shares)
    with pytest.raises(errors.SchemaError):
        store.split(0.5, by="tokens")
    with pytest.raises(errors.SchemaError):
        store.split(0.5, by="nothing")
    assert sorted(map(len, store.split(0.5, by="text"))) == [20, 20]


@UNHURRIED
@given(st.integers(0, 60), st.integers(2, 6), st.none() | st.integers(0, 9), st.booleans())
def test_folds(count, folds, seed, grouped):
    groups = np.arange(count) // 3 if grouped else None
    pairs = splits.fold_indices(count, folds, groups, seed)
    assert len(pairs) == folds
    assert sorted(np.concatenate([test for _, test in pairs]).tolist()) == list(range(count))
    for train, test in pairs:
        assert sorted([*train.tolist(), *test.tolist()]) == list(range(count))
        assert not grouped or not set(groups[train]) & set(groups[test])
        assert grouped or abs(len(test) - count / folds) <= 1
    with pytest.raises(ValueError):
        splits.fold_indices(count, 1)


# Other processes and threads


def read_all(store):
    return [(record["tokens"].tolist(), record["text"], int(record["label"])) for record in store]


def test_pickles_open_the_files_again(path):
    write(path, 10, shard_rows=4, metadata={"of": "old"})
    set_metadata(path, splits={"test": [[8, 10]]})
    store = data.open(path)
    view, closed = store[::3], data.open(path)
    closed.close()
    kept = [pickle.dumps(each) for each in (store, view, closed)]
    assert all(len(each) < 3000 for each in kept)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(read_all, (view,)) == read_all(view)
    with Writer(path, append=True, metadata={"of": "new"}) as out:
        out.write({"tokens": [], "text": "", "label": 0})
    set_metadata(path, splits={"test": [[8, 11]]})
    assert len(data.open(path)) == 11
    again, view_again, closed_again = map(pickle.loads, kept)
    assert read_all(again) == read_all(store) and read_all(view_again) == read_all(view)
    assert again.content_hash == store.content_hash and view_again.content_hash == view.content_hash
    assert again.metadata == {"of": "old"} and repr(closed_again) == "Store(closed)"
    assert read_all(again.splits["test"]) == read_all(store)[8:]
    shutil.rmtree(path)
    with pytest.raises(errors.StoreNotFoundError):
        pickle.loads(kept[0])
    write(path, 9)
    with pytest.raises(errors.StoreChangedError, match="not the one"):
        pickle.loads(kept[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_reads_on(path):
    write(path, 50, shard_rows=20)
    store = data.open(path)
    wanted = read_all(store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX and Python warn of forks of processes with threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if read_all(store) == wanted else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert read_all(store) == wanted


def test_threads_read_at_once(path, small_chunks):
    write(path, 300, shard_rows=70)
    store = data.open(path)
    wanted, found = read_all(store), []

    def read(offset):
        rows = [(i * 7 + offset) % 300 for i in range(300)]
        found.append(read_all(store[rows]) == [wanted[i] for i in rows] and store.field_lengths("text")[9] == 6)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


def test_chunks_of_very_different_sizes(path, small_chunks):
    """The kernel guesses the chunk of a row from their number."""
    with Writer(path, {"a": Field("int64", (None,))}) as out:
        lengths = [500, *[0] * 100, 300, *[1] * 50, 900, *[0] * 500]
        for n in lengths:
            out.write({"a": np.full(n, n)})
    store = data.open(path)
    assert store.lengths.tolist() == lengths
    for row in np.random.default_rng(0).permutation(len(lengths)):
        assert store[row]["a"].tolist() == [lengths[row]] * lengths[row]
