"""Records copied and read by column: what is written is what `write` writes, record by record."""

import numpy as np
import pytest

from kseq import Ragged, data
from kseq.data import Field, Writer, concatenate, errors, parallel, verify
from kseq.data.store import columns, writer

SCHEMA = {
    "x": Field("int32", (None,)),
    "f": Field("float32", (None, 2), optional=True),
    "n": Field("int64", store="uint16"),
    "v": Field("float32", (3,), optional=True),
    "s": Field("string", optional=True),
    "d": Field("bytes"),
    "t": Field("datetime64[s]", (None,)),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(writer, "CHUNK_BYTES", 700)
    monkeypatch.setattr(columns, "_LOOKED_AT", 9)


def records(count):
    for i in range(count):
        yield {
            "x": np.arange(i % 7 * (i % 3), dtype="int32"),
            "f": None if i % 4 == 1 else np.full((i % 5, 2), i, "float32"),
            "n": i,
            "v": None if i % 3 == 1 else np.full(3, i, "float32"),
            "s": None if i % 5 == 1 else f"é{i}",
            "d": b"\0" * (i % 3),
            "t": np.arange(i % 3).astype("datetime64[s]"),
        }


@pytest.fixture
def store(tmp_path):
    with Writer(tmp_path / "store", SCHEMA, shard_rows=11) as out:
        for record in records(40):
            out.write(record)
    return data.open(tmp_path / "store")


def assert_same(found, wanted):
    assert len(found) == len(wanted) and dict(found.schema).keys() == dict(wanted.schema).keys()
    for a, b in zip(found, wanted, strict=True):
        for name in a:
            assert type(a[name]) is type(b[name]) and np.array_equal(a[name], b[name]), name


SELECTIONS = {
    "all": lambda store: store,
    "none": lambda store: store[:0],
    "a view": lambda store: store[[7, 3, 3, 39, 0]],
    "concatenated": lambda store: concatenate([store[::-2], store]),
    "parallel": lambda store: parallel(a=store, b=store[::-1]),
}


@pytest.mark.parametrize("options", [{}, {"shard_rows": 6}, {"shard_bytes": 500}], ids=str)
@pytest.mark.parametrize("select", SELECTIONS.values(), ids=SELECTIONS)
def test_a_store_is_copied(store, tmp_path, select, options):
    wanted = select(store)
    with Writer(tmp_path / "copy", **options) as out:
        assert out.write_store(wanted) == range(len(wanted))
        assert out.write_store(wanted[:3]) == range(len(wanted), out.records)
    found = data.open(tmp_path / "copy")
    assert found.schema == wanted.schema and verify(tmp_path / "copy").ok
    assert_same(found[: len(wanted)], wanted)
    assert_same(found[len(wanted) :], wanted[:3])


def test_records_before_and_after(store, tmp_path):
    first, *_, last = records(40)
    with Writer(tmp_path / "copy", SCHEMA) as out:
        out.write(first)
        assert out.write_store(store[1:39]) == range(1, 39)
        assert out.write(last) == 39
    assert_same(data.open(tmp_path / "copy"), store)


@pytest.mark.parametrize(
    "changes",
    [
        {"x": Field("int64", (None,))},
        {"x": Field("float64", (None,)), "n": Field("uint16")},
        {"n": Field("float64"), "d": Field("bytes", optional=True)},
        {"extra": Field("int8", optional=True)},
        {"s": Field("bytes", optional=True)},
        {"x": Field("int8", (None,))},
        {"n": Field("int8")},
        {"f": Field("float32", (None, 2))},
        {"f": Field("float32", (None, 3), optional=True)},
        {"v": Field("float32", (None,), optional=True)},
        {"x": None},
    ],
    ids=str,
)
def test_other_fields_are_taken_as_write_takes_them(store, tmp_path, changes):
    schema = {name: field for name, field in (SCHEMA | changes).items() if field is not None}

    def write(name, put):
        try:
            with Writer(tmp_path / name, schema) as out:
                put(out)
        except errors.RecordError as error:
            return str(error)
        return list(data.open(tmp_path / name))

    wanted = write("rows", lambda out: [out.write(record) for record in store])
    found = write("columns", lambda out: out.write_store(store))
    if isinstance(wanted, str):
        assert found == wanted
        return
    for a, b in zip(found, wanted, strict=True):
        assert all(type(a[name]) is type(b[name]) and np.array_equal(a[name], b[name]) for name in b)


def test_a_store_is_written_after_itself_and_in_its_own_place(store, tmp_path):
    with Writer(tmp_path / "store", append=True) as out:
        out.write_store(store[::-1])
    both = data.open(tmp_path / "store")
    assert [record["n"] for record in both] == [*range(40), *range(39, -1, -1)]
    with Writer(tmp_path / "store", both.schema, overwrite=True) as out:
        out.write_store(both[38:42])
    assert data.open(tmp_path / "store").column("n").tolist() == [38, 39, 39, 38]
    assert verify(tmp_path / "store").ok and both[79]["n"] == 0


def test_columns_are_what_records_hold(store):
    part = store[[0, 6, 2, 12, 6]]
    with pytest.raises(errors.RecordError, match="record 1, field 'v': the value is missing"):
        store.column("v")
    found = part.columns()
    assert list(found) == list(SCHEMA) and isinstance(found["x"], Ragged) and found["n"].dtype == np.int64
    for row, record in enumerate(part):
        for name, value in record.items():
            empty = np.empty((0, 2), "float32")
            assert np.array_equal(found[name][row], empty if name == "f" and value is None else value), name
    assert all(len(column) == 0 for column in store[:0].columns().values())


def test_a_closed_writer_copies_nothing(store, tmp_path):
    with Writer(tmp_path / "copy") as out:
        with pytest.raises(TypeError, match="takes a store or a view of one; received"):
            out.write_store(tmp_path / "store")
        out.write_store(store)
    with pytest.raises(ValueError, match="closed"):
        out.write_store(store)
    assert out.records == 40


def test_a_text_that_was_damaged_is_not_copied(tmp_path):
    with Writer(tmp_path / "store", {"s": "string"}) as out:
        out.write_batch({"s": ["first", "second", "third"]})
    shard = tmp_path / "store" / "shard-00000.arrow"
    shard.write_bytes(shard.read_bytes().replace(b"second", b"se\xffond"))
    store = data.open(tmp_path / "store")
    damage = r"shard-00000.arrow: .*field 's' of its record 1"
    with pytest.raises(errors.ShardError, match=damage):
        store.column("s")
    with pytest.raises(errors.ShardError, match=damage), Writer(tmp_path / "copy") as out:
        out.write_store(store)
    assert store[[0, 2]].column("s") == ["first", "third"]
