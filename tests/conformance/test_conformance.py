"""Layers against the numbers of google/sequence-layers, through the adapter: one test per family of the corpus."""

import itertools

import adapter
import keras
import pytest
import replay

CORPUS = replay.Corpus()
# jax compiles every case anew, which takes minutes for all of them: there the default run takes every third case.
SAMPLE = 3 if keras.backend.backend() == "jax" else 1


def every(n, build):
    """A `build` that leaves out all but every n-th of the cases that it could run."""
    count = itertools.count()

    def sampled(node, weights, case):
        implementation = build(node, weights, case)
        if next(count) % n:
            raise NotImplementedError("not in the sample")
        return implementation

    return sampled


def check(family, build):
    cases = [case for case in CORPUS.cases if case["family"] == family]
    outcomes = {case["id"]: replay.replay(case, CORPUS, build) for case in cases}
    # The corpus holds families of which at least one case ran when it was copied.
    assert not all(outcome.skipped for outcome in outcomes.values()), {o.skipped for o in outcomes.values()}
    failed = {case: outcome.failures for case, outcome in outcomes.items() if outcome.failures}
    assert not failed, f"{len(failed)} of {len(cases)} cases fail: " + "; ".join(
        f"{case}: {', '.join(failures)}" for case, failures in failed.items()
    )


@pytest.mark.parametrize("family", CORPUS.families)
def test_family(family):
    check(family, every(SAMPLE, adapter.build))


@pytest.mark.slow
@pytest.mark.skipif(SAMPLE == 1, reason="the default run has taken every case")
@pytest.mark.parametrize("family", CORPUS.families)
def test_family_in_full(family):
    check(family, adapter.build)


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
        ("Conv1D", {"use_weight_norm": True}),
        ("DotProductSelfAttention", {"per_dim_scale": True}),
        ("DotProductSelfAttention", {"max_past_horizon": -1}),
        ("Lookahead", {"preserve_length_in_layer": True}),
        ("Delay", {"an_option_of_tomorrow": 1}),
    ],
)
def test_an_option_that_kseq_lacks_is_not_ignored(layer, option):
    config = {
        "Conv1D": {"filters": 2, "kernel_size": 3},
        "DotProductSelfAttention": {"num_heads": 2, "units_per_head": 3, "max_past_horizon": 3},
    }.get(layer, {"length": 1})
    case = {"input": {"channel_shape": [4], "dtype": "float32"}}
    with pytest.raises(NotImplementedError, match=f"^{layer}: "):
        adapter.build({"layer": layer, "config": config | option}, {}, case)
