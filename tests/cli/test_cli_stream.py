"""`kseq stream`: the numbers of the whole sequence, as they become ready, or one line that says why not."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import types
import wave

import keras
import numpy as np
import pytest

import kseq
from kseq import cli

SPEC = """kseq: 1
vars: {d: 2}
input: {shape: [null, 3]}
layers:
  - Dense: {units: $d}
  - GRU: {units: 3, name: memory}
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with saved models, an input [2, 7, 3] split into its rows, and the outputs of the first."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("models")
    model = keras.Sequential([keras.Input((None, 3)), kseq.Conv1D(2, 3, padding="reverse_causal"), kseq.GRU(2)])
    model.save(folder / "m.keras")
    keras.Sequential([keras.Input((None, 3)), kseq.Conv1D(2, 3, padding="same")]).save(folder / "same.keras")
    keras.Sequential([keras.Input((None,), dtype="int32"), kseq.Embedding(5, 2)]).save(folder / "ids.keras")
    x = np.random.default_rng(0).normal(size=(7, 3)).astype("float32")
    np.save(folder / "x.npy", x)
    return types.SimpleNamespace(folder=folder, x=x, y=model.predict(x[None], verbose=0)[0])


@pytest.fixture
def stream(saved, tmp_path, monkeypatch):
    """Runs the command in the folder of the models; `stdin` are bytes, or a file."""
    monkeypatch.chdir(saved.folder)

    def run(model="m.keras", *, input="x.npy", output=str(tmp_path / "y.npy"), options=(), stdin=b""):
        stdin = io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=stdin))
        return cli.main(["stream", model, "--input", input, "--output", output, *options])

    return run


@pytest.mark.parametrize("block", [1, 3])
def test_a_file_to_a_file(stream, saved, tmp_path, capsys, block):
    assert stream(options=["--block", str(block), "--json"]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), saved.y, atol=1e-5)
    shown = capsys.readouterr()
    results = json.loads(shown.out)
    assert results["step_us"] > 0 and results["seconds"] > 0
    assert {name: results[name] for name in ("frames", "outputs", "block", "latency", "backend", "output")} == {
        "frames": 7,
        "outputs": 7,
        "block": block,
        "latency": {"input_latency": 2, "output_latency": 2},
        "backend": keras.backend.backend(),
        "output": str(tmp_path / "y.npy"),
    }
    assert shown.err == ""


def test_a_pipe_to_a_pipe(stream, saved, capfdbinary):
    file = io.BytesIO()
    np.save(file, saved.x[None].astype("float64"))
    for stdin, options in [(file.getvalue(), []), (saved.x.astype("<f4").tobytes(), ["--json"])]:
        assert stream(input="-", output="-", stdin=stdin, options=options) == 0
        shown = capfdbinary.readouterr()
        np.testing.assert_allclose(np.frombuffer(shown.out, "<f4").reshape(7, 2), saved.y, atol=1e-5)
    assert json.loads(shown.err.splitlines()[-1])["output"] == "-"


def test_wav_and_an_empty_input(stream, saved, tmp_path):
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setparams((3, 2, 8000, 0, "NONE", ""))
        file.writeframes((saved.x * 8192).astype("<i2").tobytes())
    assert stream(input=str(tmp_path / "x.wav")) == 0
    assert np.load(tmp_path / "y.npy").shape == (7, 2)
    assert stream(input="-", options=["--json"]) == 0
    assert np.load(tmp_path / "y.npy").shape == (0, 2)


@pytest.mark.parametrize(
    ("dtype", "bytes_of"),
    [
        ("u8", lambda x: (x * 128 + 128).astype("u1").tobytes()),
        ("s16", lambda x: (x * 2**15).astype("<i2").tobytes()),
        ("s24", lambda x: (x * 2**31).astype("<i4").reshape(-1, 1).view("u1")[:, 1:].tobytes()),
        ("s32", lambda x: (x * 2**31).astype("<i4").tobytes()),
        ("f32", lambda x: x.astype("<f4").tobytes()),
        ("f64", lambda x: x.astype("<f8").tobytes()),
    ],
)
def test_raw_values_of_a_dtype(stream, saved, tmp_path, capsys, dtype, bytes_of):
    x = np.clip(np.round(saved.x * 32) / 128, -1, 127 / 128)  # what 8 bits hold
    np.save(tmp_path / "x.npy", x)
    assert stream(input=str(tmp_path / "x.npy")) == 0
    wanted = np.load(tmp_path / "y.npy")
    options = ["--dtype", dtype, "--rate", "100", "--json"]
    assert stream(input="-", stdin=bytes_of(x), options=options) == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, atol=1e-5)
    assert json.loads(capsys.readouterr().out)["real_time_factor"] > 0


