"""`generate`: the steps that whole sequences say, in any batch, until rows end."""

import keras
import numpy as np
import pytest
from keras import ops
from small_models import PROMPTS, VOCABULARY, attentive, most_likely, outputs, recurrent, sliding

import kseq
from kseq.generation import predictor
from kseq.streaming import programs

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.1, "tensorflow": 0.1}

DRAWN = {"temperature": 0.9, "top_k": 8, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.2}


@pytest.fixture(scope="module", params=[recurrent, attentive, sliding])
def model(request):
    return request.param()


@pytest.fixture(scope="module")
def small():
    return recurrent()


def lists(rows):
    return [row.tolist() for row in rows]


def test_the_most_likely_steps_are_those_of_whole_sequences(model):
    made = kseq.generate(model, PROMPTS, 6, temperature=0)
    assert lists(made) == [most_likely(model, prompt, 6) for prompt in PROMPTS]
    assert made.reasons == ["length"] * 3 and not made.errors


def test_a_row_makes_the_same_steps_alone_and_in_a_batch(model):
    together = kseq.generate(model, PROMPTS, 12, seed=[5, 6, 7], **DRAWN)
    for n, prompt in enumerate(PROMPTS):
        np.testing.assert_array_equal(kseq.generate(model, prompt, 12, seed=5 + n, **DRAWN), together[n])
    assert len({tuple(row.tolist()) for row in together}) == 3


def test_prompts_longer_than_a_call(small):
    prompt = np.arange(300) % VOCABULARY
    assert kseq.generate(small, prompt, 2, temperature=0).tolist() == most_likely(small, prompt, 2)


def test_forms_of_prompts(small):
    wanted = lists(kseq.generate(small, PROMPTS, 4, temperature=0))
    rows = [np.array(row, "int64") for row in PROMPTS]
    for given in (rows, kseq.flatten(*kseq.pad(rows)), kseq.Sequence.from_ragged(rows)):
        assert lists(kseq.generate(small, given, 4, temperature=0)) == wanted
    assert lists(kseq.generate(small, np.array([PROMPTS[1]]), 4, temperature=0)) == wanted[1:2]
    for given in (PROMPTS[0], rows[0]):
        assert kseq.generate(small, given, 4, temperature=0).tolist() == wanted[0]
    started = kseq.generate(small, [PROMPTS[0][1:], []], 4, temperature=0, start=PROMPTS[0][0])
    assert started[0].tolist() == wanted[0] and started[1].tolist() == most_likely(small, [1], 4)


def test_what_ends_a_row(small):
    whole = lists(kseq.generate(small, PROMPTS, 30, seed=1))

    def ended(stop, most=30):
        return kseq.generate(small, PROMPTS, most, seed=1, stop=stop)

    for stop in (3, [3], [3, 4], [[3], [4]]):
        tokens = {3} if stop in (3, [3]) else {3, 4}
        found = ended(stop)
        for row, all_of_it, reason in zip(found, whole, found.reasons, strict=True):
            places = [n for n, token in enumerate(all_of_it) if token in tokens]
            assert row.tolist() == all_of_it[: places[0] + 1 if places else 30]
            assert reason == ("stop" if places else "length")
    pair = whole[0][7:9]
    first = next(n for n in range(29) if whole[0][n : n + 2] == pair)
    assert ended([pair])[0].tolist() == whole[0][: first + 2]
    assert lists(ended(lambda steps: len(steps) == 5)) == [row[:5] for row in whole]
    found = ended(None, most=[0, 3, 30])
    assert lists(found) == [[], whole[1][:3], whole[2]] and found.reasons == ["length"] * 3


def test_it_yields_as_it_goes(small):
    whole = kseq.generate(small, PROMPTS, 40, seed=1, stop=3)
    made = list(kseq.generate_steps(small, PROMPTS, 40, seed=1, stop=3))
    assert len(made) > 1 and all(len(rows) == 3 for rows in made)
    for n, row in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([rows[n] for rows in made]), row)
    alone = list(kseq.generate_steps(small, PROMPTS[0], 40, seed=1, stop=3))
    np.testing.assert_array_equal(np.concatenate(alone), whole[0])


