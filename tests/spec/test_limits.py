"""What a model allocates is counted before it is: weights, the state of streams, and that of metrics."""

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
        for example in cls.examples():
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


def test_the_limit_of_state_can_be_set():
    text = GOOD + "  - Delay: {length: 10}\n"  # ten steps of two channels, and which of them are valid
    assert "more than 29 numbers of state" in problems(text, state=29)[0].message
    assert kseq.load_spec(text, limits=Limits(state=30))


def test_metrics_are_counted_together_before_any_is_made(monkeypatch):
    monkeypatch.setattr(keras.metrics.Metric, "add_variable", None)
    metrics = ", ".join(f"{{MeanIoU: {{num_classes: 3000, name: m{i}}}}}" for i in range(14))
    found = problems(GOOD + f"compile:\n  loss: mse\n  metrics: [{metrics}]\n")
    assert {(p.line, p.path.rpartition(".")[0]) for p in found} == {(7, f"compile.metrics[{i}]") for i in (11, 12, 13)}
    assert all("more than 100000000 numbers of state" in problem.message for problem in found)


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
