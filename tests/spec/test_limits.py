"""What a model allocates is counted before it is: weights, the state of streams, and that of metrics."""

import difflib
import os
import subprocess
import sys

import keras
import pytest

import kseq
from kseq.layers.leaves import leaves
from kseq.show import summary_rows
from kseq.spec import Limits
from kseq.spec.budget import Budget
from kseq.spec.plan import Plan

HUGE = 2**31 - 1
GOOD = "kseq: 1\ninput: {shape: [null, 4]}\nlayers:\n  - Dense: {units: 2}\n"


def problems(spec, **limits):
    with pytest.raises(kseq.SpecError) as error:
        kseq.load_spec(spec, limits=Limits(**limits))
    return error.value.problems


def as_pairs(items):
    return [(tuple(x.shape), keras.backend.standardize_dtype(x.dtype)) for x in items]


def test_state_specs_are_those_of_the_state():
    for cls in kseq.registered_layers().values():
        for example in cls.examples() if cls.__module__.startswith("kseq.") else ():
            layer, spec = cls(**example.config), kseq.SequenceSpec(example.input_shape[2:], example.dtype)
            if layer.supports_step and not layer.context_names:
                assert as_pairs(layer.state_specs(spec)) == as_pairs(leaves(layer.initial_state(1, spec)))


@pytest.mark.parametrize(
    "layer",
    [
        kseq.Delay(HUGE),
        kseq.MaxPooling1D(HUGE, strides=1),
        kseq.AveragePooling1D(HUGE, strides=1, padding="causal_valid"),
        kseq.LocalSelfAttention(4, 128, HUGE - 1, 7),
        kseq.Residual([kseq.Delay(HUGE, delay_layer_output=False)]),
    ],
    ids=lambda layer: layer.name,
)
def test_state_bytes_are_counted_and_not_made(layer):
    layer.build((None, None, 512))
    assert summary_rows(layer)[-1]["state_bytes"] > 2**41


@pytest.mark.parametrize(
    "layer",
    [
        "Delay: {length: 300000000}",
        "MaxPooling1D: {pool_size: 300000000, strides: 1}",
        "Serial: {layers: [{Residual: {layers: [{Delay: {length: 30000000, delay_layer_output: false}}]}}]}",
    ],
)
def test_the_state_of_a_stream_is_limited(layer):
    (problem,) = problems(GOOD + f"  - {layer}\n")
    assert "more than 100000000 numbers of state" in problem.message
    assert (problem.line, problem.path) == (5, f"layers[1].{layer.partition(':')[0]}")


@pytest.mark.parametrize(
    "layer",
    [
        "STFT: {frame_length: 2147483647, frame_step: 1}",
        "SincFilter1D: {kernel_size: 2147483647, cutoff: 0.2}",
        "Resample: {up: 2147483647, down: 2}",
        "Resample: {up: 3, down: 2, half_length: 2147483647}",
        "UpSampling1D: {size: 2147483647}",
        "UnsqueezeTime: {factor: 2147483647}",
        "Conv1DTranspose: {filters: 1, kernel_size: 3, strides: 300000000}",
        "GlobalReshape: {output_shape: [-1, 1], input_channels: 300000000}",
    ],
)
def test_tables_that_layers_make_are_limited(layer):
    (problem,) = problems(GOOD + f"  - {layer}\n")
    assert "numbers at most; received arguments that give it" in problem.message


def test_the_limit_of_state_can_be_set():
    text = GOOD + "  - Delay: {length: 10}\n"  # ten steps of two channels, and which of them are valid
    assert "more than 29 numbers of state" in problems(text, state=29)[0].message
    assert kseq.load_spec(text, limits=Limits(state=30))


def test_metrics_are_counted_together_before_any_is_made(monkeypatch):
    monkeypatch.setattr(keras.metrics.Metric, "add_variable", None)
    metrics = ", ".join(f"{{MeanIoU: {{num_classes: 3000, name: m{i}}}}}" for i in range(14))
    found = problems(GOOD + f"compile:\n  loss: mse\n  metrics: [{metrics}]\n")
    (problem,) = found
    assert (problem.line, problem.path) == (7, "compile.metrics[11].MeanIoU")
    assert "more than 100000000 numbers of state" in problem.message


def test_every_metric_can_be_counted():
    given = {"num_classes": 5, "target_class_ids": [0], "num_thresholds": 7}
    given |= dict.fromkeys(("recall", "precision", "sensitivity", "specificity"), 0.5)
    limits = Limits()
    for cls in kseq.spec.objects.role("metric").classes.values():
        type_ = kseq.spec.catalog.object_type(cls)
        arguments = {k: v for k, v in given.items() if k in type_.arguments and type_.arguments[k].required}
        if any(a.required and a.name not in arguments for a in type_.arguments.values()):
            continue
        budget = Budget(limits)
        budget.take_metric(Plan(cls, arguments, None, ""))
        numbers = sum(int(keras.ops.size(variable)) for variable in cls(**arguments).variables)
        assert limits.state - budget.left["state"] == numbers, cls


@pytest.mark.parametrize("in_blocks", [False, True])
def test_hints_are_bounded_in_total(monkeypatch, in_blocks):
    compared = []

    def get_close_matches(word, possibilities, **options):
        compared.extend(len(word) * len(other) for other in possibilities)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", get_close_matches)
    names = "".join(f"  x{i:0118}: 1\n" for i in range(500))
    used = ", ".join(f"$y{i:0117}" for i in range(99))
    layers = "".join("  - b: {}\n" for _ in range(100)) if in_blocks else f"  - Dense: {{units: [{used}]}}\n"
    text = f"kseq: 1\nvars:\n{names}blocks: {{b: [{{Dense: {{units: [{used}]}}}}]}}\ninput: {{shape: [null, 4]}}\n"
    assert len(problems(f"{text}layers:\n{layers}")) >= 99
    assert 1_000_000 < sum(compared) < 3_000_000


def test_some_hints_are_given_whatever_the_rest():
    known = [f"name_{i:0100}" for i in range(10_000)]
    assert kseq.spec.errors.did_you_mean(known[3][:-1] + "x", known)
    assert kseq.spec.errors.did_you_mean("Dens", ["Dense", *known]) == "did you mean `Dense`?"


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="other backends have threads, which a fork has not")
def test_changed_specs_take_bounded_time_and_memory(tmp_path):
    fuzz = os.path.join(os.path.dirname(__file__), "fuzz.py")
    done = subprocess.run([sys.executable, fuzz, "bounded", "200"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "0 wrong of 200\n"), done.stderr
