"""Writers that take the place of a store, round floats by choice, take bare values; and whether all reads back."""

import dataclasses
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kseq.data as kd
from kseq import Ragged
from kseq.data import Writer
from kseq.data.errors import RecordError, StoreExistsError, StoreLockedError, UnsealedShardError
from kseq.data.store import writer
from kseq.data.store.folder import open_folder
from kseq.data.store.manifest import read_manifest

NEW = {"x": ("float32", (None,))}


@pytest.fixture
def path(tmp_path):
    """A store of three records in two shards, whose last commits are lines."""
    with Writer(tmp_path / "store", metadata={"was": 1}, shard_rows=2) as out:
        for n in range(3):
            out.write({"tokens": np.arange(n)})
    kd.set_metadata(tmp_path / "store", splits={"all": [[0, 3]]})
    return tmp_path / "store"


def is_old(path):
    store = kd.open(path, verify=True)
    return store.lengths.tolist() == [0, 1, 2] and store.metadata == {"was": 1} and list(store.splits) == ["all"]


def test_a_store_takes_the_place_of_another(path):
    before = kd.open(path)
    with Writer(path, NEW, overwrite=True, shard_rows=2, metadata={"is": 2}) as out:
        for n in range(5):
            assert out.write({"x": [1.0] * n}) == n
        out.commit()
        assert is_old(path)
        with pytest.raises(StoreLockedError):
            Writer(path, NEW, overwrite=True)
    store = kd.open(path, verify=True)
    assert (store.lengths.tolist(), store.metadata, store.splits) == ([0, 1, 2, 3, 4], {"is": 2}, {})
    assert kd.verify(path).leftovers == ()
    assert before[2]["tokens"].tolist() == [0, 1]  # who has the old one open keeps it
    with Writer(path, append=True) as out:
        assert out.write({"x": [2]}) == 5
    with Writer(path.parent / "none", NEW, overwrite=True) as out:
        out.write({"x": [1]})
    assert len(kd.open(path.parent / "none")) == 1


def test_an_error_leaves_the_store_as_it_was(path, monkeypatch):
    files = sorted(os.listdir(path))

    def overwrite(*values):
        with Writer(path, NEW, overwrite=True, shard_rows=1) as out:
            for value in values:
                out.write({"x": value})

    with pytest.raises(RecordError):
        overwrite([1.0], [2.0], "text")
    assert is_old(path) and sorted(os.listdir(path)) == files
    with pytest.raises(kd.errors.EmptyStoreError):
        Writer(path, overwrite=True).close()
    with pytest.raises(ValueError, match="metadata"):
        Writer(path, NEW, overwrite=True, metadata={1: 2})
    assert is_old(path) and sorted(os.listdir(path)) == files

    def refuses(*arguments, **options):
        raise OSError("no space")

    monkeypatch.setattr(writer, "commit_shards", refuses)
    with pytest.raises(OSError, match="no space"):
        overwrite([1])
    assert is_old(path) and sorted(os.listdir(path)) == files


