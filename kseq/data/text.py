"""Vocabularies and codecs: tokens and texts to ids and back."""

import collections
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..annotations import AnyPath
from .errors import DataError

_FORMAT, _VERSION = "kseq vocabulary", 1
_SPECIAL = ("pad", "unk", "bos", "eos")
LEVELS = ("word", "char")
Level = Literal["word", "char"]
Unknown = Literal["unk", "drop", "error"]
# A function from a text to its tokens, and one from tokens to their text.
Tokenizer = tuple[Callable[[str], Iterable[str]], Callable[[list[str]], str]]


class CollectOptions(TypedDict, total=False):
    """What `Vocabulary.from_text` takes as `Vocabulary.collect` does."""

    max_size: int | None
    min_count: int
    pad: str | None
    unk: str | None
    bos: str | None
    eos: str | None


class VocabularyError(DataError, ValueError):
    """A vocabulary that is none, or tokens and ids that it does not have."""


def tokenize(text: str, level: Level = "word") -> list[str]:
    """The tokens of a text: its words, as whitespace parts them, or its characters.

    Raises:
        VocabularyError: another level.

    Example:
        >>> tokenize("to be", "char")
        ['t', 'o', ' ', 'b', 'e']
    """
    if level not in LEVELS:
        raise VocabularyError(f"level must be one of {LEVELS}; received {level!r}")
    return text.split() if level == "word" else list(text)


class TextCodec:
    """Texts to ids and back: a text's tokens, their ids, and a begin and end where they are wanted.

    Special tokens come from here alone: where a text holds one, it is unknown. For other tokens than words and
    characters, such as parts of words, use the library `tokenizers`, whose ids a record can `load` as well.

    Args:
        vocabulary: a `Vocabulary`.
        level: "word" or "char"; or a pair of functions, from a text to its tokens, and from tokens to their text.
        begin, end: whether ids have the vocabulary's `bos` in front, its `eos` behind.
        unknown: what becomes of tokens that are not known, as in `Vocabulary.encode`.

    Raises:
        VocabularyError: another level, a begin or end that the vocabulary does not have.

    Example:
        >>> codec = TextCodec(Vocabulary.from_text(["to be or not to be"]), end=True)
        >>> codec.encode("to be here")
        array([5, 4, 1, 3], dtype=int32)
        >>> codec.decode([5, 4, 1, 3, 0, 0])
        'to be <unk>'
    """

    def __init__(
        self,
        vocabulary: "Vocabulary",
        level: Level | Tokenizer = "word",
        begin: bool = False,
        end: bool = False,
        unknown: Unknown = "unk",
    ) -> None:
        if isinstance(level, (tuple, list)):
            self._tokens, self._text = level
        else:
            tokenize("", level)
            self._tokens = functools.partial(tokenize, level=level)
            self._text = (" " if level == "word" else "").join
        self.vocabulary: Vocabulary = vocabulary
        self._how = {"unknown": unknown, "add_bos": begin, "add_eos": end, "special": False}
        vocabulary.encode([], **self._how)

    def encode(self, text: str) -> NDArray[np.int32]:
        """The ids of a text, int32 [T].

        Raises:
            VocabularyError: a token that is not known, where `unknown="error"` or there is no unknown token.
        """
        return self.vocabulary.encode(self._tokens(text), **self._how)

    def decode(self, ids: ArrayLike) -> str:
        """The text of ids up to their end, without begin and padding; between words is one space.

        Raises:
            VocabularyError: an id that there is not, an array that is not [T].
        """
        vocabulary, tokens = self.vocabulary, []
        for id in _as_list(ids):
            token = vocabulary.token(id)
            if token == vocabulary.eos:
                break
            if token not in (vocabulary.pad, vocabulary.bos):
                tokens.append(token)
        return self._text(tokens)


