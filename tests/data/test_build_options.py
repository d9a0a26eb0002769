"""What builds take by choice: another's place, shards by bytes, wider floats, rows without names, bare values."""

import concurrent.futures
import csv
import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_classes import Spoken, files

import kseq.data as kd
from kseq.data.builds import folder as build_folder
from kseq.data.errors import BuildError, FormatError, StoreError, StoreExistsError

ROWS = [{"name": f"n{row}", "speaker": f"s{row % 3}", "label": row} for row in range(40)]
ALL = {"splits": {"all": 1}, "progress": False}


@pytest.fixture
def built(tmp_path):
    kd.build(tmp_path / "a", Spoken, ROWS[:20], progress=False)
    return tmp_path / "a"


# ---- the place of another


@pytest.mark.parametrize("exchange", [True, False])
def test_a_build_takes_the_place_of_another(built, tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(build_folder, "_exchanged", lambda one, other: False)
    before, inside = kd.open(built / "train"), []

    @kd.record
    class Looking(Spoken):
        def load(self):
            super().load()
            if (built / "train").exists():
                inside.append(len(kd.open(built / "train")))

    kd.build(built, Looking, ROWS, overwrite=True, folds=2, progress=False)
    assert inside == [16] * len(ROWS)
    assert os.listdir(tmp_path) == ["a"] and "train" not in os.listdir(built)
    assert len(before) == len(list(before)) == 16  # who has the old one open keeps it
    kd.build(tmp_path / "b", Looking, ROWS, folds=2, progress=False)
    assert files(built) == files(tmp_path / "b")
    kd.rebuild(built / "build.json", built, Looking, source=ROWS, overwrite=True, progress=False)
    assert files(built) == files(tmp_path / "b")
    kd.build(tmp_path / "new", Spoken, ROWS, overwrite=True, progress=False)
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "new"]


def test_a_build_that_fails_leaves_the_one_before(built, tmp_path, monkeypatch):
    before = files(tmp_path)
    with pytest.raises(BuildError):
        kd.build(built, Spoken, [*ROWS, {"name": "x"}], overwrite=True, progress=False)
    assert files(tmp_path) == before
    monkeypatch.setattr(build_folder, "_exchanged", lambda one, other: False)
    rename = os.rename

    def refuses(one, other):
        if os.path.basename(other) == "a" and os.path.basename(one) != "old":
            raise OSError("no")
        rename(one, other)

    monkeypatch.setattr(os, "rename", refuses)
    with pytest.raises(StoreError, match="no"):
        kd.build(built, Spoken, ROWS, overwrite=True, progress=False)
    assert files(tmp_path) == before


KILLED = """
import os, signal, sys
import kseq.data as kd
from kseq.data.builds import folder
from record_classes import Spoken
at = sys.argv[2]
kill = lambda *a: os.kill(os.getpid(), signal.SIGKILL)

@kd.record
class Killed(Spoken):
    def load(self):
        super().load()
        if at == "load" and self.name == "n30":
            kill()

if at == "between":
    folder._exchanged = lambda one, other: False
    rename = os.rename
    def between(one, other):
        rename(one, other)
        if os.path.basename(other) == "old":
            kill()
    os.rename = between
elif at == "after":
    folder.sync = lambda path: str(path) == os.path.dirname(sys.argv[1]) and kill()
rows = [{"name": f"n{n}", "speaker": "a"} for n in range(40)]
kd.build(sys.argv[1], Killed, rows, overwrite=True, shard_rows=4, progress=False)
"""


@pytest.mark.parametrize("at", ["load", "between", "after"])
def test_a_build_that_is_killed_loses_none(built, tmp_path, at):
    before = files(built)
    paths = [str(pathlib.Path(__file__).parent), str(pathlib.Path(kd.__file__).parents[2])]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(built), at],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        timeout=100,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    if at == "load":
        assert files(built) == before
    if at == "after":
        assert len(kd.open(built / "train", verify=True)) == 32
    # The next one begins with what was there, and leaves nothing of the killed one.
    with pytest.raises(StoreExistsError, match="already"):
        kd.build(built, Spoken, ROWS, progress=False)
    if at == "between":
        assert files(built) == before
    kd.build(built, Spoken, ROWS, overwrite=True, progress=False)
    assert os.listdir(tmp_path) == ["a"]
    assert len(kd.open(built / "train", verify=True)) == 32


