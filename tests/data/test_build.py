"""Builds: splits, errors with their rows, the same bytes however they are run, nothing where they fail."""

import concurrent.futures
import csv
import dataclasses
import json
import logging
import os
import sys

import numpy as np
import pytest
from record_classes import Chunked, Mortal, Spoken, files

import kseq.data as kd
from kseq.data.builds.sink import _StagedFolder
from kseq.data.errors import (
    BuildError,
    BuildWorkerError,
    FormatError,
    SchemaError,
    StoreError,
    StoreExistsError,
    StoreLockedError,
    StoreNotFoundError,
    StoreWriteError,
)

ROWS = 60


@pytest.fixture
def table(tmp_path):
    """60 rows of 6 speakers; the first has a line break in a cell, so that lines are not rows."""
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["name", "speaker", "label", "comment"])
        for row in range(ROWS):
            lines.writerow([f"n{row}", f"s{row % 6}", "" if row % 2 else row, "two\nlines" if row == 0 else ""])
    return path


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def labels(path):
    return [record["label"] for record in kd.open(path)]


def test_a_build(table, tmp_path):
    target = tmp_path / "new" / "nested" / "corpus"
    report = kd.build(target, Spoken, table, splits={"train": 0.7, "eval": 0.2, "test": 0.1}, shard_rows=8, extra=2)
    assert [(name, c.rows, c.records, c.shards) for name, c in report.splits.items()] == [
        ("train", 42, 42, 6),
        ("eval", 12, 12, 2),
        ("test", 6, 6, 1),
    ]
    assert report.records == 60
    assert "train: 42 records of 42 rows in 6 shards" in str(report)
    assert json.loads(json.dumps(report.to_json()))["splits"]["test"]["bytes"] > 0
    assert sorted(os.listdir(target)) == ["build.json", "eval", "eval.csv", "test", "test.csv", "train", "train.csv"]
    assert os.listdir(target.parent) == ["corpus"]
    rows = []
    for name in report.splits:
        store = kd.open(target / name, verify=True)
        assert store.schema == kd.schema_of(Spoken)
        for line in read_csv(target / f"{name}.csv"):
            record, row = store[int(line["first"])], int(line["row"])
            assert (line["source_name"], line["records"], line["outcome"]) == (f"n{row}", "1", "written")
            assert int(line["line"]) == row + 2 + (row > 0)
            assert record["speaker"] == f"s{row % 6}"
            assert record["label"] == (None if row % 2 else row)
            assert record["tokens"].tolist() == list(range(row % 7 + 2))
            rows.append(row)
    assert sorted(rows) == list(range(ROWS))


def test_the_same_arguments_build_the_same_bytes(table, tmp_path):
    kd.build(tmp_path / "a", Spoken, table, shard_rows=7, metadata={"language": "ä"})
    kd.build(tmp_path / "b", Spoken, str(table), shard_rows=7, metadata={"language": "ä"})
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert kd.open(tmp_path / "a" / "eval").metadata == {"language": "ä"}
    kd.build(tmp_path / "c", Spoken, table, shard_rows=7, seed=1)
    assert labels(tmp_path / "c" / "train") != labels(tmp_path / "a" / "train")
    kd.rebuild(tmp_path / "a" / "build.json", tmp_path / "d", Spoken)
    assert files(tmp_path / "a") == files(tmp_path / "d")


def test_processes_whose_worker_dies_build_the_same_bytes(table, tmp_path):
    (tmp_path / "marks").mkdir()
    options = {"shard_rows": 8, "marks": str(tmp_path / "marks"), "skip": "n9", "bad": "n7", "on_error": "skip"}
    kd.build(tmp_path / "a", Mortal, table, workers=2, **options)
    assert os.listdir(tmp_path / "marks") == ["died"]
    kd.build(tmp_path / "b", Mortal, table, **options)
    assert files(tmp_path / "a") == files(tmp_path / "b")


class Losing(concurrent.futures.Executor):
    """Loses all tasks but every n-th, as if their workers had died; runs each of these twice."""

    def __init__(self, every=None):
        self.every, self.count = every, 0

    def submit(self, fn, /, *args):
        future = concurrent.futures.Future()
        self.count += 1
        if self.every and self.count % self.every == 0:
            fn(*args)
            future.set_result(fn(*args))
        else:
            future.set_exception(concurrent.futures.BrokenExecutor("the worker died"))
        return future