@pytest.mark.parametrize("last", [False, True])
def test_a_writer_that_is_killed_leaves_the_store_as_it_was(path, last):
    killed = f"""
import os, signal
import kseq.data as kd
from kseq.data.store import writer
from kseq.data.store.folder import open_folder
from kseq.data.store.manifest import read_manifest
out = kd.Writer({str(path)!r}, {NEW!r}, overwrite=True, shard_rows=1)
for n in range(3):
    out.write({{"x": [float(n)] * 5}})
kill = lambda *a, **o: os.kill(os.getpid(), signal.SIGKILL)
if {last}:
    writer.commit_shards = lambda *a, commit=writer.commit_shards, **o: (commit(*a, **o), kill())
    out.close()
kill()
"""
    done = subprocess.run([sys.executable, "-c", killed], timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL
    if last:  # the manifest is the new one
        assert kd.open(path, verify=True).lengths.tolist() == [5, 5, 5]
    else:
        assert is_old(path)
        with pytest.raises(UnsealedShardError):
            Writer(path, append=True)
    assert kd.verify(path).ok and kd.verify(path).leftovers
    if last:
        with Writer(path, NEW, overwrite=True) as out:
            out.write({"x": [7]})
        assert kd.open(path).lengths.tolist() == [1]
    else:
        kd.repair(path)
        assert is_old(path)
    assert kd.verify(path).leftovers == ()


def test_what_is_no_store_is_not_overwritten(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("all of it")
    (tmp_path / "file").write_text("")
    for name in ("folder", "file"):
        with pytest.raises(kd.errors.StoreError):
            Writer(tmp_path / name, NEW, overwrite=True)
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "all of it"
    with pytest.raises(ValueError, match="not both"):
        Writer(tmp_path / "new", NEW, overwrite=True, append=True)
    with pytest.raises(StoreExistsError, match="no kseq store"):
        Writer(tmp_path / "folder", NEW, overwrite=True)
    # What a writer left that was killed before its first commit is no store yet, but nothing else either.
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "shard-00000.arrow.tmp").write_bytes(b"half")
    with Writer(tmp_path / "left", NEW, overwrite=True) as out:
        out.write({"x": [1]})
    assert kd.verify(tmp_path / "left").leftovers == ()


def test_remote_stores_are_overwritten(tmp_path):
    pytest.importorskip("fsspec")
    url = f"memory://{tmp_path.name}"
    for count in (3, 2):
        with Writer(url, NEW, overwrite=True) as out:
            for n in range(count):
                out.write({"x": [float(n)]})
        store = kd.open(url, cache=tmp_path / "cache")
        assert [record["x"].tolist() for record in store] == [[float(n)] for n in range(count)]


FLOATS = st.floats(width=64) | st.sampled_from([3.4028235677973366e38, 3.5e38, -1e308, 1e-46, 5e-324, -0.0])


@settings(max_examples=60, deadline=None)
@given(st.lists(FLOATS, max_size=5), st.booleans(), st.sampled_from(["float32", "float16", "bfloat16"]))
def test_wider_floats_are_rounded_by_choice(tmp_path_factory, values, in_batch, dtype):
    path = tmp_path_factory.mktemp("store") / "store"
    given, field = np.array(values, "float64"), kd.Field(dtype, (None,))
    with np.errstate(all="ignore"):
        rounded = given.astype(field.dtype)
        fits = bool(np.all(np.isfinite(rounded.astype("float64")) | ~np.isfinite(given)))
    for cast in (False, True):
        with Writer(path, {"x": field}, cast=cast, overwrite=True) as out:
            write = (lambda: out.write_batch({"x": [given]})) if in_batch else (lambda: out.write({"x": given}))
            if cast and fits:
                write()
            else:
                with pytest.raises(RecordError, match="float64, which is wider" if not cast else "must be one that"):
                    write()
    if fits:
        assert kd.open(path)[0]["x"].tobytes() == rounded.tobytes()
        assert kd.verify(path, against=[{"x": given}]).ok


@pytest.mark.parametrize("value", [[1.5], np.array([1.5]), np.array([1 << 40]), np.array([1j]), ["1"]])
def test_a_cast_is_of_floats_alone(tmp_path, value):
    with Writer(tmp_path / "store", {"x": ("int16", (None,))}, cast=True) as out, pytest.raises(RecordError):
        out.write({"x": value})


def test_records_that_are_bare_values(tmp_path):
    with Writer(tmp_path / "a") as out:
        assert [out.write(np.arange(n, dtype="int16")) for n in range(3)] == [0, 1, 2]
        out.write([7])
        out.write({"values": [8]})
        for wrong in (np.ones(2), "text", None):
            with pytest.raises(RecordError, match="record 5, field 'values'"):
                out.write(wrong)
    store = kd.open(tmp_path / "a")
    assert store.schema == kd.Schema({"values": ("int16", (None,))})
    assert [record["values"].tolist() for record in store] == [[], [0], [0, 1], [7], [8]]
    with Writer(tmp_path / "b", {"text": kd.Field("string", optional=True)}) as out:
        for value in ("a", None):
            out.write(value)
    assert list(kd.open(tmp_path / "b")) == [{"text": "a"}, {"text": None}]
    with pytest.raises(RecordError, match="or an array; received list"):
        Writer(tmp_path / "c").write([1])


def test_columns_that_are_bare(tmp_path):
    rows = [[1, 2], [], [3]]
    for name, schema in (("a", {"x": ("int64", (None,))}), ("b", None)):
        with Writer(tmp_path / name, schema) as out:
            assert out.write_batch(Ragged.from_rows([np.array(row, "int64") for row in rows])) == range(3)
            assert out.write_batch(np.ones((2, 4), "int64")) == range(3, 5)
            assert out.write_batch(rows) == range(5, 8)
        assert kd.verify(tmp_path / name, against=[*rows, [1] * 4, [1] * 4, *rows]).ok
    with pytest.raises(RecordError, match="columns must"):
        Writer(tmp_path / "c").write_batch(rows)


def test_shards_that_are_smaller_than_a_chunk(tmp_path):
    row = np.zeros(100, "int32")  # and 4 bytes of its offset
    with Writer(tmp_path / "a", {"x": ("int32", (None,))}, shard_bytes=1000) as out:
        for _ in range(10):
            out.write({"x": row})
    with Writer(tmp_path / "b", {"x": ("int32", (None,))}, shard_bytes=1000) as out:
        out.write_batch([row] * 10)
    for name in "ab":
        shards = [entry.records for entry in read_manifest(open_folder(tmp_path / name)).shards]
        assert len(shards) >= 3 and sum(shards) == 10


def test_records_that_are_dataclasses(tmp_path):
    @dataclasses.dataclass
    class Word:
        text: str
        hidden: object = None

    with Writer(tmp_path / "a", {"text": "string"}) as out:
        out.write(Word("a", out))
    with Writer(tmp_path / "b", {"text": "string", "more": kd.Field("int8", optional=True)}) as out:
        out.write(Word("b"))
    assert [kd.open(tmp_path / name)[0]["text"] for name in "ab"] == ["a", "b"]


def test_what_was_written_reads_back(path, tmp_path):
    records = [{"tokens": list(range(n))} for n in range(3)]
    assert kd.verify(path, deep=True).ok
    for same in (records, iter(records), kd.open(path), path, str(path), [record["tokens"] for record in records]):
        assert kd.verify(path, against=same).ok
    report = kd.verify(path, deep=True, against=[records[0], {"tokens": [9]}, {"tokens": [0, 2]}])
    assert [file for file, _ in report.problems] == ["shard-00000.arrow", "shard-00001.arrow"]
    assert "record 1, field 'tokens': array([9]) was to be written; received array([0])" in report.problems[0][1]
    for wrong, words in [
        (records[:2], "2 records were to be written; the store holds 3"),
        ([*records, *records], "6 records were to be written; the store holds 3"),
        ([records[0], {"tokens": "text"}, records[2]], "record 1: field 'tokens': the value must have shape"),
        ([{}, {}, {}], r"record 0: field 'tokens': the field is missing.*\(and 1 more\)"),
    ]:
        assert re.search(words, kd.verify(path, against=wrong).problems[0][1])
    with Writer(tmp_path / "nan", {"x": ("float32", (None,)), "n": kd.Field("int8", optional=True)}) as out:
        out.write({"x": [np.nan, -0.0], "n": None})
        out.commit()
        assert kd.verify(tmp_path / "nan", deep=True).ok  # before the writer has come to its end
    assert kd.verify(tmp_path / "nan", against=[{"x": [np.nan, -0.0]}]).ok
    assert not kd.verify(tmp_path / "nan", against=[{"x": [np.nan, 0.0]}]).ok
    assert not kd.verify(tmp_path / "nan", against=[{"x": [np.nan, -0.0], "n": 0}]).ok