def test_what_is_no_build_is_not_overwritten(built, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("all of it")
    with kd.Writer(tmp_path / "store", {"x": "int64"}) as out:
        out.write({"x": 1})
    for name in ("thesis.txt", "train/notes.txt", "train.csv.bak"):
        (built / name).write_text("mine")
        before = files(tmp_path)
        for path in (tmp_path / "thesis", tmp_path / "store", built):
            with pytest.raises(StoreExistsError, match="no part of one"):
                kd.build(path, Spoken, ROWS, overwrite=True, progress=False)
        assert files(tmp_path) == before
        (built / name).unlink()
    (built / "build.json").write_text("{}")
    with pytest.raises(StoreExistsError, match="no part of one"):
        kd.build(built, Spoken, ROWS, overwrite=True, progress=False)


def test_a_remote_build_is_not_overwritten(tmp_path):
    pytest.importorskip("fsspec")
    url = f"memory://{tmp_path.name}/overwritten"
    kd.build(url, Spoken, ROWS, overwrite=True, progress=False)
    with pytest.raises(StoreError, match="remote build is not overwritten"):
        kd.build(url, Spoken, ROWS, overwrite=True, progress=False)
    assert len(kd.open(f"{url}/train", cache=tmp_path / "cache")) == 32


# ---- shards by bytes, wider floats


@kd.record
class Wide:
    name: str = kd.source()
    x: kd.Field("float32", (None,)) = None

    def load(self, steps=100):
        self.x = np.linspace(0, int(self.name), steps)

    def split(self, parts=1):
        for part in np.array_split(self.x, parts):
            yield Wide(name=self.name, x=part)


class Twice(concurrent.futures.Executor):
    """Loses every third task, as if its worker had died, and runs the others twice."""

    def __init__(self):
        self.count = 0

    def submit(self, fn, /, *args):
        future = concurrent.futures.Future()
        self.count += 1
        if self.count % 3:
            fn(*args)
            future.set_result(fn(*args))
        else:
            future.set_exception(concurrent.futures.BrokenExecutor("the worker died"))
        return future


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(0, 30),
    shard_rows=st.sampled_from([None, 1, 7]),
    shard_bytes=st.sampled_from([None, 1, 900, 1 << 20]),
    parts=st.sampled_from([1, 3]),
    format=st.sampled_from(["store", "tfrecord"]),
    bad=st.sets(st.integers(0, 30), max_size=4),
)
def test_every_record_is_in_its_shard(tmp_path_factory, rows, shard_rows, shard_bytes, parts, format, bad):
    path = tmp_path_factory.mktemp("build")
    table = [{"name": "x" if row in bad else str(row)} for row in range(rows)]
    options = {"shard_rows": shard_rows, "shard_bytes": shard_bytes, "format": format, "cast": True, "parts": parts}
    options |= {"on_error": "skip", **ALL}
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        reports = [
            kd.build(path / name, Wide, table, executor=executor, **options)
            for name, executor in (("a", None), ("b", Twice()), ("c", threads))
        ]
    assert files(path / "a") == files(path / "b") == files(path / "c")
    counts = reports[0].splits["all"]
    good = [row for row in range(rows) if row not in bad]
    assert (counts.rows, counts.errors, counts.records) == (rows, rows - len(good), len(good) * parts)
    if format == "store":
        store = kd.open(path / "a" / "all", verify=True)
        wanted = [{"x": part} for row in good for part in np.array_split(np.linspace(0, row, 100), parts)]
        assert kd.verify(path / "a" / "all", against=wanted).ok
        if shard_bytes == 1:
            assert counts.shards == len(good)
    with (path / "a" / "all.csv").open(newline="") as file:
        written = [line for line in csv.DictReader(file) if line["outcome"] == "written"]
    assert [int(line["source_name"]) for line in written] == good
    for line in written:
        found = store if format == "store" else list(kd.formats.read(path / "a" / "all" / line["shard"]))
        first = int(line["first"])
        assert sum(found[n]["x"].sum() for n in range(first, first + parts)) == pytest.approx(
            50 * int(line["row"]), 1e-4
        )


