"""`kseq data`: corpora built, converted, inspected and repaired from the command line."""

import gc
import itertools
import json
import os
import pathlib
import sys

import numpy as np
import pytest

import kseq.data as kd
from kseq import cli
from kseq.cli import data
from kseq.cli.data_show import bar
from kseq.data.text import Vocabulary
from kseq.datasets import japanese_vowels

LINES = ["to be or not to be", "that is the question", "", "whether 'tis nobler", "in the mind to suffer ä"] * 4
RECORDS = """
import kseq.data as kd


@kd.record
class Vowel:
    frames: kd.Field("float32", (None, 12))
    speaker: int


@kd.record
class Line:
    text: str = kd.source()
    letters: kd.Field("int32", (None,), store="uint16") = None

    def load(self, shift=0):
        if not self.text:
            raise kd.SkipRecord("empty")
        if self.text == "fail":
            raise RuntimeError("two\\nlines")
        self.letters = [ord(letter) + shift for letter in self.text]
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The current folder, with a module of records and the tables of two corpora."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "corpus_records", raising=False)
    pathlib.Path("corpus_records.py").write_text(RECORDS)
    pathlib.Path("lines.txt").write_text("\n".join(LINES) + "\n")
    pathlib.Path("lines.csv").write_text("text\n" + "".join(f'"{line}"\n' for line in LINES))
    return tmp_path


def run(*arguments, status=0):
    assert cli.main(["data", *map(str, arguments)]) == status


@pytest.fixture
def vowels():
    """The utterances of the training set, as JSON lines."""
    (train, labels), _ = japanese_vowels.load()
    with open("vowels.jsonl", "w") as file:
        for number in range(len(train)):
            row = {"frames": train[number].tolist(), "speaker": int(labels[number])}
            file.write(json.dumps(row) + "\n")
    return train, labels


def test_vowels_built_split_and_read_back(vowels, capsys):
    options = ["--record", "corpus_records:Vowel", "--source", "vowels.jsonl"]
    run("build", "out", *options, "--split", "train=.7", "test=.3", "--seed", 3, "--shard-rows", 50, "--json")
    report = json.loads(capsys.readouterr().out)
    assert {name: part["records"] for name, part in report["splits"].items()} == {"train": 189, "test": 81}
    train, labels = vowels
    lines = np.loadtxt("out/test.csv", str, skiprows=1, delimiter=",")
    store = kd.open("out/test")
    for number, row in enumerate(lines[:, 0].astype(int)):
        assert np.array_equal(store[number]["frames"], train[row])
        assert store[number]["speaker"] == labels[row]
    run("verify", "out/train", "--json")
    assert json.loads(capsys.readouterr().out)["ok"]

    run("info", "out/train")
    shown = capsys.readouterr().out
    for text in ("189 records", "in 4 shards", "frames: Field('float32', (None, 12))  (main sequence)", "█", "mean"):
        assert text in shown
    run("info", "out/train", "--json")
    found = json.loads(capsys.readouterr().out)
    lengths = kd.open("out/train").lengths
    assert (found["records"], found["shards"], found["complete"]) == (189, 4, True)
    assert found["lengths"]["steps"] == lengths.sum()
    bins = found["lengths"]["histogram"]
    assert [bin["records"] for bin in bins] == [
        int(((lengths >= bin["from"]) & (lengths <= bin["to"])).sum()) for bin in bins
    ]
    assert sum(bin["records"] for bin in bins) == 189
    sizes = [p.stat().st_size for p in pathlib.Path("out/train").iterdir() if p.name != "manifest.json"]
    assert found["bytes"] == sum(sizes)


def test_letters_built_in_folds_and_read_back(capsys):
    options = ["--record", "corpus_records:Line", "--source", "lines.csv", "--fold", 3, "--arg", "shift=1"]
    run("build", "out", *options)
    shown = capsys.readouterr().out
    assert "out: 16 records" in shown
    assert "skipped" in shown
    letters = []
    for number in range(3):
        _, test = kd.open_fold("out", number)
        letters += ["".join(chr(code - 1) for code in record["letters"]) for record in test]
    assert sorted(letters) == sorted(line for line in LINES if line)


def test_a_build_in_another_s_place_and_what_reads_back(capsys):
    options = ["--record", "corpus_records:Line", "--source", "lines.csv", "--split", "all=1"]
    run("build", "out", *options, "--shard-bytes", 500, "--cast")
    run("build", "out", *options, status=1)
    assert "already" in capsys.readouterr().err
    run("build", "out", *options, "--overwrite")
    run("build", "other", *options, "--no-header", "--on-error", "skip")
    capsys.readouterr()
    run("verify", "out/all", "--deep", "--against", "out/all")
    run("verify", "out/all", "--against", "other/all", status=1)
    assert "were to be written" in capsys.readouterr().out
    (pathlib.Path("out") / "mine.txt").write_text("")
    run("build", "out", *options, "--overwrite", status=1)
    assert "mine.txt: only a build is overwritten" in capsys.readouterr().err


def test_given_splits_and_tfrecords(capsys):
    options = ["--record", "corpus_records:Line", "--source", "a=lines.csv", "--source", "b=lines.csv"]
    run("build", "out", *options, "--format", "tfrecord", "--metadata", "language=en")
    assert "b: 16 records of 20 rows in 1 shards, 4 skipped" in capsys.readouterr().out
    run("convert", "out/b/shard-00000.tfrecord", "store")
    assert kd.open("store").metadata == {"language": "en"}
    assert len(kd.open("store")) == 16


def test_an_interrupted_build_says_what_is_there(capsys, monkeypatch):
    options = ["--record", "corpus_records:Line", "--source", "lines.csv"]
    run("build", "before", *options)

    def interrupted(task, advance):
        raise KeyboardInterrupt

    monkeypatch.setattr("kseq.data.builds.run.build_shard", interrupted)
    capsys.readouterr()
    run("build", "out", *options, status=130)
    assert capsys.readouterr().err == "kseq data build: interrupted; out: nothing is written there\n"
    assert os.listdir(".").count("out") == 0
    run("build", "before", *options, "--overwrite", status=130)
    assert "before: what was there is as it was" in capsys.readouterr().err
    assert len(kd.open("before/train")) == 12


def test_a_failing_row(capsys):
    with open("lines.csv", "a") as file:
        file.write("fail\n")
    options = ["--record", "corpus_records:Line", "--source", "lines.csv"]
    run("build", "out", *options, status=1)
    error = capsys.readouterr().err
    assert error == "kseq data build: lines.csv, line 22, row 20: RuntimeError: two lines\n"
    assert not os.path.exists("out")
    run("build", "out", *options, "--on-error", "skip")
    assert "1 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--record", "corpus_records"], "MODULE:CLASS"),
        (["--record", "corpus_records:None_"], "None_"),
        (["--record", "corpus_recordz:Line"], "corpus_recordz"),
        (["--record", "json:dumps"], r"must be decorated"),
        (["--source", "none.csv"], "several sources"),
        (["--split", "train=.5"], "sum to 1"),
        (["--arg", "speed=1"], "speed"),
        (["--by", "speaker"], "'speaker'"),
    ],
)
def test_builds_that_are_refused(change, words, capsys):
    run("build", "out", "--record", "corpus_records:Line", "--source", "lines.csv", *change, status=1)
    error = capsys.readouterr().err
    assert error.startswith("kseq data build: ")
    assert words in error
    assert error.count("\n") == 1


def test_convert_there_and_back(vowels, capsys):
    schema = kd.Schema({"frames": ("float32", (None, 12)), "speaker": "int64"})
    pathlib.Path("schema.json").write_text(json.dumps(schema.to_json()))
    run("convert", "vowels.jsonl", "store", "--schema", "schema.json", "--to-option", "shard_rows=100")
    assert capsys.readouterr().out == "store: 270 records\n"
    kd.set_metadata("store", {"source": "uci"}, splits={"few": [[0, 3], [5, 6]]})
    store = kd.open("store")
    assert store.schema == schema
    run("convert", "store", "copy")
    assert {name: len(part) for name, part in kd.open("copy").splits.items()} == {"few": 4}
    chain = ["store", "a.parquet", "b.tfrecord", "c.npz", "d"]
    for source, target in itertools.pairwise(chain):
        run("convert", source, target, "--json")
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["records"] == 270
    again = kd.open("d")
    assert again.schema == schema
    assert again.metadata == {"source": "uci"}
    assert all(np.array_equal(again[i]["frames"], store[i]["frames"]) for i in range(270))
    run("convert", "store", "e.jsonl", status=1)
    assert "leave it out" in capsys.readouterr().err
    run("convert", "store", "e.jsonl", "--no-metadata")
    assert json.loads(pathlib.Path("e.jsonl").read_text().splitlines()[3])["speaker"] == store[3]["speaker"]


def test_text_by_a_vocabulary(capsys):
    Vocabulary.from_text(LINES, level="char").save("letters.json")
    run("convert", "lines.txt", "words.jsonl")
    run("convert", "lines.txt", "letters", "--option", "vocabulary=letters.json", "level=char", "add_eos=true")
    store, vocabulary = kd.open("letters"), Vocabulary.load("letters.json")
    assert ["".join(vocabulary.decode(record["tokens"])) for record in store] == LINES
    capsys.readouterr()
    run("head", "letters", "-n", 2)
    assert capsys.readouterr().out.splitlines()[:2] == ["record 0", f"  tokens: int32 [19] {_numbers(store[0])}"]
    run("head", "letters", "--json")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["tokens"] for row in rows] == [store[i]["tokens"].tolist() for i in range(5)]


def _numbers(record):
    first, last = record["tokens"][:3].tolist(), record["tokens"][-3:].tolist()
    return f"[{', '.join(map(str, first))}, ..., {', '.join(map(str, last))}]"


def test_head_of_every_kind(capsys):
    with kd.Writer("store", {"t": "string", "b": "bytes", "x": kd.Field("bfloat16", (2,), optional=True)}) as writer:
        writer.write({"t": "long " * 100, "b": b"\0\1"})
        writer.write({"t": "a\nb", "b": b"", "x": [1.0, 1.0]})
    run("head", "store", "-n", 9)
    shown = capsys.readouterr().out
    for text in ("... (500 in all)", r"b'\x00\x01'", "x: None", r"'a\nb'", "bfloat16 [2] [1, 1]"):
        assert text in shown
    run("head", "store", "--json")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == {"t": "long " * 100, "b": "AAE=", "x": None}
    assert rows[1]["x"] == [1.0, 1.0]
    run("info", "store")
    assert "lengths" not in capsys.readouterr().out


def test_verify_and_repair(vowels, capsys):
    run("convert", "vowels.jsonl", "store")
    shard = pathlib.Path("store/shard-00000.arrow")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    capsys.readouterr()
    run("verify", "store", status=1)
    assert "shard-00000.arrow" in capsys.readouterr().out
    run("verify", "store", "--json", status=1)
    assert not json.loads(capsys.readouterr().out)["ok"]

    run("convert", "vowels.jsonl", "killed")
    os.remove("killed/manifest.json")
    for command in ("info", "head", "verify"):
        capsys.readouterr()
        run(command, "killed", status=1)
        captured = capsys.readouterr()
        assert "manifest.json" in captured.err + captured.out
    run("repair", "killed")
    assert "270 records" in capsys.readouterr().out
    run("repair", "killed", "--discard", "--json")
    assert json.loads(capsys.readouterr().out)["records"] == 270
    assert len(kd.open("killed")) == 270


def test_compact(capsys):
    with kd.Writer("store", {"n": "int64"}) as out:
        for n in range(5):
            out.write({"n": n})
            out.commit()
    size = os.path.getsize("store/shard-00000.arrow")
    run("compact", "store", "--shard-bytes", 3 * size)
    assert capsys.readouterr().out == "store: 5 shards, 2 now\n"
    run("compact", "store", "--json")
    assert json.loads(capsys.readouterr().out) == {"path": "store", "shards_before": 2, "shards": 1}
    run("compact", "store")
    assert capsys.readouterr().out == "store: 1 shards, 1 now\n"
    assert kd.open("store").column("n").tolist() == list(range(5))
    run("compact", "none", status=1)
    assert "none" in capsys.readouterr().err
    with kd.Writer("store", append=True):
        run("compact", "store", status=1)
    assert "another writer has the store open" in capsys.readouterr().err


def test_a_store_is_converted_to_a_store(vowels, capsys):
    run("convert", "vowels.jsonl", "store")
    kd.set_metadata("store", {"about": "vowels"}, {"few": [[0, 7]]})
    run("convert", "store", "copy", "--to-option", "shard_rows=100")
    found, wanted = kd.open("copy"), kd.open("store")
    assert [len(part) for part in found.splits.values()] == [7] and found.metadata == wanted.metadata
    assert len(list(pathlib.Path("copy").glob("*.arrow"))) == 3 and found.schema == wanted.schema
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(found, wanted, strict=True) for name in a)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["convert", "none.csv", "store"], "none.csv"),
        (["convert", "lines.txt", "store", "--from", "hdf"], "a format must be one of ['store', "),
        (["convert", "lines.txt", "b.txt"], "does not write"),
        (["convert", "lines.txt", "b.xyz"], "b.xyz"),
        (["convert", "lines.txt", "store", "--option", "speed=1"], "known are vocabulary, level"),
        (["convert", "lines.txt", "store", "--option", "level=page"], "page"),
        (["convert", "lines.txt", "store", "--to-option", "rows=1"], "known are main, shard_rows"),
        (["convert", "lines.txt", "store", "--to-option", "shard_rows=0"], "shard_rows"),
        (["convert", "empty.jsonl", "store"], "--schema"),
        (["convert", "there", "new", "--option", "a=1"], "neither --option"),
        (["convert", "lines.txt", "there"], "already"),
        (["convert", "lines.csv", "new", "--schema", "lines.txt"], "lines.txt"),
        (["info", "none"], "none"),
        (["head", "lines.txt"], "lines.txt"),
    ],
)
def test_what_is_refused(arguments, words, capsys):
    pathlib.Path("empty.jsonl").write_text("")
    run("convert", "lines.txt", "there")
    capsys.readouterr()
    run(*arguments, status=1)
    error = capsys.readouterr().err
    assert error.startswith(f"kseq data {arguments[0]}: ")
    assert words in error
    assert not os.path.exists("new")
    assert not os.path.exists("store")


def test_help(capsys):
    run(status=2)
    assert "convert" in capsys.readouterr().out
    for arguments in (["data"], ["data", "build"]):
        with pytest.raises(SystemExit) as exit_:
            cli.main([*arguments, "--help"])
        assert exit_.value.code == 0
    with pytest.raises(SystemExit):
        run("build", "out", "--record", "a:b", "--source", "x", "--split", "train")
    assert "NAME=SHARE" in capsys.readouterr().err


def test_bars():
    assert [bar(share, 2) for share in (0, 1 / 16, 0.5, 0.75, 1)] == ["", "▏", "█", "█▌", "██"]


def test_other_errors_are_not_hidden(monkeypatch):
    def fail(path):
        raise ZeroDivisionError

    monkeypatch.setattr(kd, "open", fail)
    with pytest.raises(ZeroDivisionError):
        run("head", "x")


def test_no_call_of_the_garbage_collector_loses_an_interruption():
    calls = []

    def note(*what):
        calls.append(what)

    gc.callbacks.append(note)
    try:
        with data._no_calls_of_the_collector():
            gc.collect()
        assert not calls and gc.callbacks[-1] is note
    finally:
        gc.callbacks.remove(note)
