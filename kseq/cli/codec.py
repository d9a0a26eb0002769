"""What tokens are on a terminal: ids, texts by a vocabulary, or the bytes of UTF-8."""

import argparse
import codecs
import os
import pathlib
import sys
from typing import Any

from .arguments import CommandError

_BYTES = 256


class Ids:
    """Ids as they are.

    Attributes:
        name: what gives ids their meaning.
        size: how many ids there are, or `None` where that is not said.
    """

    name = "ids"
    size: int | None = None

    def __init__(self) -> None:
        self._between = ""

    def prompt(self, args: argparse.Namespace) -> list[int]:
        """The ids that a model goes on from."""
        return args.ids

    def stops(self, args: argparse.Namespace) -> list[Any]:
        """What ends a row."""
        if args.stop is None:
            return []
        try:
            return [[int(part) for part in args.stop.split()]]
        except ValueError:
            raise CommandError(f"--stop with --ids must be of ids; received {args.stop!r}") from None

    def text(self, ids: Any) -> str:
        """What more ids add to the text so far."""
        parts = [str(n) for n in ids]
        text, self._between = self._between * bool(parts) + " ".join(parts), " "
        return text

    def rest(self) -> str:
        """What the text so far still lacks in the end."""
        return ""


class Tokens(Ids):
    """Texts by a vocabulary.

    Args:
        path: of the vocabulary.
        level: what tokens are, or `None` where the vocabulary says it.
    """

    size: int | None

    name = "the vocabulary"

    def __init__(self, path: str, level: str | None) -> None:
        from ..data.text import Vocabulary, tokenize

        self._vocabulary = found = Vocabulary.load(path)
        special = {found.pad, found.unk, found.bos, found.eos}
        one = all(len(token) == 1 for token in found if token not in special)
        self._level: Any = level or ("char" if one else "word")
        self.size, self._split = len(found), lambda text: tokenize(text, self._level)
        self._begun = False

    def prompt(self, args: argparse.Namespace) -> list[int]:
        return self._ids(prompt_text(args), begin=args.begin)

    def stops(self, args: argparse.Namespace) -> list[Any]:
        end = [] if self._vocabulary.eos is None else [self._vocabulary[self._vocabulary.eos]]
        return end if args.stop is None else [*end, self._ids(args.stop)]

    def _ids(self, text, begin=False):
        how = {"unknown": "error", "special": False}
        return self._vocabulary.encode(self._split(text), add_bos=begin, **how).tolist()

    def text(self, ids: Any) -> str:
        """The text of more tokens: between words is a space."""
        tokens = self._vocabulary.decode(ids)
        if self._level == "char":
            return "".join(tokens)
        text, self._begun = " " * (self._begun and bool(tokens)) + " ".join(tokens), self._begun or bool(tokens)
        return text


class Bytes(Ids):
    """Texts whose ids are their bytes in UTF-8.

    A character of which not all bytes are there waits for the others. Bytes that are none of UTF-8, which a model may
    well make, are shown as U+FFFD.
    """

    name = "--level byte"
    size: int | None = _BYTES

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def prompt(self, args: argparse.Namespace) -> list[int]:
        if args.begin:
            raise CommandError("--begin is of a vocabulary, which bytes have none of")
        return _utf8("--prompt", prompt_text(args))

    def stops(self, args: argparse.Namespace) -> list[Any]:
        return [] if args.stop is None else [_utf8("--stop", args.stop)]

    def text(self, ids: Any) -> str:
        return self._decoder.decode(bytes(map(int, ids)))

    def rest(self) -> str:
        return self._decoder.decode(b"", final=True)


def prompt_text(args: argparse.Namespace) -> str:
    """The text of a prompt, or of standard input."""
    if args.prompt != "-":
        return args.prompt
    if sys.stdin is None:
        raise CommandError("the prompt is standard input, which is closed")
    return sys.stdin.read()


def _utf8(name, text):
    """Bytes of a text; those of an argument that is no UTF-8 are what they were."""
    try:
        return list(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        raise CommandError(f"{name} must be text; {error.reason}") from None


def codec_of(args: argparse.Namespace, tokens: int | None, beside: str) -> Ids:
    """What tokens of a model are on the terminal.

    Args:
        args: of the command.
        tokens: that the model gives logits of.
        beside: the ending of a vocabulary beside a model.
    """
    if args.prompt is None:
        return Ids()
    path = args.vocabulary or str(pathlib.Path(args.model).with_suffix("")) + beside
    there = bool(args.vocabulary) or os.path.exists(path)
    if args.level == "byte" and args.vocabulary:
        raise CommandError("the ids of bytes are the bytes; --level byte takes no --vocabulary")
    if args.level == "byte" or (args.level is None and not there and tokens == _BYTES):
        return Bytes()
    if not there:
        raise CommandError(
            f"{args.model}: a text needs a vocabulary: give --vocabulary FILE.json, or keep it beside the model as "
            f"{path}; where tokens are bytes, --level byte; or give --ids"
        )
    return Tokens(path, args.level)
