"""`kseq bench`: what it measures is of the model that was given."""

import json

import keras
import numpy as np
import pytest

import kseq
from kseq import cli
from kseq.cli import bench
from kseq.cli.models import ModelError


def frames_model():
    x = keras.Input((None, 3))
    return keras.Model(x, kseq.GRU(2)(kseq.Conv1D(2, 4, strides=2, padding="causal_valid")(x)))


def looks_ahead():
    values, mask = keras.Input((None, 3)), keras.Input((None,), dtype="bool")
    y = kseq.Conv1D(2, 3, padding="reverse_causal")(kseq.Sequence(values, mask))
    return keras.Model([values, mask], y.values)


def of_integers():
    return keras.Sequential([keras.Input((None,), dtype="int32"), kseq.Embedding(2, 3), kseq.LSTM(2)])


@pytest.mark.parametrize("make", [looks_ahead, of_integers])
def test_the_modes_agree(make):
    results = bench.measure(make(), batch=2, steps=3)
    assert 0 <= results["max_abs_diff"] < 1e-5


def test_as_json(tmp_path, capsys):
    model = frames_model()
    model.save(tmp_path / "m.keras")
    arguments = ["--batch", "3", "--block", "4", "--steps", "5", "--step-ms", "2.5", "--json"]
    assert cli.main(["bench", str(tmp_path / "m.keras"), *arguments]) == 0
    results = json.loads(capsys.readouterr().out)
    row = kseq.show.summary_rows(model)[-1]
    expected = {
        "model": str(tmp_path / "m.keras"),
        "backend": keras.backend.backend(),
        "batch": 3,
        "block": 4,
        "steps": 5,
        "step_ms": 2.5,
        "latency": {"input_latency": row["input_latency"], "output_latency": row["output_latency"]},
        "state_bytes": row["state_bytes"],
        "parameters": model.count_params(),
    }
    assert {name: results[name] for name in expected} == expected
    assert 0 < results["step_us_p10"] <= results["step_us"] <= results["step_us_p90"]
    assert results["frame_us"] == pytest.approx(results["step_us"] / 4)
    assert results["real_time_factor"] == pytest.approx(results["step_us"] / 10_000)
    assert results["compile_seconds"] > 0
    assert 0 <= results["max_abs_diff"] < 1e-5


def test_a_spec_with_variables_as_a_table(tmp_path, capsys):
    path = tmp_path / "m.yaml"
    path.write_text(
        "kseq: 1\nvars: {d: 2, label: a, rate: 0}\ninput: {shape: [null, 3]}\n"
        "layers:\n  - Dropout: {rate: $rate}\n  - Dense: {units: $d, name: $label}\n"
    )
    assert cli.main(["bench", str(path), "--steps", "2", "--vars", "d=4", "label=x=y", "rate=1e-1"]) == 0
    shown = capsys.readouterr().out
    for text in ("give --step-ms", "2 steps of 1 frames, 1 streams", "16", "0 / 0 frames"):
        assert text in shown
    assert cli.main(["bench", str(path), "--vars", "bad=1"]) == 1
    assert "unknown variable `bad`" in capsys.readouterr().err


def test_errors(tmp_path, capsys):
    frames_model().save(tmp_path / "m.keras")
    keras.Sequential([keras.Input((None, 3)), kseq.Conv1D(2, 3, padding="same")]).save(tmp_path / "same.keras")
    for arguments, message in [
        (["none.keras"], "no such file"),
        (["same.keras"], "cannot stream"),
        (["m.keras", "--block", "3"], "a multiple of the block 2; received 3"),
        (["m.keras", "--vars", "d=4"], "variables are for specs"),
    ]:
        assert cli.main(["bench", str(tmp_path / arguments[0]), *arguments[1:]]) == 1
        shown = capsys.readouterr().err
        assert message in shown and shown.startswith("kseq bench: ") and shown.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--step-ms", "0"],
        ["--step-ms", "inf"],
        ["--steps", "0"],
        ["--vars", "d"],
        ["--vars", "d=["],
    ],
)
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["bench", "m.keras", *arguments])
    assert exit_.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_outputs_that_are_not_finite_have_no_difference():
    model = keras.Sequential([keras.Input((None, 2)), kseq.Dense(2)])
    model.set_weights([np.full((2, 2), np.inf), np.zeros(2)])
    with np.errstate(invalid="ignore"):
        assert bench.measure(model, steps=1)["max_abs_diff"] is None


def test_a_model_that_cannot_stream():
    with pytest.raises(ModelError, match="GlobalAveragePooling1D"):
        bench.measure(keras.Sequential([keras.Input((None, 2)), keras.layers.GlobalAveragePooling1D()]))
