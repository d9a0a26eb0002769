"""`kseq train`: from a spec and a store to a model that streams, on Japanese Vowels and on characters."""

import itertools
import json
import os
import re
import signal

import keras
import numpy as np
import pytest

import kseq
from kseq.cli import fitting, main
from kseq.data import Vocabulary, Writer
from kseq.datasets import japanese_vowels

CHARACTERS = """
kseq: 1
input: {shape: [null], dtype: int32}
layers:
  - Embedding: {input_dim: 40, output_dim: 8}
  - GRU: {units: 16}
  - Dense: {units: 40}
compile:
  optimizer: {Adam: {learning_rate: 1e-2}}
  loss: {SparseCategoricalCrossentropy: {from_logits: true}}
"""


@pytest.fixture
def vowels(tmp_path):
    """Frames with their speaker at every frame."""
    parts = {"train": japanese_vowels.load()[0], "test": japanese_vowels.load()[1]}
    for name, (rows, labels) in parts.items():
        with Writer(tmp_path / name, {"frames": ("float32", (None, 12)), "speaker": ("int32", (None,))}) as writer:
            for row, label in zip(rows, labels, strict=True):
                writer.write({"frames": row, "speaker": np.full(len(row), label, np.int32)})
    return tmp_path


def run(capsys, *arguments):
    status = main(["train", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_shipped_spec_trains_on_japanese_vowels(vowels, capsys):
    status, out, _ = run(
        capsys, "japanese_vowels", "--data", vowels / "train", "--validation", vowels / "test", "--targets", "speaker",
        "--out", vowels / "out/model.keras", "--epochs", 2, "--max-shapes", 2, "--json",
    )  # fmt: skip
    assert status == 0
    results = json.loads(out)
    assert results["records"] == 270
    assert results["steps_per_epoch"] == 9
    assert results["shapes"] <= 2
    losses = results["history"]["loss"]
    assert losses[1] < losses[0]
    assert "val_loss" in results["history"]
    stream = kseq.Stream(keras.models.load_model(results["path"]))
    assert stream.push(np.zeros((4, 12), "float32")).shape[-1] == 9


def test_characters_train_and_go_on_from_a_backup(tmp_path, capsys):
    lines = ["the cat sat on the mat", "a cat and a mat", "the mat sat", "on and on the cat sat"] * 6
    vocabulary = Vocabulary.from_text(lines, level="char")
    with Writer(tmp_path / "text", {"tokens": ("int32", (None,))}) as writer:
        for line in lines:
            writer.write({"tokens": vocabulary.encode(list(line), add_bos=True, add_eos=True)})
    (tmp_path / "m.yaml").write_text(CHARACTERS)
    common = [tmp_path / "m.yaml", "--data", tmp_path / "text", "--targets", "tokens+1", "--out", tmp_path / "m.keras"]
    common += ["--batch-size", 8, "--max-shapes", 1, "--epochs", 3, "--backup", tmp_path / "backup"]
    status, out, _ = run(capsys, *common, "--backup-every", 2)
    assert status == 0
    assert "3 epochs of 3 steps" in out
    assert not (tmp_path / "backup").exists()  # it is for a run that ends early


WRONG = {
    "no such store": (["--data", "nowhere", "--targets", "x", "--out", "m.keras"], "there is no kseq store"),
    "no such field": (["--targets", "x", "--out", "m.keras"], "received ['x']"),
    "no such field, shifted": (["--targets", "x+1", "--out", "m.keras"], "received ['x']"),
    "no such shift": (["--targets", "frames+0", "--out", "m.keras"], "received ['frames+0']"),
    "too many inputs": (
        ["--inputs", "frames", "speaker", "frames", "--targets", "speaker", "--out", "m.keras"],
        "a model of 2 inputs",
    ),
    "not a model's file": (["--targets", "speaker", "--out", "m.h5"], "received m.h5"),
    "no backup": (["--targets", "speaker", "--out", "m.keras", "--backup-every", "3"], "needs --backup"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_told_in_one_line(vowels, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(vowels)
    status, out, err = run(capsys, "japanese_vowels", "--data", vowels / "train", *arguments)
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_spec_without_compile_is_refused(vowels, capsys):
    (vowels / "m.yaml").write_text(CHARACTERS[: CHARACTERS.index("compile")])
    status, _, err = run(
        capsys, vowels / "m.yaml", "--data", vowels / "train", "--targets", "speaker", "--out", vowels / "m.keras"
    )
    assert status == 1
    assert "give the spec a `compile`" in err


def test_an_interrupted_run_is_backed_up_and_goes_on(vowels, capsys, monkeypatch):
    """Ctrl-C in the middle of an epoch: what follows ends like a run that was not interrupted."""

    def weights(*options):
        path = vowels / "m.keras"
        command = ["japanese_vowels", "--data", vowels / "train", "--targets", "speaker", "--out", path]
        status, out, err = run(capsys, *command, "--epochs", 2, "--max-shapes", 1, *options)
        return status, err, keras.models.load_model(path).get_weights() if status == 0 else out

    _, _, wanted = weights("--backup", vowels / "other")
    begin = fitting.Interruption.on_train_batch_begin
    batches = itertools.count()

    def press(self, batch, logs=None):
        if next(batches) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return begin(self, batch, logs)

    monkeypatch.setattr(fitting.Interruption, "on_train_batch_begin", press)
    backup = "--backup", vowels / "backup"
    status, err, out = weights(*backup)
    assert status == 130
    assert f"goes on from the backup in {vowels / 'backup'}" in err
    assert "270 records in 9 batches an epoch" in out
    assert "\r" not in out  # no bar, where no terminal shows it
    status, _, found = weights(*backup)
    assert status == 0
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("input_dim: 40", "input_dim: 40"), "does not take the data|has shape"),
        (("shape: [null], dtype: int32", "shape: [null, 13]"), r"takes steps of shape \(13,\); received \(12,\)"),
        (("shape: [null], dtype: int32", "shape: [9, 12]"), r"takes 9 steps; received batches of \[\d+"),
    ],
)
def test_data_that_the_model_does_not_take_is_told_before_training(vowels, capsys, change, message):
    text = CHARACTERS.replace(*change)
    if "int32" not in text:
        text = text.replace("  - Embedding: {input_dim: 40, output_dim: 8}\n", "")
    (vowels / "m.yaml").write_text(text)
    command = [vowels / "m.yaml", "--data", vowels / "train", "--targets", "speaker", "--out", vowels / "m.keras"]
    status, out, err = run(capsys, *command)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert re.search(message, err)


def test_a_target_of_another_length_is_told_before_training(vowels, capsys):
    text = CHARACTERS.replace("shape: [null], dtype: int32", "shape: [null, 12]").replace(
        "  - Embedding: {input_dim: 40, output_dim: 8}", "  - Conv1D: {filters: 4, kernel_size: 2, strides: 2}"
    )
    (vowels / "m.yaml").write_text(text)
    command = [vowels / "m.yaml", "--data", vowels / "train", "--targets", "speaker", "--out", vowels / "m.keras"]
    status, _, err = run(capsys, *command)
    assert status == 1
    assert re.search(r"output 'dense' has \d+ steps", err)