def test_raw_integers_stay_what_they_are_for_a_model_of_integers(stream, saved, tmp_path):
    ids = np.array([0, 4, 2, 1])
    np.save(tmp_path / "ids.npy", ids)
    assert stream("ids.keras", input=str(tmp_path / "ids.npy")) == 0
    wanted = np.load(tmp_path / "y.npy")
    for dtype, kind in (("u8", "u1"), ("s16", "<i2"), ("s32", "<i4")):
        assert stream("ids.keras", input="-", stdin=ids.astype(kind).tobytes(), options=["--dtype", dtype]) == 0
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), wanted)
    s24 = ids.astype("<i4").reshape(-1, 1).view("u1")[:, :3].tobytes()
    assert stream("ids.keras", input="-", stdin=s24, options=["--dtype", "s24"]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), wanted)


def test_outputs_that_are_not_finite_are_said_once(stream, saved, tmp_path, capsys):
    x = saved.x.copy()
    x[3:] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert stream(input=str(tmp_path / "x.npy")) == 0
    assert capsys.readouterr().err.splitlines() == ["kseq stream: outputs are not finite, from output 1 on"]


def test_bytes_are_not_written_to_a_terminal(stream, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert stream(output="-") == 1
    assert "a terminal cannot show" in capsys.readouterr().err


def test_modules_are_imported_first(stream, saved, capsys, monkeypatch):
    (saved.folder / "registers_layers.py").write_text("print('imported')")
    assert stream(options=["--import", "registers_layers"]) == 0
    assert "imported" in capsys.readouterr().out
    monkeypatch.delitem(sys.modules, "registers_layers")
    with pytest.raises(SystemExit):
        stream(options=["--import", "no_such_module"])
    assert "no_such_module cannot be imported: ModuleNotFoundError" in capsys.readouterr().err


def test_the_file_that_is_read_may_be_written(stream, tmp_path, saved):
    np.save(tmp_path / "y.npy", saved.x)
    assert stream(input=str(tmp_path / "y.npy")) == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), saved.y, atol=1e-5)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_a_spec_with_weights(stream, saved, tmp_path, suffix):
    (saved.folder / "spec.yaml").write_text(SPEC)
    model = kseq.load_spec(SPEC, vars={"d": 4}, set={"memory.units": 2})
    weights = str(tmp_path / f"m{suffix}")
    (model.save_weights if suffix == ".weights.h5" else model.save)(weights)
    assert stream("spec.yaml", options=["--weights", weights, "--vars", "d=4", "--set", "memory.units=2"]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model.predict(saved.x[None], verbose=0)[0], atol=1e-5)


