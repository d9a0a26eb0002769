"""The `kseq` command, as a user runs it: in a process of its own."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest

import kseq
from kseq import cli

KEYS = {"accuracy", "streamed_accuracy", "max_abs_diff", "step_us", "train_seconds", "backend"}


def run(*arguments):
    environment = os.environ | {"KERAS_BACKEND": keras.backend.backend()}
    command = [sys.executable, "-c", "import sys; from kseq.cli import main; sys.exit(main())", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)


def demo(*arguments):
    done = run("demo", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_demo_as_json(tmp_path):
    results = json.loads(demo("--json", "--epochs", "2", "--out", str(tmp_path / "new")))
    assert results.keys() >= KEYS
    assert results["backend"] == keras.backend.backend()
    assert results["accuracy"] == pytest.approx(results["streamed_accuracy"], abs=0.01)
    assert results["accuracy"] > 0.3
    assert 0 <= results["max_abs_diff"] < 1e-4
    assert results["latency_frames"] == 0
    assert results["real_time_factor"] == pytest.approx(results["step_us"] * 1e-6 / 6.4e-3)
    assert results["summary"][-1]["parameters"] == 12137
    model = keras.models.load_model(results["path"])
    assert pathlib.Path(results["path"]).parent == tmp_path / "new"
    assert kseq.Stream(model).timing.output_latency == 0


@pytest.mark.slow
def test_demo_as_text():
    shown = demo()
    accuracies = [float(line.split()[-1]) for line in shown.splitlines() if line.startswith("test accuracy")]
    assert len(accuracies) == 2
    assert min(accuracies) >= 0.96
    assert "Epoch 40/40" in shown
    for line in ("largest difference", "one step", "real-time factor", "latency", "kseq-demo-", "B, T, 9"):
        assert line in shown


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_demo_is_accurate_for_other_seeds(seed, tmp_path):
    results = json.loads(demo("--json", "--seed", str(seed), "--out", str(tmp_path)))
    assert min(results["accuracy"], results["streamed_accuracy"]) >= 0.96


def test_help_and_version(capsys):
    for arguments, wanted in [
        (["--help"], "demo"),
        (["demo", "--help"], "--epochs"),
        (["--version"], kseq.__version__),
    ]:
        with pytest.raises(SystemExit) as exit_:
            cli.main(arguments)
        assert exit_.value.code == 0
        assert wanted in capsys.readouterr().out
    assert cli.main([]) == 2


@pytest.mark.parametrize("arguments", [["demo", "--epochs", "0"], ["demo", "--epochs", "x"], ["dance"]])
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["demo", "--out", str(tmp_path / "file" / "folder")]) == 1
    assert "file" in capsys.readouterr().err


def test_what_is_not_there_is_said_with_what_is_near(tmp_path, capsys):
    (tmp_path / "corpus.csv").touch()
    for command, near in (
        (["check", "conformr"], "'conformer'"),
        (["data", "convert", str(tmp_path / "corpus.cvs"), "out"], f"'{tmp_path / 'corpus.csv'}'"),
    ):
        assert cli.main(command) == 1
        assert f"{command[-2 if 'data' in command else -1]}: no such file" in (said := capsys.readouterr().err)
        assert f"did you mean {near}?" in said


def test_who_reads_a_part_ends_it_quietly():
    command = f"{sys.executable} -m kseq schema | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == "{"
    assert not done.stderr