@pytest.mark.parametrize("format", ["store", "tfrecord"])
def test_tasks_that_are_lost_and_run_twice(table, tmp_path, format):
    options = {"shard_rows": 8, "format": format}
    kd.build(tmp_path / "a", Spoken, table, executor=Losing(3), **options)
    kd.build(tmp_path / "b", Spoken, table, **options)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_threads(table, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(3) as executor:
        kd.build(tmp_path / "a", Spoken, table, executor=executor, shard_rows=3)
        executor.submit(int).result()  # it is not shut down
    kd.build(tmp_path / "b", Spoken, table, shard_rows=3)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_workers_that_always_die(table, tmp_path):
    words = r"rows\.csv: 8 shards were not built in 3 tries.*rows 0 to .*BrokenExecutor: the worker died"
    with pytest.raises(BuildWorkerError, match=words) as caught:
        kd.build(tmp_path / "a", Spoken, table, executor=Losing(), shard_rows=8, splits={"all": 1})
    assert isinstance(caught.value.__cause__, concurrent.futures.BrokenExecutor)
    assert os.listdir(tmp_path) == ["rows.csv"]


def test_a_class_that_workers_cannot_import(table, tmp_path):
    @kd.record
    class Local(Spoken):
        pass

    with pytest.raises(BuildError, match="at its top"):
        kd.build(tmp_path / "a", Local, table, workers=2)
    assert os.listdir(tmp_path) == ["rows.csv"]


def test_a_failing_record_is_named_and_nothing_is_left(table, tmp_path):
    with pytest.raises(BuildError, match=r"rows\.csv, line 10, row 7: OSError: cannot read n7") as caught:
        kd.build(tmp_path / "new" / "a", Mortal, table, bad="n7", shard_rows=2)
    error = caught.value
    assert (error.path, error.row, error.line) == (str(table), 7, 10)
    assert isinstance(error.__cause__, OSError)
    assert os.listdir(tmp_path / "new") == []


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"name": "nine", "speaker": "a"}, "row 1: ValueError"),
        ({"name": "n1", "speaker": None}, "row 1: RecordError: field 'speaker'"),
        ({"name": "n1", "speaker": 3}, "row 1: RecordError: .*'speaker'"),
        (17, "row 1: TypeError: a source must yield Spoken or dicts; received int"),
    ],
)
def test_rows_that_are_no_records(tmp_path, row, words):
    with pytest.raises(BuildError, match=words):
        kd.build(tmp_path / "a", Spoken, [{"name": "n1", "speaker": "a"}, row], splits={"all": 1})


def test_skipped_records_are_counted_logged_and_listed(table, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "kseq.data"):
        report = kd.build(
            tmp_path / "a", Mortal, table, splits={"all": 1}, skip="n9", bad="n7", on_error="skip", shard_rows=10
        )
    counts = report.splits["all"]
    assert (counts.rows, counts.records, counts.skipped, counts.errors) == (60, 58, 1, 1)
    assert "1 skipped, 1 failed" in str(report)
    lines = read_csv(tmp_path / "a" / "all.csv")
    assert [lines[7][key] for key in ("outcome", "detail", "shard", "records")] == [
        "error",
        "OSError: cannot read n7",
        "",
        "0",
    ]
    assert [lines[9][key] for key in ("outcome", "detail", "source_name")] == ["skipped", "too noisy", "n9"]
    assert [int(line["first"]) for line in lines if line["outcome"] == "written"] == list(range(58))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "line 12, row 9: too noisy" in caplog.records[1].getMessage()


def test_shards_of_which_all_is_skipped(tmp_path):
    rows = [{"name": f"n{1 if row // 5 == 1 else 2}", "speaker": ""} for row in range(15)]
    report = kd.build(tmp_path / "a", Mortal, rows, splits={"all": 1}, skip="n1", shard_rows=5)
    assert (report.records, report.splits["all"].shards) == (10, 2)
    store = kd.open(tmp_path / "a" / "all", verify=True)
    assert store.lengths.tolist() == [2] * 10
    assert store[9]["tokens"].tolist() == [0, 1]


