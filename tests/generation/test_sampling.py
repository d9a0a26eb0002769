"""Drawing: what limits leave against their definition, and random numbers that follow from seed and step."""

import numpy as np
import pytest
from keras import ops

import kseq
from kseq.generation.draws import Draws, keys_of
from kseq.generation.sampling import kept, next_tokens

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.5, "tensorflow": 0.5}


def array(x):
    return ops.convert_to_numpy(x)


def left(logits, sampling):
    """Which tokens a definition, one after the other, leaves."""
    found = np.ones(len(logits), bool)
    if sampling.top_k is not None:
        found &= logits >= np.sort(logits)[-sampling.top_k :].min()
    if sampling.top_p is not None:
        likely = np.where(found, np.exp(logits - logits.max()), 0)
        likely /= likely.sum()
        for least in np.sort(np.unique(likely))[::-1]:
            if likely[likely >= least].sum() >= sampling.top_p - 1e-6:
                break
        found &= likely >= least
    if sampling.min_p is not None:
        found &= np.exp(logits - logits.max()) >= sampling.min_p
    return found


@pytest.mark.parametrize(
    "sampling",
    [
        kseq.Sampling(top_k=1),
        kseq.Sampling(top_k=5),
        kseq.Sampling(top_k=100),
        kseq.Sampling(top_p=0.6),
        kseq.Sampling(top_p=1.0),
        kseq.Sampling(top_p=1e-6),
        kseq.Sampling(min_p=0.3),
        kseq.Sampling(min_p=0),
        kseq.Sampling(min_p=1),
        kseq.Sampling(top_k=12, top_p=0.8, min_p=0.1),
    ],
    ids=lambda sampling: " ".join(f"{k}={v}" for k, v in vars(sampling).items() if v is not None),
)
def test_what_limits_leave(sampling):
    logits = np.random.default_rng(0).normal(size=(20, 30)).astype("float32") * 2
    found = array(kept(sampling.form, sampling.numbers(30), ops.convert_to_tensor(logits)))
    np.testing.assert_array_equal(np.isfinite(found), [left(row.astype("float64"), sampling) for row in logits])
    np.testing.assert_array_equal(found[np.isfinite(found)], logits[np.isfinite(found)])


def test_tokens_are_drawn_as_often_as_they_are_likely():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], "float32"))
    rows = 20_000
    for sampling, wanted in [
        (kseq.Sampling(), [0.5, 0.3, 0.15, 0.05]),
        (kseq.Sampling(temperature=0.5), np.square([0.5, 0.3, 0.15, 0.05]) / 0.365),
        (kseq.Sampling(top_k=2), [0.625, 0.375, 0, 0]),
        (kseq.Sampling(top_p=0.7), [0.625, 0.375, 0, 0]),  # not on the edge of a sum
        (kseq.Sampling(temperature=1e-30), [1, 0, 0, 0]),
        (kseq.Sampling(temperature=1e-300, top_p=0.9), [1, 0, 0, 0]),
        (kseq.Sampling(temperature=1e300, repetition_penalty=1e300), [0.25] * 4),
        (kseq.Sampling(top_p=1e-300), [1, 0, 0, 0]),
    ]:
        draws = Draws(keys_of(range(rows)), 3)
        seen = ops.zeros((rows, 4), dtype="bool")
        tokens, bad = next_tokens(
            sampling.form, sampling.numbers(4), ops.convert_to_tensor(np.tile(logits, (rows, 1))), draws, seen
        )
        counts = np.bincount(array(tokens), minlength=4)
        np.testing.assert_allclose(counts / rows, wanted, atol=4 * 0.5 / np.sqrt(rows))
        assert not array(bad).any()


def test_a_repetition_penalty_divides_what_is_positive_and_multiplies_what_is_not():
    logits, seen = np.array([[2.0, -1.0, 1.5, -1.4]], "float32"), np.array([[True, True, False, False]])
    sampling = kseq.Sampling(temperature=0, repetition_penalty=2.0)
    given = sampling.form, sampling.numbers(4), ops.convert_to_tensor(logits), Draws(keys_of([0]), 0)
    assert array(next_tokens(*given, ops.convert_to_tensor(seen))[0]).tolist() == [2]
    given = *given[:2], ops.convert_to_tensor(-logits[:, 1::2]), given[3]
    assert array(next_tokens(*given, ops.convert_to_tensor(np.array([[False, True]])))[0]).tolist() == [0]


def test_what_no_token_can_be_drawn_of():
    inf, nan = np.inf, np.nan
    logits = np.array([[0, 1, 2], [0, nan, 1], [inf, 0, 1], [-inf, 0, 1], [-inf, -inf, -inf]], "float32")
    for sampling in (kseq.Sampling(), kseq.Sampling(temperature=0), kseq.Sampling(top_k=2, top_p=0.9)):
        given = sampling.form, sampling.numbers(3), ops.convert_to_tensor(logits), Draws(keys_of(range(5)), 0)
        assert array(next_tokens(*given)[1]).tolist() == [False, True, True, False, True]


def test_the_numbers_of_a_row_and_step():
    draws = Draws(keys_of([1, 2**40 + 1]), 5)
    first, second = array(draws.uniform(4)), array(draws.uniform(4))
    # On every backend, and for ever: what a seed once made it makes again.
    np.testing.assert_allclose(first[0], FIRST, atol=1e-6)
    assert len({*first.ravel().tolist(), *second.ravel().tolist()}) == 16
    alone = Draws(keys_of([2**40 + 1]), np.array([5], "int32"))
    np.testing.assert_array_equal(array(alone.uniform(4)), first[1:])
    np.testing.assert_array_equal(array(alone.uniform(4)), second[1:])
    many = array(Draws(keys_of(range(2000)), 0).normal(10))
    assert abs(many.mean()) < 0.03 and abs(many.std() - 1) < 0.03
    uniform = array(Draws(keys_of(range(2000)), 0).uniform(3, 4))
    assert uniform.min() > 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(uniform.reshape(-1, 12).T) - np.eye(12)).max() < 0.1
    steps = np.stack([array(Draws(keys_of([0, 1]), n).uniform(1))[:, 0] for n in range(300)])
    assert abs(np.corrcoef(steps[:-1, 0], steps[1:, 0])[0, 1]) < 0.2 and abs(np.corrcoef(steps.T)[0, 1]) < 0.2


def test_seeds_of_any_size_have_keys_of_their_own():
    seeds = [0, 1, 2**31, 2**32, 2**63, 2**64, 2**64 + 1, 2**65, 2**96, 2**128, 2**128 + 2**64, 3 * 2**200]
    seeds += [seed + 2**n for seed in (7, 2**40 + 7) for n in range(2, 140, 9)]
    assert len(set(keys_of(seeds).tolist())) == len(set(seeds))
    assert keys_of([np.uint64(2**63), np.int8(5)]).tolist() == keys_of([2**63, 5]).tolist()


FIRST = [0.684263, 0.882445, 0.700185, 0.328489]
