"""Losses, weights and metrics that do not fit the model's outputs are found when a spec is checked, not in training."""

import numpy as np
import pytest

import kseq

ONE = "kseq: 1\ninput: {shape: [null, 4]}\nlayers:\n  - Dense: {units: 2, id: a}\n"
TWO = ONE + "  - Dense: {units: 2, inputs: [input], id: b}\n"
MODELS = {
    "one": ONE,
    "one by name": ONE + "outputs: {z: a}\n",
    "a list": TWO + "outputs: [b, a]\n",
    "a dict": TWO + "outputs: {z: b, y: a}\n",
}


def problem(model, options):
    with pytest.raises(kseq.SpecError) as error:
        kseq.load_spec(f"{MODELS[model]}compile: {options}\n")
    (found,) = error.value.problems
    assert found.line == MODELS[model].count("\n") + 1
    return f"{found.path}: {found.message}"


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("one", "{loss: [mse, mae]}", "loss: must have one entry for each output, of which there is 1; received 2"),
        ("one by name", "{loss: [mse, mae]}", "loss: must have one entry for each output, of which there is 1"),
        ("one", "{loss: mse, loss_weights: [1, 2]}", "loss_weights: must have one entry for each output"),
        ("a list", "{loss: [mse]}", "loss: must have one entry for each output, of which there are 2; received 1"),
        ("a list", "{loss: [mse, mse, mae]}", "loss: must have one entry for each output"),
        ("a list", "{loss: mse, metrics: [mae]}", "metrics: must have one entry for each output"),
        ("a list", "{loss: mse, weighted_metrics: [[mae, mse]]}", "weighted_metrics: must have one entry for each"),
        ("a list", "{loss: mse, loss_weights: [1]}", "loss_weights: must have one entry for each output"),
        ("a dict", "{loss: [mse, mae]}", "loss: must be a mapping by names of outputs, `z`, `y`; received a list"),
        ("a dict", "{loss: mse, metrics: [mae, mse]}", "metrics: must be a mapping by names of outputs"),
        ("a dict", "{loss: {y: mse}, loss_weights: {y: 1, z: 2}}", "loss_weights: the output `z` has no loss"),
        ("a dict", "{loss: {y: mse, b: mae}}", "loss: unknown output `b`; the outputs are `z`, `y`"),
    ],
)
def test_what_does_not_fit(model, options, message):
    assert problem(model, options).startswith(f"compile.{message}")


@pytest.mark.parametrize("loss", ["{a: mse}", "{a: mse, b: mae}"])
def test_outputs_without_names(loss):
    with pytest.raises(kseq.SpecError, match="unknown output `a`; no output has a name") as error:
        kseq.load_spec(f"{ONE.replace(', id: a', '')}compile: {{loss: {loss}}}\n")
    assert error.value.problems[0].hint == "give the output's layer an `id` or a `name`"


def test_metrics_for_all_outputs_are_spelled_out():
    with pytest.raises(kseq.SpecError) as error:
        kseq.load_spec(MODELS["a list"] + "compile: {loss: mse, metrics: [mae, mse, mape]}\n")
    assert error.value.problems[0].hint.endswith("[[mae, mse, mape], [mae, mse, mape]]")


@pytest.mark.parametrize(
    ("model", "options", "loss"),
    [
        ("one", "{loss: [mse]}", 4),
        ("one", "{loss: mse, loss_weights: [3]}", 12),
        ("one", "{loss: {a: mae}, loss_weights: {a: 3}, metrics: [mae, mse]}", 6),
        ("one by name", "{loss: [mse], loss_weights: {z: 3}}", 12),
        ("one by name", "{loss: {z: mae}, loss_weights: [3]}", 6),
        ("a list", "{loss: [mae, mse]}", 3 + 4),
        ("a list", "{loss: [mae, null]}", 3),
        ("a list", "{loss: {b: mae}, loss_weights: {b: 3}}", 9),
        ("a list", "{loss: mse, loss_weights: [1, 10]}", 9 + 40),
        ("a list", "{loss: mse, loss_weights: {a: 10}, metrics: {b: mae}}", 9 + 40),
        ("a list", "{loss: {b: mae, a: mse}, loss_weights: {a: 10}, metrics: [[mae], null]}", 3 + 40),
        ("a dict", "{loss: mse, loss_weights: {y: 10}}", 9 + 40),
        ("a dict", "{loss: {z: mae, y: mse}, loss_weights: {z: 10}}", 30 + 4),
        ("a dict", "{loss: {z: mae}, metrics: {y: [mae, mse]}}", 3),
    ],
)
def test_what_fits_means_what_it_says(model, options, loss):
    keras_model = kseq.load_spec(f"{MODELS[model]}compile: {options}\n")
    for weight in keras_model.weights:
        weight.assign(np.zeros(weight.shape))
    a, b = np.full((1, 3, 2), 2.0), np.full((1, 3, 2), 3.0)
    targets = {"one": a, "one by name": {"z": a}, "a list": [b, a], "a dict": {"z": b, "y": a}}[model]
    found = keras_model.evaluate(np.zeros((1, 3, 4)), targets, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(loss)
    assert kseq.load_spec(kseq.dump_spec(keras_model)).get_compile_config() == keras_model.get_compile_config()