def test_what_is_compiled_is_compiled_once(monkeypatch):
    model = recurrent(seed=1)
    kseq.generate(model, PROMPTS, 20, seed=1, stop=[3])

    def refuse(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(programs, "_ProgramTrace", refuse)
    kseq.generate(model, [prompt[::-1] for prompt in PROMPTS], 25, seed=7, temperature=0.5, stop=[4])
    with pytest.raises(AssertionError, match="compiled again"):
        kseq.generate(model, PROMPTS, 20, temperature=0)


def test_new_weights_are_seen(small):
    model = recurrent(seed=3)
    before = kseq.generate(model, PROMPTS, 8, temperature=0)
    model.set_weights(small.get_weights())
    after = kseq.generate(model, PROMPTS, 8, temperature=0)
    assert lists(after) == lists(kseq.generate(small, PROMPTS, 8, temperature=0)) != lists(before)


@pytest.mark.parametrize("make", [recurrent, lambda: attentive(max_length=101)])
def test_rows_that_have_ended_leave_the_batch(make, monkeypatch):
    model = make()
    sizes, keep = [], predictor.Batch.keep
    monkeypatch.setattr(predictor.Batch, "keep", lambda self, rows: sizes.append(len(rows)) or keep(self, rows))
    prompts, most = [[n] for n in range(5)], np.array([1, 2, 1, 100, 2])
    long = kseq.generate(model, prompts, most, seed=1)
    assert sizes[-1] == 1 and lists(long)[:3] == lists(kseq.generate(model, prompts[:3], most[:3], seed=1))
    np.testing.assert_array_equal(long[3], kseq.generate(model, [3], 100, seed=4))


def test_logits_that_are_no_numbers_end_their_row_alone():
    model = recurrent(seed=2)
    weights = model.get_weights()
    weights[0][3] = np.nan  # the embedding of token 3
    model.set_weights(weights)
    plain = recurrent(seed=2)
    prompts = [[1, 3], [1, 2], [5]]
    made, wanted = kseq.generate(model, prompts, 12, seed=1), lists(kseq.generate(plain, prompts, 12, seed=1))
    assert made.reasons[0] == "error" and not len(made[0]) and "not finite" in made.errors[0]
    for row, other, reason in zip(made[1:], wanted[1:], made.reasons[1:], strict=True):
        end = other.index(3) + 1 if 3 in other[:-1] else 12
        assert row.tolist() == other[:end] and reason == ("length" if end == 12 else "error")
    with pytest.raises(FloatingPointError, match="after 0 new steps"):
        kseq.generate(model, prompts[0], 5, seed=1)
    assert kseq.generate(model, prompts, 5, beams=2).reasons[0] == "error"


def test_real_values():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, 2)), kseq.GRU(4), kseq.Dense(2)])
    prompts = [np.random.default_rng(n).normal(size=(n, 2)).astype("float32") for n in (1, 4)]
    for prompt, made in zip(prompts, kseq.generate(model, prompts, 5), strict=True):
        steps = prompt
        for _ in range(5):
            steps = np.concatenate([steps, outputs(model, steps)[None].astype("float32")])
        np.testing.assert_allclose(made, steps[len(prompt) :], atol=1e-5)

    def noisy(y, draws):
        return y + draws.normal(*y.shape[1:])

    drawn = kseq.generate(model, prompts, 5, sample=noisy, seed=[1, 2])
    np.testing.assert_allclose(kseq.generate(model, prompts[1], 5, sample=noisy, seed=2), drawn[1], atol=1e-5)
    assert kseq.generate(model, prompts[0], 9, stop=lambda steps: len(steps) > 3).shape == (4, 2)


