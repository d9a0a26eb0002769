"""`kseq train`, `show` and `autoencode` of a sequence autoencoder."""

import json
import re

import kseq  # isort: skip - before Keras: it chooses a backend where there is no choice
import keras
import numpy as np
import pytest

import kseq.data as kd
from kseq.cli import main
from kseq.cli.autoencode import write_arrays

TODAYS = {"jax": 0.15, "tensorflow": 0.15}
SPEC = """
kseq: 1
input: {shape: [null, 2]}
layers:
  - models.SequenceAutoencoder: {input_dim: 2, layer_sizes: [4], latent_dim: 3}
compile: {optimizer: {Adam: {learning_rate: 0.01}}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.yaml").write_text(SPEC)
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(n, 2)).astype("float32") for n in (4, 6, 5)]
    with kd.Writer(tmp_path / "store") as writer:
        for row in rows:
            writer.write({"frames": row, "label": 1})
    np.savez(tmp_path / "rows.npz", **{f"row_{i}": row for i, row in enumerate(rows)})
    ragged = kseq.Ragged(np.concatenate(rows), [0, 4, 10, 15])
    np.savez(tmp_path / "ragged.npz", values=ragged.values, offsets=ragged.offsets)
    np.save(tmp_path / "same.npy", np.zeros((2, 5, 2)))
    return tmp_path


@pytest.fixture
def trained(folder):
    ae = kseq.models.SequenceAutoencoder(2, layer_sizes=[4], latent_dim=3, encoder="cosine", decoder="cosine")
    ae.adapt(list(np.load(folder / "rows.npz").values()))
    ae.save(folder / "ae.keras")
    return ae


def printed(capsys):
    return json.loads(capsys.readouterr().out)


def test_train_from_a_store_and_show(folder, capsys):
    arguments = ["train", "model.yaml", "--data", "store", "--validation", "store", "--targets", "frames"]
    assert main([*arguments, "--out", "ae.keras", "--epochs", "2", "--json"]) == 0
    found = printed(capsys)
    assert found["records"] == 3 and len(found["history"]["val_nmse"]) == 2
    assert keras.models.load_model("ae.keras").adapted
    assert main(["show", "ae.keras", "--json"]) == 0
    shown = printed(capsys)
    assert {"Scaling", "GRU", "Dense", "WithCount"} <= {row["type"] for row in shown["encoder"]}
    assert shown["type"] == "SequenceAutoencoder" and shown["decoder"][-1]["parameters"] > 0
    assert main(["show", "ae.keras"]) == 0
    assert "parameters in all" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--targets", "label"], "must be a sequence of the store"),
        (["--targets", "nothing"], r"received \['nothing'\]"),
        (["--targets", "frames", "frames"], "one field"),
        (["--targets", "frames", "--max-shapes", "2"], "--max-shapes is not for"),
    ],
)
def test_train_refuses(folder, more, message, capsys):
    assert main(["train", "model.yaml", "--data", "store", "--out", "ae.keras", *more]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error


def test_autoencode(trained, folder, capsys):
    assert (
        main(["autoencode", "ae.keras", "--input", "rows.npz", "--codes", "c.npy", "--output", "o.npz", "--json"]) == 0
    )
    found = printed(capsys)
    rows = list(np.load("rows.npz").values())
    assert found["sequences"] == 3 and found["code_size"] == 3 and found["steps"] == 15
    np.testing.assert_allclose(np.load("c.npy"), trained.encode(rows), atol=1e-6)
    made = np.load("o.npz")
    assert made.files == ["row_0", "row_1", "row_2"]
    for name, row in zip(made.files, trained.predict(rows), strict=True):
        np.testing.assert_allclose(made[name], row, atol=1e-5)
    for other in ("ragged.npz", "store"):
        assert main(["autoencode", "ae.keras", "--input", other, "--codes", "other.npy"]) == 0
        np.testing.assert_allclose(np.load("other.npy"), np.load("c.npy"), atol=1e-6)
    assert main(["autoencode", "ae.keras", "--input", "same.npy", "--output", "o.npz", "--max-length", "2"]) == 0
    assert np.load("o.npz")["arr_1"].shape == (2, 2)
    assert "outputs of 4 steps: o.npz" in capsys.readouterr().out


def test_autoencode_takes_any_names(trained, folder):
    rows = list(np.load("rows.npz").values())
    with open("odd.npz", "wb") as file:
        write_arrays(file, dict(zip(("file", "allow_pickle", "a/b"), rows, strict=True)))
    assert main(["autoencode", "ae.keras", "--input", "odd.npz", "--output", "o.npz"]) == 0
    made = np.load("o.npz")
    assert made.files == ["file", "allow_pickle", "a/b"] and made["a/b"].shape == rows[2].shape


def test_training_that_goes_wrong_says_so(folder, capsys):
    (folder / "wild.yaml").write_text(SPEC.replace("0.01", "1.0e+30"))
    arguments = ["train", "wild.yaml", "--data", "store", "--targets", "frames", "--epochs", "2"]
    assert main([*arguments, "--out", "ae.keras"]) == 0
    assert "loss not finite" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ae.keras", "--input", "rows.npz"], "nothing to write"),
        (["ae.keras", "--input", "rows.npz", "--codes", "c.txt"], "--codes must be a file of the kind .npy"),
        (["ae.keras", "--input", "none.npz", "--codes", "c.npy"], "no such file"),
        (["ae.keras", "--input", "model.yaml", "--codes", "c.npy"], "must be a .npz file"),
        (["ae.keras", "--input", "bad.npz", "--codes", "c.npy"], r"inputs\[1\] must hold finite numbers; received nan"),
        (["ae.keras", "--input", "broken.npz", "--codes", "c.npy"], "cannot be read"),
        (["ae.keras", "--input", "rows.npz", "--codes", "c.npy", "--max-length", "3"], "--max-length is of --output"),
        (["model.yaml", "--input", "rows.npz", "--codes", "c.npy"], "model.yaml: has not been fitted"),
        (["other.keras", "--input", "rows.npz", "--codes", "c.npy"], "must be a SequenceAutoencoder; received a Seq"),
    ],
)
def test_autoencode_refuses(trained, folder, arguments, message, capsys):
    np.savez("bad.npz", a=np.zeros((3, 2)), b=np.full((2, 2), np.nan))
    (folder / "broken.npz").write_text("nothing")
    keras.Sequential([keras.Input((None, 2)), kseq.GRU(2)]).save("other.keras")
    assert main(["autoencode", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("kseq autoencode: ") and re.search(message, error), error
