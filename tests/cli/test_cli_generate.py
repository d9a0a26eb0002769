"""`kseq generate`: what `kseq.generate` makes, as text, or one line that says why not."""

import json
import types

import keras
import numpy as np
import pytest

import kseq
from kseq import cli
from kseq.data.text import Vocabulary

# The share that runs on a day where tests compile; all of them on torch.
TODAYS = {"jax": 0.1, "tensorflow": 0.1}

CHARACTERS = "\n abcde"
WORDS = ["<eos>", "to", "be", "or", "not", "<bos>", "it", "is"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a model of seven characters, one of eight words, and their vocabularies."""
    keras.utils.set_random_seed(0)
    folder, models = tmp_path_factory.mktemp("models"), {}
    sizes = [("chars", 7, 4), ("small", 7, 2), ("words", len(WORDS), 4), ("bytes", 256, 4)]
    for name, size, units in sizes:
        layers = [kseq.Embedding(size, units), kseq.GRU(units), kseq.Dense(size)]
        models[name] = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
        models[name].save(folder / f"{name}.keras")
    none = {"pad": None, "unk": None}
    Vocabulary(CHARACTERS, bos=None, eos=None, **none).save(folder / "chars.vocabulary.json")
    Vocabulary(WORDS, **none).save(folder / "words.vocabulary.json")
    keras.Sequential([keras.Input((None, 3)), kseq.Dense(3)]).save(folder / "real.keras")
    return types.SimpleNamespace(folder=folder, **models)


@pytest.fixture
def generate(saved, monkeypatch):
    monkeypatch.chdir(saved.folder)
    return lambda *arguments: cli.main(["generate", *arguments])


def test_it_prints_what_it_makes(generate, saved, capsys):
    options = {"temperature": 0.7, "top_k": 4, "seed": 3}
    wanted = kseq.generate(saved.chars, [2, 3, 4], 20, **options)
    given = ["--max-steps", "20", "--temperature", "0.7", "--top-k", "4", "--seed", "3"]
    assert generate("chars.keras", "--prompt", "abc", *given) == 0
    text = "".join(CHARACTERS[n] for n in wanted)
    assert capsys.readouterr().out == text + "\n"
    assert generate("chars.keras", "--prompt", "abc", *given, "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert results.pop("seconds") > 0
    assert results == {
        "model": "chars.keras",
        "prompt": "abc",
        "text": text,
        "ids": wanted.tolist(),
        "reason": "length",
        "steps": 20,
        "seed": 3,
        "backend": keras.backend.backend(),
    }
    assert generate("chars.keras", "--ids", "2", "3", "4", *given) == 0
    assert capsys.readouterr().out == " ".join(map(str, wanted)) + "\n"


def test_words_and_what_ends_them(generate, saved, capsys):
    wanted = kseq.generate(saved.words, [5, 1, 2], 30, seed=1, stop=[0]).tolist()
    given = ["words.keras", "--prompt", "to be", "--begin", "--max-steps", "30", "--seed", "1"]
    assert generate(*given) == 0
    words = [WORDS[n] for n in wanted if n not in (0, 5)]
    assert capsys.readouterr().out == " ".join(words) + "\n"
    assert generate(*given, "--stop", " ".join(words[:2]), "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert results["text"].endswith(" ".join(words[:2])) and results["reason"] == "stop"


def test_a_draft_and_beams(generate, saved, capsys):
    given = ["chars.keras", "--prompt", "abc", "--max-steps", "12"]
    drawn = [*given, "--top-k", "4", "--seed", "3"]
    assert generate(*drawn) == 0
    shown = capsys.readouterr().out
    assert generate(*drawn, "--draft", "small.keras", "--draft-steps", "2") == 0
    assert capsys.readouterr().out == shown and len(shown) == 13
    wanted = kseq.generate(saved.chars, [[2, 3, 4]], 12, beams=3, length_penalty=0.5)
    assert generate(*given, "--beams", "3", "--length-penalty", "0.5", "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert results["ids"] == wanted[0].tolist() and results["score"] == pytest.approx(wanted.scores[0], abs=1e-4)
    assert results["text"] == "".join(CHARACTERS[n] for n in wanted[0])


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        ("für €".encode(), "für €"),
        (b"a\xff\xe2\x82b\xe2", "a\ufffd\ufffdb\ufffd"),  # no byte of UTF-8, a character that is cut, one at the end
        (b"\x1b[1m\t\n", "\\x1b[1m\t\n"),
    ],
)
@pytest.mark.parametrize("at_once", [1, 100])
def test_bytes_are_text_as_soon_as_characters_are_whole(generate, capsys, monkeypatch, made, shown, at_once):
    given = []

    def steps(model, prompts, count, **options):
        given.append((prompts, options["stop"]))
        for start in range(0, len(made), at_once):
            yield [np.frombuffer(made[start : start + at_once], np.uint8).astype(np.int32)]
        return kseq.generation.Generated([np.frombuffer(made, np.uint8).astype(np.int32)], ["length"], {})

    monkeypatch.setattr("kseq.generation.generate_steps", steps)
    assert generate("bytes.keras", "--prompt", "ü", "--stop", "é") == 0
    assert capsys.readouterr().out == shown + "\n"
    assert given == [([list("ü".encode())], [list("é".encode())])]
    assert generate("bytes.keras", "--prompt", "ü", "--level", "byte", "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert results["text"] == made.decode(errors="replace") and results["ids"] == list(made)


def test_a_prompt_from_standard_input(generate, capsys, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("ab\n"))
    assert generate("chars.keras", "--prompt", "-", "--max-steps", "3", "--temperature", "0") == 0
    shown = capsys.readouterr().out
    assert generate("chars.keras", "--prompt", "ab\n", "--max-steps", "3", "--temperature", "0") == 0
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chars.keras", "--prompt", "abx"], "there is no token 'x'"),
        (["chars.keras", "--prompt", ""], "a prompt must have at least one step"),
        (["chars.keras", "--prompt", "a", "--top-p", "2"], "`top_p` must be above 0 and at most 1"),
        (["chars.keras", "--prompt", "a", "--begin"], "the vocabulary has no bos token"),
        (["chars.keras", "--prompt", "a", "--vocabulary", "words.vocabulary.json"], "no token 'a'"),
        (
            ["chars.keras", "--prompt", "to", "--vocabulary", "words.vocabulary.json"],
            "8 tokens, and .* logits of 7",
        ),
        (["chars.keras", "--ids", "7"], "tokens from 0 to 6; received 7"),
        (["chars.keras", "--ids", "1", "--stop", "x"], "--stop with --ids must be of ids"),
        (["chars.keras", "--prompt", "a", "--level", "byte"], "--level byte has 256 tokens, and .* logits of 7"),
        (["bytes.keras", "--prompt", "a", "--begin"], "--begin is of a vocabulary"),
        (
            ["bytes.keras", "--prompt", "a", "--level", "byte", "--vocabulary", "words.vocabulary.json"],
            "--level byte takes no --vocabulary",
        ),
        (["bytes.keras", "--prompt", "a", "--level", "word"], "a text needs a vocabulary"),
        (["real.keras", "--ids", "1"], "gives no logits of tokens"),
        (["real.keras", "--prompt", "a"], "a text needs a vocabulary: give --vocabulary"),
        (["nothing.keras", "--ids", "1"], "no such file"),
        (["chars.keras", "--ids", "1", "--draft", "nothing.keras"], "nothing.keras: no such file"),
        (["chars.keras", "--ids", "1", "--draft", "character_griffin"], "character_griffin: a draft is a saved model"),
        (["chars.keras", "--ids", "1", "--draft", "words.keras"], "the draft must be of the 7 tokens of .*; .* has 8"),
        (["chars.keras", "--ids", "1", "--draft", "small.keras", "--beams", "2"], "nothing is drawn: leave out"),
        (["chars.keras", "--ids", "1", "--beams", "2", "--top-k", "2"], "nothing is drawn: leave out"),
        (["chars.keras", "--ids", "1", "--beams", "2", "--stop", "1 2"], "single tokens alone end a row"),
        (["chars.keras", "--ids", "1", "--beams", "2", "--length-penalty", "-1"], "`length_penalty` must be"),
        (["chars.keras", "--ids", "1", "--length-penalty", "1"], "--length-penalty is for --beams of 2 or more"),
        (["chars.keras", "--ids", "1", "--draft-steps", "3"], "--draft-steps is for --draft; received"),
    ],
)
def test_what_is_refused(generate, capsys, arguments, words):
    import re

    assert generate(*arguments) == 1
    shown = capsys.readouterr()
    assert re.search(words, shown.err) and shown.err.count("\n") == 1 and not shown.out


def test_logits_that_are_no_numbers(saved, tmp_path, capsys):
    weights = saved.chars.get_weights()
    model = keras.models.clone_model(saved.chars)
    model.set_weights([np.full_like(weights[0], np.nan), *weights[1:]])
    model.save(tmp_path / "m.keras")
    assert cli.main(["generate", str(tmp_path / "m.keras"), "--ids", "1"]) == 1
    assert "not finite" in capsys.readouterr().err