def test_blocks_are_made_at_a_time():
    keras.utils.set_random_seed(0)
    layers = kseq.Conv1D(3, 2, strides=2, padding="causal"), kseq.GRU(2), kseq.UpSampling1D(2)
    model = keras.Sequential([keras.Input((None, 2)), *layers])
    prompts = [np.ones((2, 2), "float32"), np.ones((6, 2), "float32")]
    for prompt, made in zip(prompts, kseq.generate(model, prompts, 5), strict=True):
        steps = prompt
        for _ in range(3):
            steps = np.concatenate([steps, ops.convert_to_numpy(model(steps[None]))[0, -2:]])
        np.testing.assert_allclose(made, steps[len(prompt) :][:5], atol=1e-5)
    with pytest.raises(ValueError, match="multiple of 2 steps"):
        kseq.generate(model, prompts[0][:1], 5)


def test_several_tokens_a_step():
    keras.utils.set_random_seed(0)
    layers = [kseq.Embedding(5, 3), kseq.Flatten(), kseq.GRU(4), kseq.Dense(10), kseq.Reshape((2, 5))]
    model = keras.Sequential([keras.Input((None, 2), dtype="int32"), *layers])
    prompt = np.array([[1, 2], [3, 4]])
    made, steps = kseq.generate(model, prompt, 4, temperature=0), prompt
    for _ in range(4):
        steps = np.concatenate([steps, outputs(model, steps).argmax(-1)[None]])
    np.testing.assert_array_equal(made, steps[2:])
    assert kseq.generate(model, [prompt, prompt[:1]], 4, seed=1, repetition_penalty=1.5)[1].shape == (4, 2)


def test_what_layers_draw_goes_on_from_step_to_step():
    keras.utils.set_random_seed(0)
    layer = kseq.Serial([kseq.GRU(3), kseq.Noise(stddev=1.0, training_only=False, seed=1)])
    layer.build((None, None, 3))
    made = kseq.generate(layer, np.ones((2, 1, 3), "float32"), 6)
    assert len({tuple(step) for step in made[0].round(4).tolist()}) == 6


def test_context():
    keras.utils.set_random_seed(0)
    ids, source = keras.Input((None,), dtype="int32", name="ids"), keras.Input((None, 3), name="source")
    x = kseq.Embedding(7, 4)(ids)
    x = x + kseq.CrossAttention(2, 4, source="source")(x, context={"source": source})
    model = keras.Model({"ids": ids, "source": source}, kseq.Dense(7)(kseq.GRU(4)(x)))
    values = np.random.default_rng(0).normal(size=(3, 5, 3)).astype("float32")
    made = kseq.generate(model, [[1], [2, 3], [4]], [1, 1, 40], context={"source": values}, temperature=0)
    steps = np.array([4])
    for _ in range(5):
        y = ops.convert_to_numpy(model({"ids": steps[None], "source": values[2:]}))[0, -1]
        steps = np.append(steps, y.argmax())
    assert made[2][:5].tolist() == steps[1:].tolist()


def test_a_prompt_may_be_as_long_as_the_model_has_room_for(small):
    with pytest.raises(ValueError, match="`max_new_steps` must be given, or `stop`"):
        kseq.generate(small, [1])
    model = attentive()
    made = kseq.generate(model, [[1], [2] * 39, [3] * 40], temperature=0)
    assert [len(row) for row in made] == [40, 2, 1]
    with pytest.raises(ValueError, match="takes 40 more steps in row 1; received a prompt of 41 steps: raise max_"):
        kseq.generate(model, [[1], [2] * 41], 1)
    with pytest.raises(ValueError, match="received a prompt with its new steps, of 41 steps: raise max_length"):
        kseq.generate(model, [2] * 39, 3)


