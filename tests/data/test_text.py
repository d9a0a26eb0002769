"""Vocabularies: ids that depend on the data alone, and come back from JSON."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kseq.data.errors import StoreExistsError
from kseq.data.text import TextCodec, Vocabulary, VocabularyError, tokenize

TOKENS = st.text("abcdé ", min_size=1, max_size=3)
SEQUENCES = st.lists(st.lists(TOKENS, max_size=8), max_size=8)


def test_tokens_come_by_count_then_text():
    vocabulary = Vocabulary.collect([["b", "a", "c"], ["b", "a"], ["d"]])
    assert list(vocabulary) == ["<pad>", "<unk>", "<bos>", "<eos>", "a", "b", "c", "d"]
    assert vocabulary.counts == {"a": 2, "b": 2, "c": 1, "d": 1}
    assert [vocabulary["<pad>"], vocabulary["b"], vocabulary.token(5), len(vocabulary)] == [0, 5, "b", 8]
    assert "a" in vocabulary and "z" not in vocabulary
    assert list(Vocabulary.collect([["b", "a", "b"]], max_size=1, pad=None, unk=None, bos=None, eos=None)) == ["b"]
    assert list(Vocabulary.collect([["b", "a", "b"]], min_count=2, pad="_", unk="?", bos=None, eos=None)) == list("_?b")
    assert list(Vocabulary.collect([["<pad>", "x"]], max_size=5))[4:] == ["x"]


def test_encode_and_decode():
    vocabulary = Vocabulary.from_text(["to be or", "to be"])
    ids = vocabulary.encode(["to", "see", "or"], add_bos=True, add_eos=True)
    assert ids.dtype == np.int32 and ids.tolist() == [2, 5, 1, 6, 3]
    assert vocabulary.decode(ids) == ["to", "or"]
    assert vocabulary.decode(ids, skip_special=False) == ["<bos>", "to", "<unk>", "or", "<eos>"]
    assert vocabulary.encode(["to", "see"], unknown="drop").tolist() == [5]
    assert vocabulary.encode([]).dtype == np.int32 and vocabulary.encode([]).shape == (0,)
    with pytest.raises(VocabularyError, match="no token 'see'"):
        vocabulary.encode(["see"], unknown="error")
    bare = Vocabulary(["a"], pad=None, unk=None, bos=None, eos=None)
    for options in ({"add_bos": True}, {"add_eos": True}):
        with pytest.raises(VocabularyError, match=r"has no .os token"):
            bare.encode(["a"], **options)
    with pytest.raises(VocabularyError, match="no unknown token"):
        bare.encode(["b"])


def test_levels():
    assert tokenize(" to  be\t", "word") == ["to", "be"]
    assert tokenize("tö", "char") == ["t", "ö"]
    assert "t" in Vocabulary.from_text(["to"], level="char")
    with pytest.raises(VocabularyError, match="received 'line'"):
        Vocabulary.from_text(["to"], level="line")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Vocabulary(["a", "a"]), "more than once"),
        (lambda: Vocabulary([1]), "must be strings; received 1"),
        (lambda: Vocabulary(["a"]), "received '<pad>'"),
        (lambda: Vocabulary(["a", "b"], pad="a", unk="a", bos=None, eos=None), "must differ"),
        (lambda: Vocabulary.collect(["text"]), "received the text 'text'"),
        (lambda: Vocabulary.collect([[1]]), "received 1"),
        (lambda: Vocabulary.collect([], max_size=3), "max_size must be from 4"),
        (lambda: Vocabulary.from_text("text"), "received the text 'text'"),
        (lambda: Vocabulary.collect([]).encode("text"), "received the text"),
        (lambda: Vocabulary.collect([]).encode([], unknown="skip"), "received 'skip'"),
        (lambda: Vocabulary.collect([]).token(4), "from 0 to 3; received 4"),
        (lambda: Vocabulary.collect([]).token(-1), "received -1"),
        (lambda: Vocabulary.collect([])["z"], "no token 'z'"),
    ],
)
def test_errors_say_what_was_received(make, message):
    with pytest.raises(VocabularyError, match=message):
        make()


@given(SEQUENCES, st.permutations(range(8)))
def test_equal_data_gives_equal_ids_and_json_gives_them_back(sequences, order):
    vocabulary = Vocabulary.collect(sequences)
    assert Vocabulary.collect([sequences[n] for n in order if n < len(sequences)]) == vocabulary
    again = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert again == vocabulary and again.counts == vocabulary.counts
    for sequence in sequences:
        assert vocabulary.decode(vocabulary.encode(sequence, "error", add_bos=True, add_eos=True)) == sequence


def test_save_and_load(tmp_path):
    vocabulary = Vocabulary.from_text(["né à"], pad="_", bos=None)
    vocabulary.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json") == vocabulary
    assert [path.name for path in tmp_path.iterdir()] == ["v.json"]
    with pytest.raises(StoreExistsError):
        vocabulary.save(tmp_path / "v.json")


@pytest.mark.parametrize(
    "change",
    [{"format": "x"}, {"version": 2}, {"tokens": "ab"}, {"tokens": [1]}, {"special": {}}, {"counts": [1]}],
)
def test_what_is_no_vocabulary_is_named(tmp_path, change):
    data = Vocabulary.collect([["a"]]).to_json() | change
    (tmp_path / "v.json").write_text(json.dumps(data))
    with pytest.raises(VocabularyError, match=r"v\.json"):
        Vocabulary.load(tmp_path / "v.json")
    (tmp_path / "v.json").write_text("{")
    with pytest.raises(VocabularyError, match="no JSON"):
        Vocabulary.load(tmp_path / "v.json")


TEXT = st.text("ab é<>", max_size=12)


@given(st.lists(TEXT, max_size=5), TEXT, st.booleans(), st.booleans(), st.sampled_from(["word", "char"]))
def test_a_codec_gives_texts_back(known, text, begin, end, level):
    vocabulary = Vocabulary.from_text(known, level=level)
    codec = TextCodec(vocabulary, level, begin, end)
    for each in known:
        ids = codec.encode(each)
        assert ids.dtype == np.int32 and len(ids) == len(tokenize(each, level)) + begin + end
        assert ids[:1].tolist() == [2] or not begin
        assert ids[-1:].tolist() == [3] or not end
        same = " ".join(each.split()) if level == "word" else each
        assert codec.decode(ids) == codec.decode([*ids, 3, 0, 9]) == codec.decode(np.append(ids, [0, 0])) == same
    wanted = [token if token in vocabulary else "<unk>" for token in tokenize(text, level)]
    assert codec.decode(codec.encode(text)) == (" " if level == "word" else "").join(wanted)


@pytest.mark.parametrize("word", ["<pad>", "<unk>", "<bos>", "<eos>"])
def test_special_tokens_in_a_text_are_text(word):
    vocabulary = Vocabulary.from_text(["a b"])
    assert TextCodec(vocabulary).encode(f"a {word} b").tolist() == [4, 1, 5]
    assert TextCodec(vocabulary, unknown="drop").encode(f"a {word} b").tolist() == [4, 5]
    with pytest.raises(VocabularyError, match=f"no token '{word}'"):
        TextCodec(vocabulary, unknown="error").encode(f"a {word} b")
    assert vocabulary.encode(["a", word]).tolist() == [4, vocabulary[word]]


def test_codecs_of_other_tokens_and_wrong_ones():
    vocabulary = Vocabulary.collect([["a", "b"]], eos=None)
    codec = TextCodec(vocabulary, (lambda text: text.split("-"), "-".join), begin=True)
    assert codec.encode("b-a").tolist() == [2, 4, 3] and codec.decode([2, 4, 3]) == "b-a"
    for options, words in (({"end": True}, "no eos token"), ({"level": "line"}, "'line'"), ({"unknown": "x"}, "'x'")):
        with pytest.raises(VocabularyError, match=words):
            TextCodec(vocabulary, **options)
    with pytest.raises(VocabularyError, match="from 0 to 4; received 5"):
        codec.decode([5])
    for ids in ([[4]], 4, [0.5]):
        with pytest.raises(VocabularyError, match=r"must be integers \[T\]"):
            codec.decode(ids)