def test_records_that_become_several(table, tmp_path):
    kd.build(tmp_path / "a", Chunked, table, splits={"all": 1}, size=4, shard_rows=7)
    lines, store = read_csv(tmp_path / "a" / "all.csv"), kd.open(tmp_path / "a" / "all")
    for row, line in enumerate(lines):
        parts = store[int(line["first"]) : int(line["first"]) + int(line["records"])]
        assert np.concatenate([[], *(part["tokens"] for part in parts)]).tolist() == list(range(row % 7))
    assert len(store) == sum(int(line["records"]) for line in lines)


def test_a_row_that_fails_in_a_part_is_left_out_whole(tmp_path):
    @kd.record
    class Broken(Spoken):
        def split(self):
            yield self
            yield type(self)(name="", speaker=3 if self.speaker == "bad" else "good", tokens=[1])

    rows = [{"name": "n3", "speaker": speaker} for speaker in ("a", "bad", "b")]
    report = kd.build(tmp_path / "a", Broken, rows, splits={"all": 1}, on_error="skip")
    assert report.records == 4
    assert [record["speaker"] for record in kd.open(tmp_path / "a" / "all")] == ["a", "good", "b", "good"]


def test_what_load_sets_is_not_kept(tmp_path):
    rows = [Spoken(name=f"n{row}", speaker="a") for row in range(10)]
    kd.build(tmp_path / "a", Spoken, rows, splits={"all": 1})
    assert all(row.tokens is None for row in rows)
    assert kd.open(tmp_path / "a" / "all").lengths.tolist() == [row % 7 for row in range(10)]


def test_by_keeps_speakers_in_one_split(table, tmp_path):
    kd.build(tmp_path / "a", Spoken, table, by="speaker", splits={"train": 0.5, "test": 0.5})
    speakers = [{record["speaker"] for record in kd.open(tmp_path / "a" / name)} for name in ("train", "test")]
    assert all(speakers)
    assert not set.intersection(*speakers)
    with pytest.raises(BuildError, match=r"line 2, row 0: there is no 'dialect' to divide by"):
        kd.build(tmp_path / "b", Spoken, table, by="dialect")


def test_folds(table, tmp_path):
    kd.build(tmp_path / "a", Spoken, table, folds=4)
    tests = []
    for number in range(4):
        train, test = kd.open_fold(tmp_path / "a", number)
        assert (len(train), len(test)) == (45, 15)
        tests += [(record["speaker"], record["label"], len(record["tokens"])) for record in test]
    every = [(f"s{row % 6}", None if row % 2 else row, row % 7) for row in range(ROWS)]
    assert sorted(tests, key=str) == sorted(every, key=str)
    with pytest.raises(IndexError, match=r"\[0, 4\); received 4"):
        kd.open_fold(tmp_path / "a", 4)
    kd.rebuild(tmp_path / "a" / "build.json", tmp_path / "b", Spoken)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    kd.build(tmp_path / "c", Spoken, table)
    with pytest.raises(StoreNotFoundError, match="no build with folds"):
        kd.open_fold(tmp_path / "c", 0)


def test_given_splits_and_json_lines(table, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"name": f"n{row}", "speaker": "x", "label": row} for row in range(5)]
    path.write_text("\n".join(json.dumps(row) for row in rows[:4]) + "\n\n" + json.dumps(rows[4]))
    report = kd.build(tmp_path / "a", Spoken, {"train": table, "few": path})
    assert {name: counts.rows for name, counts in report.splits.items()} == {"train": 60, "few": 5}
    assert labels(tmp_path / "a" / "few") == [0, 1, 2, 3, 4]
    assert [line["line"] for line in read_csv(tmp_path / "a" / "few.csv")] == ["1", "2", "3", "4", "6"]
    kd.rebuild(tmp_path / "a" / "build.json", tmp_path / "b", Spoken)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    path.write_text(path.read_text() + "\n[1]")
    with pytest.raises(BuildError, match=r"rows\.jsonl: its rows have changed"):
        kd.rebuild(tmp_path / "a" / "build.json", tmp_path / "c", Spoken)
    with pytest.raises(BuildError, match=r"rows\.jsonl, line 7, row 5: .*object"):
        kd.build(tmp_path / "c", Spoken, path, splits={"all": 1})