def test_a_cast_is_a_choice_and_overflow_an_error(tmp_path):
    with pytest.raises(BuildError, match=r"float64, which is wider \(cast=True rounds it\)"):
        kd.build(tmp_path / "a", Wide, [{"name": "1"}], **ALL)

    @kd.record
    class Huge(Wide):
        def load(self):
            self.x = np.array([np.nan, np.inf, float(self.name)])

    kd.build(tmp_path / "a", Huge, [{"name": "1"}, {"name": "nan"}], cast=True, **ALL)
    assert np.isnan(kd.open(tmp_path / "a" / "all")[1]["x"]).tolist() == [True, False, True]
    with pytest.raises(BuildError, match=r"row 0: RecordError: field 'x': .* float32 holds; received 1e\+300"):
        kd.build(tmp_path / "b", Huge, [{"name": "1e300"}], cast=True, **ALL)


def test_rebuilding_with_all_options(tmp_path):
    (tmp_path / "rows.csv").write_text("1\n2\n3\n4\n")
    options = {"shard_bytes": 500, "cast": True, "header": False, "steps": 7}
    kd.build(tmp_path / "a", Wide, tmp_path / "rows.csv", **options, **ALL)
    kd.rebuild(tmp_path / "a" / "build.json", tmp_path / "b", Wide, progress=False)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    config = json.loads((tmp_path / "a" / "build.json").read_text())
    for name in ("shard_bytes", "cast", "header"):  # a configuration of before there were these
        del config["arguments"][name]
    (tmp_path / "rows.csv").write_text("name\n1\n")
    config["checksums"] = {"": None}
    (tmp_path / "old.json").write_text(json.dumps(config))
    with pytest.raises(BuildError, match="wider"):
        kd.rebuild(tmp_path / "old.json", tmp_path / "c", Wide, progress=False)


# ---- rows without names, arguments of `from_csv_row`, bare values


@kd.record
class Rooted:
    path: str = kd.source()
    tokens: list[int]

    @classmethod
    def from_csv_row(cls, row, root, sep=" "):
        path, tokens = row if isinstance(row, list) else row.values()
        return cls(path=f"{root}/{path}", tokens=[int(token) for token in tokens.split(sep)])


def test_from_csv_row_takes_arguments_and_lists(tmp_path):
    (tmp_path / "rows.csv").write_text("a,1-2\nb,3\n")
    kd.build(tmp_path / "a", Rooted, tmp_path / "rows.csv", header=False, root="data", sep="-", **ALL)
    assert [record["tokens"].tolist() for record in kd.open(tmp_path / "a" / "all")] == [[1, 2], [3]]
    assert "data/b" in (tmp_path / "a" / "all.csv").read_text()
    with pytest.raises(TypeError, match=r"Rooted.from_csv_row: missing .* 'root'; give it to build"):
        kd.build(tmp_path / "b", Rooted, tmp_path / "rows.csv", header=False, **ALL)
    with pytest.raises(TypeError, match=r"take no arguments \['rot'\]"):
        kd.build(tmp_path / "b", Rooted, tmp_path / "rows.csv", root="", rot=1, **ALL)


