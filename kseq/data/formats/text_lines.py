"""Text files: a record a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...annotations import AnyPaths
from ..errors import FormatError
from ..store.schema import TEXT, Field, Schema
from .base import Format, RecordSource
from .files import files_of

if TYPE_CHECKING:
    from ..text import Level, Unknown, Vocabulary


class TextSource(RecordSource):
    """Lines of UTF-8 text, without their line ends.

    Args:
        path: a file, a pattern, a folder, or a list of files.
        vocabulary: `kseq.data.text.Vocabulary`; with it records are `{"tokens": int32 [T]}`, else `{"text": str}`.
        level: what tokens are: "word" or "char".
        unknown, add_bos, add_eos: as `Vocabulary.encode` takes them.

    Raises:
        FormatError: what is no UTF-8, or a token that is not known; the error names the line.
    """

    metadata: Mapping[str, Any]

    schema: Schema | None

    def __init__(
        self,
        path: AnyPaths,
        vocabulary: Vocabulary | None = None,
        level: Level = "word",
        unknown: Unknown = "unk",
        add_bos: bool = False,
        add_eos: bool = False,
    ) -> None:
        from ..text import tokenize

        self._files, self._vocabulary = files_of(path, FORMAT.suffixes), vocabulary
        tokenize("", level)
        self._tokenize = lambda line: tokenize(line, level)
        self._how = {"unknown": unknown, "add_bos": add_bos, "add_eos": add_eos}
        self.schema = Schema({"text": Field(TEXT)} if vocabulary is None else {"tokens": Field(np.int32, (None,))})
        if vocabulary is not None:
            self.metadata = {"vocabulary": vocabulary.to_json(), "level": level}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path in self._files:
            with open(path, "rb") as file:
                for number, line in enumerate(file, 1):
                    try:
                        text = (
                            line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n").removesuffix("\r")
                        )
                        if self._vocabulary is None:
                            yield {"text": text}
                            continue
                        tokens = self._vocabulary.encode(self._tokenize(text), **self._how)
                    except ValueError as error:
                        raise FormatError(f"line {number}: {error}", path) from None
                    yield {"tokens": tokens}


FORMAT = Format("text", (".txt",), TextSource)
