"""A draft changes nothing but how many calls there are."""

import keras
import numpy as np
import pytest
from small_models import PROMPTS, attentive, recurrent, sliding

import kseq
from kseq.generation import speculative

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.1, "tensorflow": 0.1}

SHORT = {"max_past_horizon": 5}
MODELS = {
    "recurrent": recurrent,
    "other": lambda: recurrent(seed=7),
    "attentive": lambda: attentive(max_length=28),
    "remembers": lambda: kseq_model(max_rollback=4),
    "forgets": lambda: kseq_model(max_rollback=0),
    "sliding": sliding,
    "sinks": lambda: kseq_model(num_sink_steps=2),
}


def kseq_model(**options):
    """Of layers that all go back, or not."""
    layer = kseq.Serial([kseq.Embedding(11, 8), kseq.SelfAttention(2, 4, **SHORT, **options), kseq.Dense(11)])
    layer.build((None, None))
    return layer


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 6, "repetition_penalty": 1.3, "seed": 3}])
@pytest.mark.parametrize(
    ("model", "draft"),
    [
        ("recurrent", "other"),
        ("attentive", "recurrent"),
        ("remembers", "attentive"),
        ("forgets", "remembers"),
        ("sinks", "sliding"),
    ],
)
def test_the_tokens_are_those_without_a_draft(model, draft, options):
    model, draft = MODELS[model](), MODELS[draft]()
    wanted = kseq.generate(model, PROMPTS, 22, stop=[3], **options)
    made = kseq.generate(model, PROMPTS, 22, stop=[3], draft=draft, draft_steps=3, **options)
    for row, other in zip(made, wanted, strict=True):
        np.testing.assert_array_equal(row, other)
    assert made.reasons == wanted.reasons


def test_a_draft_that_is_right_saves_calls(monkeypatch):
    model, rounds, advance = recurrent(), [], speculative.SpeculativeRows.advance
    monkeypatch.setattr(speculative.SpeculativeRows, "advance", lambda *given: rounds.append(1) or advance(*given))
    made = list(kseq.generate_steps(model, PROMPTS, 20, draft=model, draft_steps=4, seed=1))
    assert len(rounds) == 4 and [[len(row) for row in rows] for rows in made] == [[5] * 3] * 4


def test_rows_leave_the_batch_of_both():
    model, draft = recurrent(), MODELS["other"]()
    wanted = kseq.generate(model, PROMPTS, [60, 1, 2], seed=1)
    for row, other in zip(kseq.generate(model, PROMPTS, [60, 1, 2], seed=1, draft=draft), wanted, strict=True):
        np.testing.assert_array_equal(row, other)


def test_which_states_go_back():
    def goes_back(name, steps):
        return speculative._goes_back(kseq.generation.predictor.Predictor(MODELS[name]()).batch(1).programs.step, steps)

    assert goes_back("remembers", 4) and not goes_back("remembers", 5)
    assert not goes_back("forgets", 1) and not goes_back("recurrent", 1)


def test_what_is_refused():
    model = recurrent()
    with pytest.raises(ValueError, match=r"the draft must be of the 11 tokens of .*; .* has 5"):
        kseq.generate(model, [1], 3, draft=recurrent(5))
    with pytest.raises(ValueError, match="`draft_steps` must be at least 1; received 0"):
        kseq.generate(model, [1], 3, draft=recurrent(), draft_steps=0)
    with pytest.raises(ValueError, match="takes 28 more steps; received a prompt with its new steps, of 30 steps"):
        kseq.generate(model, [1], 30, draft=MODELS["attentive"]())
    with pytest.raises(ValueError, match="nothing is drawn"):
        kseq.generate(model, [1], 3, draft=recurrent(), beams=2)


def test_outputs_that_are_not_valid_end_a_row_with_a_draft_as_without():
    ids, source = keras.Input((None,), dtype="int32"), keras.Input((None, 3), name="source")
    x = kseq.GRU(4)(kseq.Embedding(5, 4)(ids))
    x = kseq.Conditioning(source="source", per_step=True)(x, context={"source": source})
    model = keras.Model([ids, source], kseq.Dense(5)(x))
    context = {"source": np.ones((2, 6, 3), "float32")}
    for options in ({}, {"draft": recurrent(5), "draft_steps": 2}):
        made = kseq.generate(model, [[1], [1, 2, 3]], 10, context=context, seed=1, **options)
        assert [len(row) for row in made] == [6, 4] and made.reasons == ["error"] * 2