def test_rebuilding_what_came_from_no_file(table, tmp_path):
    rows = [Spoken(name=f"n{row}", speaker="a") for row in range(20)]
    kd.build(tmp_path / "a", Spoken, rows, extra=1)
    with pytest.raises(BuildError, match="give the source"):
        kd.rebuild(tmp_path / "a" / "build.json", tmp_path / "b", Spoken)
    kd.rebuild(tmp_path / "a" / "build.json", tmp_path / "b", Spoken, source=iter(rows))
    assert files(tmp_path / "a") == files(tmp_path / "b")

    @kd.record
    class Other(Spoken):
        more: int = 0

    with pytest.raises(SchemaError, match="more"):
        kd.rebuild(tmp_path / "a" / "build.json", tmp_path / "c", Other, source=rows)
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(BuildError, match=r"bad\.json"):
        kd.rebuild(tmp_path / "bad.json", tmp_path / "c", Spoken)
    with pytest.raises(StoreNotFoundError):
        kd.rebuild(tmp_path / "none.json", tmp_path / "c", Spoken)


def test_tfrecords(table, tmp_path):
    kd.build(tmp_path / "a", Spoken, table, format="tfrecord", shard_rows=10, metadata={"rate": 8})
    names = sorted(os.listdir(tmp_path / "a" / "train"))
    assert names[:2] == ["shard-00000.tfrecord", "shard-00000.tfrecord.schema.json"]
    for line in read_csv(tmp_path / "a" / "train.csv"):
        found = kd.formats.read(tmp_path / "a" / "train" / line["shard"])
        assert found.metadata == {"rate": 8}
        record = list(found)[int(line["first"])]
        assert record["speaker"] == f"s{int(line['row']) % 6}"


def test_an_existing_path_is_refused_and_left_alone(table, tmp_path):
    kd.build(tmp_path / "a", Spoken, table)
    before = files(tmp_path)
    with pytest.raises(StoreExistsError, match="already"):
        kd.build(tmp_path / "a", Spoken, table)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreExistsError, match="a file"):
        kd.build(tmp_path / "file", Spoken, table)
    assert files(tmp_path) == before | {"file": b""}
    (tmp_path / "empty").mkdir()
    kd.build(tmp_path / "empty", Spoken, table)
    assert files(tmp_path / "empty") == files(tmp_path / "a")


def test_what_a_killed_build_has_left_is_begun_anew(table, tmp_path):
    left = tmp_path / ".a.building" / "0123" / "train"
    left.mkdir(parents=True)
    (left / "shard-00000.arrow").write_bytes(b"half")
    (left.parent / "train.csv").write_text("half")
    kd.build(tmp_path / "a", Spoken, table)
    kd.build(tmp_path / "b", Spoken, table)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "rows.csv"]


