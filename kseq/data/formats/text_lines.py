"""Text files: a record a line, or the text in pieces of one length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...annotations import AnyPaths
from ...arguments import as_integer
from ..errors import FormatError
from ..store.schema import TEXT, Field, Schema
from .base import Format, RecordSource
from .files import files_of

if TYPE_CHECKING:
    from ..text import Level, Unknown, Vocabulary


class TextSource(RecordSource):
    """Lines of UTF-8 text, without their line ends; or, with `window`, the text of each file in pieces of one length.

    Args:
        path: a file, a pattern, a folder, or a list of files.
        vocabulary: `kseq.data.text.Vocabulary`; with it records are `{"tokens": int32 [T]}`, else `{"text": str}`.
        level: what tokens are: "word", "char", or "byte", for which the ids are the bytes of UTF-8 and no vocabulary
            is needed.
        unknown, add_bos, add_eos: as `Vocabulary.encode` takes them.
        window: tokens of a record. A text goes on over the ends of its lines, which are tokens too (words have none);
            each record begins with the last token of the one before it, so that with `kseq.data.shift` every token of
            a file but its first is predicted once. What is left at the end of a file is a shorter record.

    Raises:
        FormatError: what is no UTF-8, or a token that is not known; the error names the line.
        ValueError: a vocabulary or its options with bytes, a window without tokens or below 2.
    """

    metadata: Mapping[str, Any]

    schema: Schema | None

    def __init__(
        self,
        path: AnyPaths,
        vocabulary: Vocabulary | None = None,
        level: Level | Literal["byte"] = "word",
        unknown: Unknown = "unk",
        add_bos: bool = False,
        add_eos: bool = False,
        window: int | None = None,
    ) -> None:
        self._files, self._vocabulary = files_of(path, FORMAT.suffixes), vocabulary
        self._window = None if window is None else as_integer("window", window, 2)
        self._encode = _encoding(vocabulary, level, {"unknown": unknown, "add_bos": add_bos, "add_eos": add_eos})
        if self._window is not None and (self._encode is None or add_bos or add_eos):
            raise ValueError(
                f"window={window} cuts a text into tokens and needs a vocabulary, or level='byte', and neither add_bos "
                f"nor add_eos; received vocabulary={vocabulary}, level={level!r}, add_bos={add_bos}, add_eos={add_eos}"
            )
        self.schema = Schema({"text": Field(TEXT)} if self._encode is None else {"tokens": Field(np.int32, (None,))})
        if self._encode is not None:
            self.metadata = {"level": level} | ({} if vocabulary is None else {"vocabulary": vocabulary.to_json()})

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path in self._files:
            if self._window is None:
                yield from self._lines(path)
            else:
                yield from ({"tokens": piece} for piece in _pieces(self._lines(path), self._window))

    def _lines(self, path) -> Iterator[dict[str, Any]]:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    if self._window is None:
                        text = text.removesuffix("\n").removesuffix("\r")
                    yield {"text": text} if self._encode is None else {"tokens": self._encode(text)}
                except ValueError as error:
                    raise FormatError(f"line {number}: {error}", path) from None


def _encoding(vocabulary, level, how):
    """What makes ids int32 [T] of a text, or `None` where texts stay what they are."""
    if level == "byte":
        if vocabulary is not None or how["add_bos"] or how["add_eos"]:
            raise ValueError(
                f"the ids of bytes are the bytes; level='byte' takes no vocabulary, add_bos or add_eos; received "
                f"vocabulary={vocabulary}, add_bos={how['add_bos']}, add_eos={how['add_eos']}"
            )
        return lambda text: np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    from ..text import tokenize

    tokenize("", level)
    if vocabulary is None:
        return None
    return lambda text: vocabulary.encode(tokenize(text, level), **how)


def _pieces(records, window):
    """The tokens of records one after the other in pieces of `window`, each of which begins with the last token."""
    held: list[Any] = []
    count = 0
    for record in records:
        held.append(record["tokens"])
        count += len(held[-1])
        if count < window:
            continue
        tokens = np.concatenate(held)
        starts = range(0, count - window + 1, window - 1)
        for start in starts:
            yield tokens[start : start + window]
        held = [tokens[starts[-1] + window - 1 :]]
        count = len(held[0])
    if count > 1:
        yield np.concatenate(held)


FORMAT = Format("text", (".txt",), TextSource)
