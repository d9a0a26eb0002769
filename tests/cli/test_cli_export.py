"""`kseq export`, and `kseq stream` of what it wrote."""

import io
import json
import os
import sys
import types
import wave

import keras
import numpy as np
import pytest
from exported_formats import HERE, file_of, needs

import kseq
from kseq import cli
from kseq.cli import export as export_command
from kseq.deploy.entry import FORMATS

TODAYS = {"jax": 0.5, "tensorflow": 0.5}
# Of this backend: a file where it writes one.
FORMAT = HERE[0]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a model of latency, one that does not stream, and an exported file of the first."""
    needs(FORMAT)
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("models")
    model = keras.Sequential([keras.Input((None, 1)), kseq.Conv1D(2, 3, padding="reverse_causal"), kseq.GRU(2)])
    model.save(folder / "m.keras")
    inputs = keras.Input((None, 1))
    both = keras.layers.Bidirectional(keras.layers.GRU(2, return_sequences=True))(inputs)
    keras.Model(inputs, both).save(folder / "both.keras")
    x = np.random.default_rng(0).normal(size=(700, 1)).astype("float32") / 8
    np.save(folder / "x.npy", x)
    np.savez(folder / "x.npz", x=x)
    path = file_of(folder, FORMAT)
    kseq.export(model, path, FORMAT, block=16)
    y = model.predict(x[None], verbose=0)[0]
    return types.SimpleNamespace(folder=folder, x=x, y=y, path=path.name, model=model)


@pytest.fixture
def run(saved, monkeypatch, capsys):
    """Runs the command in the folder of the models: exit status, output, errors."""
    monkeypatch.chdir(saved.folder)

    def command(*arguments):
        status = cli.main(list(map(str, arguments)))
        return status, *capsys.readouterr()

    return command


def test_export_by_the_ending_and_by_name(run, saved, tmp_path):
    for number, options in enumerate(([], ["--format", FORMAT])):
        out = tmp_path / f"{number}{FORMATS[FORMAT].suffix if not options else '.of-another-name'}"
        status, said, error = run("export", "m.keras", out, "--json", "--batch-size", "2", *options)
        assert (status, error) == (0, "")
        found = json.loads(said)
        assert found["format"] == FORMAT and found["output"] == str(out) and found["batch_size"] == 2
        assert found["error"] < 1e-4 and found["bytes"] > 100 and found["block"] == 1
        assert kseq.ExportedStream(out).batch_size == 2
    status, said, error = run("export", "m.keras", out, *options)
    assert (status, said) == (1, "") and "--overwrite" in error and error.count("\n") == 1
    status, said, _ = run("export", "m.keras", out, *options, "--overwrite", "--mode", "layer", "--length", "8")
    assert status == 0 and said.startswith(f"{out}: whole sequences in {FORMAT}, float32, ") and "block 8" in said
    assert kseq.open_whole(out)(saved.x[:8]).shape == (8, 2)


def export_errors(saved, tmp_path):
    """Arguments, and what the line on standard error says."""
    (tmp_path / "text.npy").write_text("text")
    (tmp_path / "nothing.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes((saved.folder / "x.npz").read_bytes()[:-30])
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    out = tmp_path / f"out{FORMATS[FORMAT].suffix}"
    yield ["none.keras", out], "none.keras: no such file"
    yield ["both.keras", out], "cannot stream"
    yield ["x.npy", out], "received .npy"
    yield ["tcn", out], "no trained weights"
    yield ["m.keras", tmp_path / "nowhere" / "out"], "there is no folder to write into"
    yield ["m.keras", out, "--length", "5"], "`length` is of whole sequences"
    yield ["m.keras", out, "--mode", "layer", "--block", "5"], "`block` is of a step"
    yield ["m.keras", out, "--precision", "int8_dynamic", "--format", "stablehlo"], "received 'int8_dynamic'"
    yield ["m.keras", out, "--context", f"c={tmp_path / 'none.npy'}"], "No such file"
    yield ["m.keras", out, "--context", "c=x.npz"], "must be one array"
    yield ["m.keras", out, "--context", "c=x.npy"], "c"
    for name in ("text.npy", "nothing.npz", "cut.npz", "objects.npy"):
        yield ["m.keras", out, "--calibration", tmp_path / name], "no arrays of NumPy"


def test_errors_of_export_are_one_line_and_leave_nothing(run, saved, tmp_path):
    for arguments, message in export_errors(saved, tmp_path):
        before = sorted(os.listdir(tmp_path))
        status, said, error = run("export", *arguments)
        assert (status, said) == (1, ""), error
        assert message in error and error.startswith("kseq export: ") and error.count("\n") == 1, error
        assert sorted(os.listdir(tmp_path)) == before
    for wrong in (["--format", "coreml"], ["--precision", "int4"], ["--block", "0"], ["--state", "here"]):
        with pytest.raises(SystemExit) as ended:
            run("export", "m.keras", "out", *wrong)
        assert ended.value.code == 2


def test_a_file_that_gives_something_else_is_named(run, tmp_path, monkeypatch):
    out = tmp_path / f"m{FORMATS[FORMAT].suffix}"
    for error, message in ((ValueError("shape (1,)"), "shape (1,)"), (np.inf, "not finite")):

        def wrong(manifest, runner, error=error):
            if isinstance(error, Exception):
                raise error
            return error

        monkeypatch.setattr("kseq.runtime.golden.golden_error", wrong)
        status, said, shown = run("export", "m.keras", out, "--overwrite")
        assert (status, said) == (1, "") and f"{out}: " in shown and message in shown

    def missing(path):
        raise ImportError("a runtime is not here")

    monkeypatch.setattr("kseq.runtime.runners.open_runner", missing)
    status, said, _ = run("export", "m.keras", out, "--overwrite")
    assert status == 0 and "not compared: a runtime is not here" in said


def test_calibration_is_read_as_chunks(saved):
    x = np.ones((4, 1))
    for found, wanted in ((x, [x]), ({"a": x, "b": x}, [x, x])):
        assert len(export_command._chunks(found, saved.model)) == len(wanted)
    two = types.SimpleNamespace(inputs=[1, 2])
    assert export_command._chunks({"a": x, "b": x}, two) == [{"a": x, "b": x}]


def to_wav(path, x):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16000)
        file.writeframes((x * 32767).astype("<i2").tobytes())


@pytest.mark.parametrize("block", [None, 160])
def test_stream_of_a_file(run, saved, tmp_path, block):
    to_wav(tmp_path / "x.wav", saved.x)
    out = tmp_path / "y.npy"
    for name, tolerance in (("x.npy", 1e-5), (tmp_path / "x.wav", 1e-3)):
        options = [] if block is None else ["--block", block]
        status, said, error = run("stream", saved.path, "--input", name, "--output", out, "--json", *options)
        assert (status, error) == (0, "")
        found = json.loads(said)
        assert found["frames"] == found["outputs"] == 700 and found["format"] == FORMAT
        assert found["block"] == (block or 16) and found["latency"]["output_latency"] == 2
        np.testing.assert_allclose(np.load(out), saved.y, atol=tolerance)


def test_stream_of_a_pipe_to_a_pipe(saved, monkeypatch, capfdbinary):
    monkeypatch.chdir(saved.folder)
    for data, kind in ((saved.x.tobytes(), "raw"), ((saved.folder / "x.npy").read_bytes(), "auto")):
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
        arguments = ["stream", saved.path, "--input", "-", "--output", "-", "--format", kind]
        assert cli.main(arguments) == 0
        found = np.frombuffer(capfdbinary.readouterr().out, "<f4").reshape(-1, 2)
        np.testing.assert_allclose(found, saved.y, atol=1e-5)


def stream_errors(saved, tmp_path):
    """The file, options, and what the line on standard error says."""
    (tmp_path / "cut.onnx").write_bytes((saved.folder / saved.path).read_bytes()[:200])
    (tmp_path / "text.tflite").write_text("text")
    (tmp_path / "empty.stablehlo").write_bytes(b"")
    np.save(tmp_path / "wide.npy", np.ones((5, 4), "float32"))
    two = file_of(tmp_path, FORMAT, "two")
    kseq.export(saved.model, two, FORMAT, batch_size=2)
    whole = file_of(tmp_path, FORMAT, "whole")
    kseq.export(saved.model, whole, FORMAT, mode="layer", length=8)
    unmasked = file_of(tmp_path, FORMAT, "unmasked")
    kseq.export(saved.model, unmasked, FORMAT, masks=False)
    limited = kseq.SelfAttention(1, 2, max_length=20)
    limited.build((None, None, 1))
    kseq.export(limited, file_of(tmp_path, FORMAT, "limited"), FORMAT)
    yield tmp_path / "none.onnx", [], "no such file"
    yield tmp_path / "cut.onnx", [], "cut.onnx"
    yield tmp_path / "text.tflite", [], "no file that `kseq.export` has written"
    yield tmp_path / "empty.stablehlo", [], "no file that `kseq.export` has written"
    yield two, [], "`--batch-size 1`"
    yield whole, [], "of whole sequences"
    yield unmasked, [], "`masks=True`"
    yield file_of(tmp_path, FORMAT, "limited"), [], "more steps after 20"
    yield saved.path, ["--block", "24"], "a multiple of the block"
    yield saved.path, ["--input", "x.npz"], "NPY or WAV"
    yield saved.path, ["--input", "none.npy"], "No such file"
    yield saved.path, ["--input", tmp_path / "wide.npy"], "[T, 1] or [1, T, 1]"
    yield saved.path, ["--output", "y.wav"], "must be a file .npy"


@pytest.mark.skipif(not FORMATS[FORMAT].suffix, reason="its files have no ending")
def test_errors_of_stream_are_one_line_and_leave_the_old_output(run, saved, tmp_path):
    out = tmp_path / "y.npy"
    out.write_text("old")
    for path, options, message in stream_errors(saved, tmp_path):
        status, said, error = run("stream", path, "--input", "x.npy", "--output", out, *options)
        assert (status, said) == (1, ""), error
        assert message in error and error.startswith("kseq stream: ") and error.count("\n") == 1, error
    assert out.read_text() == "old"
    for wrong in (["--block", "0"], ["--format", "npz"], ["--nothing"]):
        with pytest.raises(SystemExit) as ended:
            run("stream", saved.path, "--input", "x.npy", "--output", out, *wrong)
        assert ended.value.code == 2
