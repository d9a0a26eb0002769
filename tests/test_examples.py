"""The examples run, at small size."""

import importlib.util
import pathlib

import pytest

import kseq

EXAMPLES = pathlib.Path(kseq.__file__).parent.parent / "examples"


def example(name):
    """The module of an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("recorded", [True, False])
def test_log_mel(recorded, tmp_path, capsys, monkeypatch):
    log_mel = example("log_mel")
    if not recorded:  # else that of alsa-utils, where it is installed
        monkeypatch.setattr(log_mel, "RECORDING", tmp_path / "nothing.wav")
    picture = tmp_path / "log_mel.png"
    difference = log_mel.main(["--seconds", "0.15", "--mels", "20", *(["--picture", str(picture)] if recorded else [])])
    printed = capsys.readouterr().out
    assert "0.15 s at 48000 Hz: 13 frames of 20 mel bands" in printed
    assert difference < 1e-3
    assert recorded == picture.exists()
    assert recorded or "made up" in printed