@pytest.mark.parametrize(
    ("error", "words", "prompts", "options"),
    [
        (ValueError, "row 1 has none: give `start`", [[1], []], {}),
        (ValueError, "row 0 has none", [], {}),
        (ValueError, "tokens from 0 to 10; received 11 in row 1", [[1], [2, 11]], {}),
        (ValueError, "tokens from 0 to 10; received -1", [-1], {}),
        (TypeError, "must be of integers; received float64", [[0.5]], {}),
        (ValueError, r"shape \[time\]; received \(1, 1, 2, 1\)", np.zeros((1, 1, 2, 1), int), {}),
        (ValueError, "`temperature` must be at least 0 and finite; received -1", [1], {"temperature": -1}),
        (TypeError, "`temperature` must be a number", [1], {"temperature": None}),
        (ValueError, "`top_k` must be at least 1; received 0", [1], {"top_k": 0}),
        (ValueError, "`top_p` must be above 0 and at most 1; received 1.5", [1], {"top_p": 1.5}),
        (ValueError, "`min_p` must be from 0 to 1; received -0.1", [1], {"min_p": -0.1}),
        (ValueError, "`repetition_penalty` must be above 0 and finite; received 0", [1], {"repetition_penalty": 0}),
        (ValueError, "`stop` must be of tokens below 11; received 11", [1], {"stop": [11]}),
        (TypeError, "`stop` must be an integer", [1], {"stop": "end"}),
        (ValueError, "one for each of 2 rows; received 1", [[1], [2]], {"seed": [1]}),
        (ValueError, "`seed` must be at least 0", [1], {"seed": -1}),
        (TypeError, "options of generation are temperature", [1], {"top": 1}),
        (ValueError, "`beams` must be at least 1", [1], {"beams": 0}),
        (ValueError, "nothing is drawn", [1], {"beams": 2, "top_k": 3}),
        (ValueError, "single tokens alone", [1], {"beams": 2, "stop": [[1, 2]]}),
        (ValueError, "`length_penalty` must be a number of at least 0", [1], {"beams": 2, "length_penalty": -1}),
        (ValueError, "`length_penalty` is for `beams` of 2 or more; received 1", [1], {"length_penalty": 1}),
        (ValueError, "`draft_steps` is for a `draft`; received 2 without", [1], {"draft_steps": 2}),
        (ValueError, r"`start` must be one step, of shape \(\); received one of shape \(2,\)", [1], {"start": [1, 2]}),
        (TypeError, "`sample` must be a function of outputs and draws; received 3", [1], {"sample": 3}),
        (ValueError, "the context of .* must be none; received source", [1], {"context": {"source": 1}}),
    ],
)
def test_what_is_refused(small, error, words, prompts, options):
    with pytest.raises(error, match=words):
        kseq.generate(small, prompts, 3, **options)


@pytest.mark.parametrize("most", [-1, [1, 2], [1.5], "3"])
def test_numbers_of_steps_that_are_refused(small, most):
    with pytest.raises((ValueError, TypeError), match="`max_new_steps` must be"):
        kseq.generate(small, [[1]], most)


def test_models_that_are_refused(small):
    ids = keras.Input((None,), dtype="int32")
    embedded = kseq.Embedding(5, 4)(ids)
    for model, words in [
        (keras.Model(ids, kseq.Dense(6)(embedded)), "logits of 6 tokens.*tokens below 5"),
        (keras.Model(ids, kseq.Conv1D(5, 3, padding="reverse_causal")(embedded)), "looks ahead.*2 steps late"),
        (keras.Model(ids, kseq.Conv1D(5, 2, strides=2)(embedded)), "one output for each input.*1/2"),
        (keras.Model(ids, [kseq.Dense(5)(embedded), embedded]), "one output"),
        (keras.Model(ids, kseq.Bidirectional(kseq.GRU(5))(embedded)), "cannot generate, since it cannot step"),
        (keras.Sequential([keras.Input((None, 3)), kseq.Dense(4)]), r"its output has shape \(4,\): give `sample`"),
    ]:
        with pytest.raises(ValueError, match=words):
            kseq.generate(model, [1], 3)
    with pytest.raises(TypeError, match="expected a kseq layer or a Keras model"):
        kseq.generate(len, [1], 3)
    real = keras.Sequential([keras.Input((None, 2)), kseq.Dense(2)])
    for options, words in [({"top_k": 2}, "no logits of tokens, which top_k"), ({"stop": 1}, "must be a function")]:
        with pytest.raises(ValueError, match=words):
            kseq.generate(real, np.zeros((1, 2), "float32"), 3, **options)
    with pytest.raises(ValueError, match="has no beams"):
        next(kseq.generate_steps(small, [1], 3, beams=2))