def test_an_interrupt_leaves_nothing(table, tmp_path):
    @kd.record
    class Interrupted(Spoken):
        def load(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kd.build(tmp_path / "a", Interrupted, table, on_error="skip")
    assert os.listdir(tmp_path) == ["rows.csv"]


def test_two_builds_of_one_path(table, tmp_path):
    @kd.record
    class Nested(Spoken):
        def load(self):
            with pytest.raises(StoreLockedError):
                kd.build(tmp_path / "a", Spoken, table)
            super().load()

    kd.build(tmp_path / "a", Nested, table, splits={"all": 1})
    assert len(kd.open(tmp_path / "a" / "all")) == ROWS


def test_remote_builds(table, tmp_path):
    pytest.importorskip("fsspec")
    url = f"memory://{tmp_path.name}"
    kd.build(f"{url}/a", Spoken, table, shard_rows=9)
    kd.build(tmp_path / "a", Spoken, table, shard_rows=9)
    for name in ("train", "eval", "test"):
        store = kd.open(f"{url}/a/{name}", cache=tmp_path / "cache" / name)
        assert store.content_hash == kd.open(tmp_path / "a" / name).content_hash
    with pytest.raises(StoreExistsError):
        kd.build(f"{url}/a", Spoken, table)
    with pytest.raises(BuildError):
        kd.build(f"{url}/b", Mortal, table, bad="n7")
    with pytest.raises(StoreNotFoundError):
        kd.open(f"{url}/b/train")
    with pytest.raises(StoreError, match="local"):
        kd.build(f"{url}/c", Spoken, table, format="tfrecord")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"splits": {"train": 0.8}}, "sum to 1"),
        ({"splits": {"train": 0.8, "test": 0.3}}, "at most 1"),
        ({"splits": {"../train": 1}}, "names of splits"),
        ({"splits": {"a": 1}, "folds": 2}, "not both"),
        ({"folds": 1}, "folds"),
        ({"shard_rows": 0}, "shard_rows"),
        ({"workers": 0}, "workers"),
        ({"workers": 2, "executor": Losing()}, "not both"),
        ({"format": "hdf5"}, "format must be one of"),
        ({"on_error": "ignore"}, "on_error must be one of"),
        ({"metadata": {1: 2}}, "metadata"),
        ({"extra": np.ones(3)}, "keyword arguments"),
        ({"speed": 3}, r"take no arguments \['speed'\]"),
    ],
)
def test_wrong_arguments(table, tmp_path, options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        kd.build(tmp_path / "a", Spoken, table, **options)
    assert os.listdir(tmp_path) == ["rows.csv"]


def test_wrong_sources(table, tmp_path):
    for source, wanted in [
        (tmp_path / "none.csv", StoreNotFoundError),
        (5, TypeError),
        ({"../a": table}, ValueError),
        ({}, ValueError),
    ]:
        with pytest.raises(wanted):
            kd.build(tmp_path / "a", Spoken, source)
    with pytest.raises(TypeError, match="size"):
        kd.build(tmp_path / "a", Chunked, table)
    with pytest.raises(ValueError, match="leaves nothing to divide"):
        kd.build(tmp_path / "a", Spoken, {"all": table}, folds=2)
    for text, words in [("", "names of columns"), ("a,a\n", "differ"), ("a,b\n1\n", "line 2: 2 cells")]:
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(FormatError, match=words):
            kd.build(tmp_path / "a", Spoken, tmp_path / "bad.csv")


def test_other_formats_are_sources(tmp_path):
    schema = kd.Schema({"name": "string", "speaker": "string", "label": kd.Field("int64", optional=True)})
    with kd.formats.write(tmp_path / "rows.parquet", schema) as sink:
        for row in range(6):
            sink.write({"name": f"n{row}", "speaker": "a", "label": row})
    kd.build(tmp_path / "a", Spoken, tmp_path / "rows.parquet", splits={"all": 1})
    assert labels(tmp_path / "a" / "all") == list(range(6))


def test_no_rows(tmp_path):
    report = kd.build(tmp_path / "a", Spoken, [])
    assert report.records == 0
    assert len(kd.open(tmp_path / "a" / "train")) == 0


def test_a_bar_on_a_terminal(table, tmp_path, monkeypatch, capsys):
    kd.build(tmp_path / "a", Spoken, table)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    kd.build(tmp_path / "b", Spoken, table, progress=False)
    assert capsys.readouterr().err == ""
    kd.build(tmp_path / "c", Spoken, table)
    assert "60/60" in capsys.readouterr().err  # rows


def test_numbers_of_python_and_numpy(tmp_path):
    @kd.record
    class Numbers:
        a: int
        b: float | None
        c: bool
        d: np.int16

    rows = [Numbers(a=1, b=0.5, c=True, d=3), Numbers(a=np.int32(2), b=None, c=np.False_, d=np.int16(-3))]
    kd.build(tmp_path / "a", Numbers, rows, splits={"all": 1})
    found = [tuple(record.values()) for record in kd.open(tmp_path / "a" / "all")]
    assert found == [(1, 0.5, True, 3), (2, None, False, -3)]
    for wrong in ({"a": 1 << 64}, {"a": 0.5}, {"a": True, "c": 2}, {"b": 1j}, {"d": 1 << 15}):
        with pytest.raises(BuildError, match="row 1: RecordError"):
            kd.build(tmp_path / "b", Numbers, [rows[0], dataclasses.replace(rows[0], **wrong)], splits={"all": 1})


def test_a_build_that_was_given_up_does_not_come_back(tmp_path):
    (tmp_path / "a").mkdir()
    aside = _StagedFolder(tmp_path / "a")
    aside.put("name", b"data")
    aside.clear()
    assert os.listdir(tmp_path / "a") == ["name"]
    with pytest.raises(StoreWriteError):
        _StagedFolder(tmp_path / "b")