class Vocabulary:
    """Tokens and their ids: 0, 1, ... in the order of the tokens.

    Args:
        tokens: every token, each once; its place is its id. The special tokens are among them.
        pad, unk, bos, eos: the special tokens, or None for one that there is not: padding, what is not known, and the
            begin and end of a sequence.
        counts: how often each token was seen, where that is known.

    Raises:
        VocabularyError: tokens that are no strings or come twice, special tokens that are not among them.

    Example:
        >>> vocabulary = Vocabulary.from_text(["to be or not to be"], max_size=7)
        >>> vocabulary.encode("to be here".split(), add_eos=True)
        array([5, 4, 1, 3], dtype=int32)
        >>> vocabulary.decode([5, 4, 1, 3])
        ['to', 'be']
    """

    pad: str | None
    unk: str | None
    bos: str | None
    eos: str | None

    def __init__(
        self,
        tokens: Iterable[str],
        pad: str | None = "<pad>",
        unk: str | None = "<unk>",
        bos: str | None = "<bos>",
        eos: str | None = "<eos>",
        counts: Mapping[str, int] | None = None,
    ) -> None:
        self._tokens = list(tokens)
        self._ids = {token: n for n, token in enumerate(self._tokens)}
        if not all(isinstance(token, str) for token in self._tokens):
            wrong = next(token for token in self._tokens if not isinstance(token, str))
            raise VocabularyError(f"tokens must be strings; received {wrong!r}")
        if len(self._ids) < len(self._tokens):
            twice = next(t for t, n in collections.Counter(self._tokens).items() if n > 1)
            raise VocabularyError(f"tokens must differ; received {twice!r} more than once")
        self.pad, self.unk, self.bos, self.eos = pad, unk, bos, eos
        self._special = special = [token for token in (pad, unk, bos, eos) if token is not None]
        for token in special:
            if token not in self._ids:
                raise VocabularyError(f"special tokens must be among the tokens; received {token!r}")
        if len(set(special)) < len(special):
            raise VocabularyError(f"special tokens must differ; received {special}")
        self.counts: dict[str, int] = dict(counts or {})
        if not self.counts.keys() <= self._ids.keys() or not all(_is_count(n) for n in self.counts.values()):
            raise VocabularyError("counts must be integers from 0 of the tokens")

    @classmethod
    def collect(
        cls,
        sequences: Iterable[Iterable[str]],
        max_size: int | None = None,
        min_count: int = 1,
        pad: str | None = "<pad>",
        unk: str | None = "<unk>",
        bos: str | None = "<bos>",
        eos: str | None = "<eos>",
    ) -> "Vocabulary":
        """The vocabulary of sequences of tokens: the special tokens, then the others from the most frequent.

        Tokens of equal counts are in the order of their text, so that equal data gives equal ids.

        Args:
            sequences: iterable of sequences of strings.
            max_size: how many tokens there are at most, the special ones included.
            min_count: how often a token must be there at least.
            pad, unk, bos, eos: the special tokens, which get the ids 0, 1, 2, 3; None leaves one out.

        Raises:
            VocabularyError: a text where a sequence of tokens must be, a `max_size` smaller than the special tokens.
        """
        counts = collections.Counter()
        for sequence in sequences:
            if isinstance(sequence, str):
                raise VocabularyError(f"a sequence must be a list of tokens; received the text {sequence!r:.100}")
            counts.update(sequence)
        for token in counts:
            if not isinstance(token, str):
                raise VocabularyError(f"tokens must be strings; received {token!r}")
        special = [token for token in (pad, unk, bos, eos) if token is not None]
        if max_size is not None and max_size < len(special):
            raise VocabularyError(f"max_size must be from {len(special)}, the special tokens; received {max_size}")
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [token for token, count in ranked if count >= min_count and token not in special]
        tokens = [*special, *(kept if max_size is None else kept[: max_size - len(special)])]
        return cls(tokens, pad, unk, bos, eos, {token: counts[token] for token in tokens if token in counts})

    @classmethod
    def from_text(cls, lines: Iterable[str], level: Level = "word", **options: Unpack[CollectOptions]) -> "Vocabulary":
        """The vocabulary of texts, by words or characters.

        Args:
            lines: iterable of strings.
            level: "word" or "char".
            options: those of `collect`.
        """
        if isinstance(lines, str):
            raise VocabularyError(f"lines must be a list of texts; received the text {lines!r:.100}")
        return cls.collect((tokenize(line, level) for line in lines), **options)

    def __len__(self) -> int:
        return len(self._tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(tuple(self._tokens))

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} tokens: {', '.join(map(repr, self._tokens[:6]))}{', ...' * (len(self) > 6)})"

    def __getitem__(self, token: str) -> int:
        """The id of a token.

        Raises:
            VocabularyError: a token that there is not.
        """
        try:
            return self._ids[token]
        except KeyError:
            raise VocabularyError(f"there is no token {token!r}") from None

    def token(self, id: int) -> str:
        """The token of an id.

        Raises:
            VocabularyError: an id that there is not.
        """
        if not 0 <= id < len(self._tokens):
            raise VocabularyError(f"ids must be from 0 to {len(self._tokens) - 1}; received {id}")
        return self._tokens[id]

    def encode(
        self,
        tokens: Iterable[str],
        unknown: Unknown = "unk",
        add_bos: bool = False,
        add_eos: bool = False,
        special: bool = True,
    ) -> NDArray[np.int32]:
        """The ids of tokens, int32 [T].

        Args:
            tokens: a sequence of strings.
            unknown: what becomes of tokens that are not known: "unk" the id of the unknown token, "drop" nothing,
                "error" an error.
            add_bos, add_eos: whether to put the begin in front and the end behind.
            special: whether special tokens among the tokens are those; else they are not known.

        Raises:
            VocabularyError: a token that is not known, a special token that there is not, a text instead of tokens.
        """
        if isinstance(tokens, str):
            raise VocabularyError(f"tokens must be a list; received the text {tokens!r:.100}")
        if unknown not in ("unk", "error", "drop"):
            raise VocabularyError(f"unknown must be 'unk', 'error' or 'drop'; received {unknown!r}")
        tokens = list(tokens)
        first, last = ([self._special_id("bos")] if add_bos else []), ([self._special_id("eos")] if add_eos else [])
        ids = [None if not special and token in self._special else self._ids.get(token) for token in tokens]
        if None in ids:
            if unknown == "drop":
                ids = [n for n in ids if n is not None]
            elif unknown == "error" or self.unk is None:
                token = tokens[ids.index(None)]
                raise VocabularyError(f"there is no token {token!r}" + ", and no unknown token" * (unknown == "unk"))
            else:
                ids = [self._ids[self.unk] if n is None else n for n in ids]
        return np.array([*first, *ids, *last], np.int32)

    def decode(self, ids: ArrayLike, skip_special: bool = True) -> list[str]:
        """The tokens of ids.

        Args:
            ids: integers.
            skip_special: whether to leave out the special tokens.

        Raises:
            VocabularyError: an id that there is not.
        """
        tokens = map(self.token, _as_list(ids))
        return [token for token in tokens if not skip_special or token not in self._special]

    def _special_id(self, name):
        token = getattr(self, name)
        if token is None:
            raise VocabularyError(f"the vocabulary has no {name} token")
        return self._ids[token]

    def to_json(self) -> dict[str, Any]:
        """The vocabulary as JSON, from which `from_json` makes it again."""
        special = {name: getattr(self, name) for name in _SPECIAL}
        counts = [self.counts.get(token) for token in self._tokens] if self.counts else None
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "tokens": list(self._tokens),
            "special": special,
            "counts": counts,
        }

    @classmethod
    def from_json(cls, data: Any) -> "Vocabulary":
        """The vocabulary that `to_json` wrote.

        Raises:
            VocabularyError: anything that `to_json` does not write, or of a later version.
        """
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise VocabularyError(f"it is no vocabulary of kseq: {data!r:.100}")
        if data.get("version") != _VERSION:
            raise VocabularyError(f"the version must be {_VERSION}; received {data.get('version')!r}")
        tokens, special, counts = data.get("tokens"), data.get("special"), data.get("counts")
        if not isinstance(tokens, list) or not isinstance(special, dict) or set(special) != set(_SPECIAL):
            raise VocabularyError(f"a vocabulary must have tokens and the special {_SPECIAL}; received {data!r:.100}")
        if counts is not None and (not isinstance(counts, list) or len(counts) != len(tokens)):
            raise VocabularyError(f"counts must be one for each token; received {counts!r:.100}")
        if not all(token is None or isinstance(token, str) for token in special.values()):
            raise VocabularyError(f"special tokens must be strings; received {special}")
        if not all(isinstance(token, str) for token in tokens):
            raise VocabularyError("tokens must be strings")
        pairs = {token: n for token, n in zip(tokens, counts or (), strict=False) if n is not None}
        return cls(tokens, **special, counts=pairs)

    def save(self, path: AnyPath) -> None:
        """Write the vocabulary to a JSON file, written aside and renamed."""
        from .store.aside import Aside

        aside = Aside(path)
        try:
            with open(aside.temporary, "w", encoding="utf-8") as file:
                json.dump(self.to_json(), file)
            aside.commit()
        except BaseException:
            aside.discard()
            raise

    @classmethod
    def load(cls, path: AnyPath) -> "Vocabulary":
        """Read a vocabulary that `save` wrote.

        Raises:
            VocabularyError: a damaged file, or one of something else.
        """
        try:
            with open(path, encoding="utf-8") as file:
                data = json.load(file)
        except (ValueError, RecursionError) as error:
            raise VocabularyError(f"{os.fspath(path)}: it is no JSON: {error}") from None
        try:
            return cls.from_json(data)
        except VocabularyError as error:
            raise VocabularyError(f"{os.fspath(path)}: {error}") from None


def _is_count(n):
    return isinstance(n, int) and not isinstance(n, bool) and n >= 0


def _as_list(ids: ArrayLike) -> list[int]:
    ids = np.asarray(ids)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise VocabularyError(f"ids must be integers [T]; received {ids.dtype} {list(ids.shape)}")
    return ids.tolist()
