"""Layers against the numbers of google/sequence-layers, through the adapter: a test for each case of the corpus."""

import adapter
import pytest
import replay
from sampling import todays

CORPUS = replay.Corpus()
CASES = [pytest.param(case, id=case["id"]) for case in CORPUS.cases]


# jax and tensorflow compile every case anew.
@pytest.mark.parametrize("case", todays(CASES, of="conformance", jax=0.08, tensorflow=0.08))
def test_case(case):
    outcome = replay.replay(case, CORPUS, adapter.build)
    assert not outcome.failures
    assert not outcome.skipped  # kseq has every layer of the corpus


def test_a_case_that_differs_fails():
    case = next(case for case in CORPUS.cases if case["id"] == "pooling_0134")

    class Wrong(adapter.Implementation):
        def layer(self, *arguments):
            y, mask = super().layer(*arguments)
            return y + 1, mask

        def properties(self):
            return super().properties() | {"output_latency": 7}

        def step(self, values, mask, state, constants):
            y, mask, state = super().step(values, mask, state, constants)
            return y, ~mask, state

        def grads(self, *arguments):
            return 2 * super().grads(*arguments)[0], {}

    def build(*arguments):
        implementation = adapter.build(*arguments)
        implementation.__class__ = Wrong
        return implementation

    found = [failure.split(":")[0].split()[0] for failure in replay.replay(case, CORPUS, build).failures]
    assert list(dict.fromkeys(found)) == ["layer", "properties", "step", "gradients"]


def test_an_error_is_a_failure_and_a_missing_layer_is_skipped():
    case = CORPUS.cases[0]

    def broken(*arguments):
        raise TypeError("no")

    def missing(*arguments):
        raise NotImplementedError("no such layer")

    assert replay.replay(case, CORPUS, broken).word == "FAIL"
    assert replay.replay(case, CORPUS, missing).word == "skipped"


@pytest.mark.parametrize(
    ("layer", "option"),
    [
        ("Conv1D", {"kernel_constraint": {"weightnorm": "SpectralWeightNormalization"}}),
        ("DotProductSelfAttention", {"input_projection": {"projection": "ProjectionOfTomorrow"}}),
        ("DotProductSelfAttentionV2", {"position_name": "positions"}),
        ("Delay", {"an_option_of_tomorrow": 1}),
    ],
)
def test_an_option_that_kseq_lacks_is_not_ignored(layer, option):
    config = {
        "Conv1D": {"filters": 2, "kernel_size": 3},
        "DotProductSelfAttention": {"num_heads": 2, "units_per_head": 3, "max_past_horizon": 3},
        "DotProductSelfAttentionV2": {"num_heads": 2, "units_per_head": 3, "max_past_horizon": 3},
    }.get(layer, {"length": 1})
    case = {"input": {"channel_shape": [4], "dtype": "float32"}}
    with pytest.raises(NotImplementedError, match=f"^{layer}: "):
        adapter.build({"layer": layer, "config": config | option}, {}, case)
