"""The examples run, at small size."""

import importlib.util
import json
import pathlib

import pytest

import kseq

EXAMPLES = pathlib.Path(kseq.__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def _beside_each_other(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)  # as where they run as scripts


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
        monkeypatch.setattr(log_mel.recordings, "FOLDER", tmp_path)
    picture = tmp_path / "log_mel.png"
    difference = log_mel.main(["--seconds", "0.15", "--mels", "20", *(["--picture", str(picture)] if recorded else [])])
    printed = capsys.readouterr().out
    assert "0.15 s at 48000 Hz: 13 frames of 20 mel bands" in printed
    assert difference < 1e-3
    assert recorded == picture.exists()
    assert recorded or "made up" in printed


def test_denoise_unet(tmp_path, capsys):
    picture = tmp_path / "denoise_unet.png"
    sizes = ["--seconds", "0.3", "--epochs", "2", "--steps", "4"]
    measured = example("denoise_unet").main([*sizes, "--json", "--picture", str(picture)])
    assert json.loads(capsys.readouterr().out) == measured
    assert measured["training_steps"] == 8 and measured["seconds"] == pytest.approx(0.3, abs=0.004)
    assert measured["latency_ms"] == 0 and measured["block_ms"] == 4
    assert measured["difference"] < 1e-5
    assert picture.exists()


def test_denoise_unet_that_looks_ahead_takes_noise_away(tmp_path, capsys, monkeypatch):
    denoise = example("denoise_unet")
    monkeypatch.setattr(denoise.recordings, "FOLDER", tmp_path)
    monkeypatch.setattr(denoise, "CROP", 2048)
    measured = denoise.main(["--seconds", "0.7", "--epochs", "1", "--steps", "120", "--padding", "reverse_causal"])
    printed = capsys.readouterr().out
    assert "signals were made up" in printed and "120 steps of training" in printed
    assert measured["latency_ms"] > 0 and measured["difference"] < 1e-5
    # Of a voice that it was not trained on. An untrained model gains nothing; these steps gain 7 to 8 dB at 0 dB.
    for level, least in {"0": 4, "5": 3, "10": 1}.items():
        ratio = measured["si_snr"][level]
        assert ratio["before"] == pytest.approx(int(level), abs=0.5)
        assert ratio["after"] > ratio["before"] + least


def test_autoencoder(tmp_path, capsys):
    measured = example("autoencoder").main(["--epochs", "1", "--folder", str(tmp_path), "--json"])
    assert json.loads(capsys.readouterr().out) == measured
    assert measured["nmse"] < 0.08 and measured["length_exact"] == 1 and measured["speaker_of_nearest_code"] > 0.94
    assert (tmp_path / "utterances.png").exists() and (tmp_path / "codes.png").exists()


def test_anomalies(tmp_path, capsys, monkeypatch):
    anomalies = example("anomalies")
    monkeypatch.setattr(anomalies, "shipped", lambda: None)  # else that of aeon, where it is installed
    picture = tmp_path / "anomalies.png"
    measured = anomalies.main(["--steps", "3000", "--picture", str(picture)])
    assert measured["area"] > 0.9 and picture.exists()
    assert "3000 values (made up), 100 of them odd" in capsys.readouterr().out


SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in ("character_mamba", "character_griffin")]


@pytest.mark.parametrize("spec", ["character_lstm", *SLOWER])
def test_characters_are_as_likely_whole_and_streamed(spec, capsys):
    sizes = ["--characters", "3000", "--epochs", "1", "--steps", "8"]
    measured = example("characters").main(["--spec", spec, *sizes, "--json"])
    assert json.loads(capsys.readouterr().out) == measured
    (found,) = measured
    assert found["bits_per_byte"] == pytest.approx(found["bits_per_byte_streamed"], abs=1e-4)
    assert found["bits_per_byte"] < 8 and found["written"]