def test_rows_without_names(tmp_path):
    lines = [f"n{n},s{n % 2},,{n}" for n in range(6)]  # name, speaker, tokens, label
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    (tmp_path / "short.csv").write_text("n1,s\n")
    (tmp_path / "long.csv").write_text("n1,s,,1,2\n")
    options = {"header": False, "progress": False}
    kd.build(tmp_path / "a", Spoken, tmp_path / "rows.csv", by=1, splits={"x": 0.5, "y": 0.5}, **options)
    cells = [[f"n{n}", f"s{n % 2}", None, n] for n in range(6)]
    kd.build(tmp_path / "b", Spoken, cells, by=1, splits={"x": 0.5, "y": 0.5}, progress=False)
    for name in "xy":
        store = kd.open(tmp_path / "a" / name)
        assert len({record["speaker"] for record in store}) == 1 and len(store) == 3
        assert store.content_hash == kd.open(tmp_path / "b" / name).content_hash
    kd.build(tmp_path / "c", Spoken, tmp_path / "short.csv", header=False, **ALL)
    assert kd.open(tmp_path / "c" / "all")[0]["label"] is None
    with pytest.raises(BuildError, match=r"long.csv, line 1, row 0: RecordError: .*received 5 cells"):
        kd.build(tmp_path / "d", Spoken, tmp_path / "long.csv", header=False, **ALL)
    names = ["name", "speaker", "comment", "label"]
    kd.build(tmp_path / "named", Spoken, tmp_path / "rows.csv", header=names, **ALL)
    assert [record["label"] for record in kd.open(tmp_path / "named" / "all")] == list(range(6))
    for header, error in ((names[:3], FormatError), (["a"] * 4, FormatError), ("no", ValueError), (0, ValueError)):
        with pytest.raises(error):
            kd.build(tmp_path / "d", Spoken, tmp_path / "rows.csv", header=header, **ALL)
    for by in (7, "speaker"):
        with pytest.raises(BuildError, match=r"line 1, row 0: .*divide"):
            kd.build(tmp_path / "d", Spoken, tmp_path / "rows.csv", by=by, header=False, progress=False)


@kd.record
class Tokens:
    tokens: kd.Field("int32", (None,))


@kd.record
class Text:
    text: str = kd.source()
    tokens: kd.Field("int32", (None,))

    def load(self, how="array"):
        ids = np.array([ord(letter) for letter in self.text], "int32")
        if how == "set":
            self.tokens = ids
            return self
        return {"array": ids, "list": ids.tolist(), "dict": {"tokens": ids}, "wrong": {"token": ids}}[how]

    def split(self, size=None):
        if size is None:
            yield self
        for start in range(0, len(self.tokens) if size else 0, size or 1):
            part = self.tokens[start : start + size]
            yield part if start % 2 else {"tokens": part}


def test_records_that_are_bare_arrays(tmp_path):
    rows = [np.arange(n, dtype="int32") for n in range(5)]
    kd.build(tmp_path / "a", Tokens, rows, **ALL)
    assert kd.verify(tmp_path / "a" / "all", against=rows).ok
    texts = [{"text": text} for text in ("", "ab", "abcde")]
    wanted = [[ord(letter) for letter in row["text"]] for row in texts]
    for how in ("set", "array", "list", "dict"):
        kd.build(tmp_path / how, Text, texts, how=how, **ALL)
        assert kd.verify(tmp_path / how / "all", against=wanted).ok
    with pytest.raises(BuildError, match=r"load must return fields of \['tokens'\]; received 'token'"):
        kd.build(tmp_path / "b", Text, texts, how="wrong", **ALL)
    kd.build(tmp_path / "b", Text, texts, size=3, **ALL)
    assert kd.verify(tmp_path / "b" / "all", against=[[97, 98], [97, 98, 99], [100, 101]]).ok

    @kd.record
    class Two(Text):
        label: int | None = None

    with pytest.raises(BuildError, match="a record must be a dict of fields; received ndarray"):
        kd.build(tmp_path / "c", Two, texts, **ALL)


def test_variable_arguments_have_any_name(tmp_path):
    @kd.record
    class Free(Tokens):
        def load(self, *seed, **metadata):
            self.tokens = metadata["extra"]

    kd.build(tmp_path / "a", Free, [{"tokens": [1]}], extra=[2, 3], **ALL)
    assert kd.open(tmp_path / "a" / "all")[0]["tokens"].tolist() == [2, 3]
    for names in (["build.json"], ["folds.json"], ["a", "a.csv"]):
        with pytest.raises(ValueError, match="no file's"):
            kd.build(tmp_path / "b", Free, {name: [] for name in names}, extra=[], progress=False)


def test_tokens_of_the_library_tokenizers(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "to": 1, "be": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()

    @kd.record
    class Tokenized(Tokens):
        text: str = kd.source()

        def load(self):
            return tokenizer.encode(self.text).ids

    kd.build(tmp_path / "a", Tokenized, [{"text": "to be here"}, {"text": ""}], **ALL)
    assert kd.verify(tmp_path / "a" / "all", against=[[1, 2, 0], []]).ok
