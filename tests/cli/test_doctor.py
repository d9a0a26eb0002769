"""`kseq doctor` and `kseq convert`."""

import json
import warnings

import keras
import numpy as np
import pytest

from kseq.cli import main

TODAYS = {"jax": 0.2, "tensorflow": 0.2}


@pytest.fixture
def saved(tmp_path):
    layers = [keras.layers.Masking(), keras.layers.Conv1D(2, 3, padding="same", name="conv")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Keras's own, that the mask is lost
        model = keras.Sequential([keras.Input((None, 4)), *layers], name="net")
    model.compile("sgd", "mse")
    model.save(tmp_path / "net.keras")
    return model, str(tmp_path / "net.keras")


# Keras says again, as it loads the model, that the mask is lost.
@pytest.mark.filterwarnings("ignore:Layer 'conv':UserWarning")
def test_doctor_and_convert(saved, tmp_path, capsys):
    model, path = saved
    assert main(["doctor", path]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("net: 2 faults\n  conv (Conv1D): mask lost: ")
    assert "; use kseq.Conv1D\n" in shown
    assert main(["doctor", path, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [row["fault"] for row in found["faults"]] == ["mask lost", "leak"]

    out = str(tmp_path / "out.keras")
    assert main(["convert", path, out]) == 0
    shown = capsys.readouterr().out
    for line in ("conv (Conv1D): now kseq.Conv1D", "stays: ", "optimizer begins anew", f"{out}: written"):
        assert line in shown
    assert main(["convert", path, out]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["convert", path, out, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["replaced"][0]["twin"] == "kseq.Conv1D"
    assert main(["doctor", out]) == 0
    assert "no faults" in capsys.readouterr().out
    made = keras.models.load_model(out)
    assert made.compiled
    x = np.random.default_rng(0).normal(size=(1, 6, 4)).astype("float32")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(made(x)), keras.ops.convert_to_numpy(model(x)), atol=1e-6)


def test_what_is_refused(tmp_path, capsys):
    vectors = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    path = str(tmp_path / "vectors.keras")
    vectors.save(path)
    for command in (["doctor", path], ["convert", path, str(tmp_path / "out.keras")]):
        assert main(command) == 1
        assert "an input with a time axis" in capsys.readouterr().err
    assert main(["convert", path, str(tmp_path / "out.h5")]) == 1
    assert "a file of the kind .keras" in capsys.readouterr().err
    assert main(["doctor", str(tmp_path / "none.keras")]) == 1
    assert "no such file" in capsys.readouterr().err
