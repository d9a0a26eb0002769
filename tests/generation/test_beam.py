"""Beam search: with beams enough the most likely of all sequences."""

import itertools

import numpy as np
import pytest
from small_models import attentive, outputs, recurrent

import kseq
from kseq.generation import predictor

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.1, "tensorflow": 0.1}

VOCABULARY, STEPS, STOP = 4, 3, 2


def log_probabilities(model, steps):
    y = outputs(model, np.array(steps, "int32"))
    return y - y.max() - np.log(np.exp(y - y.max()).sum())


def best(model, prompt, penalty):
    """Of all sequences that end with the stop, or have as many steps as there may be."""
    worth = {}
    for steps in itertools.product(range(VOCABULARY), repeat=STEPS):
        steps = steps[: steps.index(STOP) + 1] if STOP in steps else steps
        if steps not in worth:
            ways = [log_probabilities(model, [*prompt, *steps[:n]])[steps[n]] for n in range(len(steps))]
            worth[steps] = sum(ways) / len(steps) ** penalty
    return max(worth.items(), key=lambda item: item[1])


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("make", [recurrent, attentive])
def test_with_beams_enough_the_most_likely_sequence_is_found(make, penalty):
    model, prompts = make(VOCABULARY), [[1, 2, 3], [0]]
    made = kseq.generate(model, prompts, STEPS, beams=VOCABULARY**STEPS, stop=STOP, length_penalty=penalty)
    for row, prompt, score, reason in zip(made, prompts, made.scores, made.reasons, strict=True):
        steps, wanted = best(model, prompt, penalty)
        assert tuple(row.tolist()) == steps and score == pytest.approx(wanted, abs=1e-4)
        assert reason == ("stop" if steps[-1] == STOP else "length")


def test_beams_find_no_less_than_the_most_likely_steps():
    model, prompts = recurrent(), [[3], [1, 4, 5], [2] * 9]

    def worth(row, prompt):
        return sum(log_probabilities(model, [*prompt, *row[:n]])[row[n]] for n in range(len(row)))

    made = kseq.generate(model, prompts, 6, beams=5)
    greedy = kseq.generate(model, prompts, 6, temperature=0)
    for row, other, prompt, score in zip(made, greedy, prompts, made.scores, strict=True):
        assert worth(row, prompt) == pytest.approx(score, abs=1e-3)
        assert worth(row, prompt) >= worth(other, prompt) - 1e-4
    alone = kseq.generate(model, prompts[1], [6], beams=5)
    np.testing.assert_array_equal(alone, made[1])
    assert [len(row) for row in kseq.generate(model, prompts, [0, 2, 3], beams=2)] == [0, 2, 3]


def test_a_row_whose_logits_are_no_numbers_has_the_steps_before_and_the_others_go_on():
    model = recurrent()
    embedding, (kernel, bias) = model.layers[0].get_weights()[0], model.layers[-1].get_weights()
    bias[6] = -1e9  # no hypothesis goes on with it
    model.layers[-1].set_weights([kernel, bias])
    wanted = kseq.generate(model, [1, 2], 4, beams=2)
    embedding[6] = np.nan
    model.layers[0].set_weights([embedding])
    found = kseq.generate(model, [[1, 2], [6]], 4, beams=2)
    assert found.reasons == ["length", "error"] and list(found.errors) == [1]
    assert len(found[1]) == 0 and np.array_equal(found[0], wanted)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_rows_that_are_done_leave_the_batch(penalty, monkeypatch):
    model, sizes, keep = attentive(VOCABULARY, max_length=80), [], predictor.Batch.keep
    monkeypatch.setattr(predictor.Batch, "keep", lambda self, rows: sizes.append(len(rows)) or keep(self, rows))
    prompts, most = [[1], [2, 3], [0], [3, 3, 1], [2]], [2, 70, 0, 1, 3]
    made = kseq.generate(model, prompts, most, beams=2, length_penalty=penalty)
    assert sizes == [10, 2] and [len(row) for row in made] == most
    for n in (0, 1, 3):
        alone = kseq.generate(model, prompts[n : n + 1], most[n], beams=2, length_penalty=penalty)
        np.testing.assert_array_equal(alone[0], made[n])
        assert alone.scores[0] == pytest.approx(made.scores[n], abs=1e-3)