def errors(saved):
    """Arguments and what the line on standard error says."""
    (saved.folder / "spec.yaml").write_text(SPEC)
    (saved.folder / "text.keras").write_text("text")
    (saved.folder / "cut.keras").write_bytes((saved.folder / "m.keras").read_bytes()[:2000])
    (saved.folder / "m.yaml").write_text("kseq: 1")
    np.save(saved.folder / "wide.npy", np.ones((5, 4)))
    np.save(saved.folder / "complex.npy", np.ones((5, 3), complex))
    np.save(saved.folder / "floats.npy", np.ones(5))
    (saved.folder / "cut.npy").write_bytes((saved.folder / "x.npy").read_bytes()[:-4])
    yield {"model": "none.keras"}, "none.keras: no such file"
    yield {"input": "none.npy"}, "No such file or directory: 'none.npy'"
    yield {"output": "nowhere/y.npy"}, "No such file or directory"
    yield {"output": "y.wav"}, "must be a file .npy"
    yield {"model": "text.keras"}, "not a Keras file"
    yield {"model": "cut.keras"}, "cannot be loaded"
    yield {"model": "x.npy"}, "received .npy"
    yield {"model": "m.yaml"}, "no trained weights; give them by --weights"
    yield {"model": "tcn"}, "no trained weights; give them by --weights"
    yield {"options": ["--weights", "none.weights.h5"]}, "--weights is for specs"
    yield {"options": ["--vars", "d=2"]}, "variables are for specs"
    yield {"model": "tcn", "options": ["--weights", "none.weights.h5"]}, "No such file or directory"
    yield {"model": "tcn", "options": ["--weights", "x.npy"]}, "of the kind .weights.h5 or .keras"
    yield {"model": "spec.yaml", "options": ["--weights", "text.keras"]}, "text.keras: no weights of the model"
    yield {"model": "spec.yaml", "options": ["--weights", "ids.keras"]}, "ids.keras: no weights of the model"
    yield {"model": "same.keras"}, "cannot stream"
    yield {"input": "wide.npy"}, r"[T, 3] or [1, T, 3]; received (5, 4)"
    yield {"input": "complex.npy"}, "received complex128"
    yield {"model": "ids.keras", "input": "floats.npy"}, "takes int32"
    yield {"input": "cut.npy"}, "truncated"
    yield {"input": "-", "stdin": saved.x.tobytes()[:-1]}, "truncated"
    yield {"input": "m.yaml"}, "--format raw"


def test_errors_are_one_line_and_leave_the_old_output(stream, saved, tmp_path, capsys):
    (tmp_path / "y.npy").write_text("old")
    for arguments, message in errors(saved):
        assert stream(**arguments) == 1, message
        shown = capsys.readouterr()
        assert message in shown.err and shown.err.startswith("kseq stream: ") and shown.err.count("\n") == 1, shown.err
        assert shown.out == ""
    assert (tmp_path / "y.npy").read_text() == "old"
    assert os.listdir(tmp_path) == ["y.npy"]


@pytest.mark.parametrize("arguments", [["--block", "0"], ["--format", "mp3"]])
def test_wrong_arguments_are_refused(stream, arguments, capsys):
    with pytest.raises(SystemExit):
        stream(options=arguments)
    assert arguments[0] in capsys.readouterr().err


def test_an_interrupt(stream, tmp_path, capsys):
    def interrupt(size):
        raise KeyboardInterrupt

    assert stream(input="-", stdin=types.SimpleNamespace(read=interrupt)) == 130
    assert capsys.readouterr().err == ""
    assert os.listdir(tmp_path) == []


def test_a_closed_output(stream, monkeypatch, capsys):
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert stream(output="-") == 141
    assert capsys.readouterr().err == ""


def test_a_closed_input(stream, saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(saved.folder)
    monkeypatch.setattr(sys, "stdin", None)
    assert cli.main(["stream", "m.keras", "--input", "-", "--output", str(tmp_path / "y.npy")]) == 1
    assert "closed" in capsys.readouterr().err


def test_progress_on_a_terminal(stream, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    assert stream(model="ids.keras", input="-", stdin=np.ones(3, "<i4").tobytes()) == 0
    assert "3/?" in terminal.getvalue() and "us a step" in terminal.getvalue()


def test_a_slow_pipe_gives_outputs_before_it_ends(saved):
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from kseq.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "stream", "m.keras", "--input", "-", "--output", "-"]
    environment = os.environ | {"KERAS_BACKEND": keras.backend.backend()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=saved.folder, env=environment, **pipes) as process:
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        try:
            ready = []
            for frames in (saved.x[:3], saved.x[3:4], saved.x[4:6]):
                process.stdin.write(frames.tobytes())
                process.stdin.flush()
                # Two frames are looked ahead to.
                ready.append(process.stdout.read(8 * (len(frames) - (0 if ready else 2))))
            process.send_signal(signal.SIGINT)
            assert process.wait() == 130
            assert b"Traceback" not in process.stderr.read()
        finally:
            watchdog.cancel()
            process.kill()
    np.testing.assert_allclose(np.frombuffer(b"".join(ready), "<f4").reshape(4, 2), saved.y[:4], atol=1e-5)
