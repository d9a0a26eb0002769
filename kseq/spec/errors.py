"""`SpecError`: everything that is wrong with a spec, each with its place."""

import dataclasses
import difflib
import itertools
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from rich.cells import cell_len

from ..printable import printable

if TYPE_CHECKING:
    from .node import Node, SourceText

_SHOWN_ERRORS = 50
_MOST_PROBLEMS = 100  # after which reading stops
_MOST_COMPARISONS = 2_000_000  # of letters, for all the hints of one spec
_SHOWN_TEXT = 120


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a spec.

    Attributes:
        message: what is wrong.
        path: where in the spec, as in `layers[1].Repeat.layers[0].Dense`; empty for the file as a whole.
        hint: what to do about it, or `None`.
        source: the file's name, `<text>` or `<mapping>`.
        line, column: the place in the text, from 1; `None` in a mapping.
        text: that line.
    """

    message: str
    path: str = ""
    hint: str | None = None
    source: str = "<text>"
    line: int | None = None
    column: int | None = None
    text: str | None = None

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}:{self.column}"
        head = f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"
        head, hint = printable(head, keep=""), printable(self.hint or "", keep="")
        if self.text is None:
            return f"{head}; {hint}" if hint else head
        number, (text, caret) = str(self.line), _excerpt(self.text, (self.column or 1) - 1)
        line = f" {number} | {text}".rstrip()
        mark = f" {' ' * len(number)} | {' ' * caret}^ {hint}".rstrip()
        return f"{head}\n{line}\n{mark}"


class SpecError(ValueError):
    """A spec that cannot become a model; the message lists all that is wrong with it.

    Attributes:
        problems: the list of `Problem`, in the order of the text.

    Example:
        >>> import kseq
        >>> try:
        ...     kseq.load_spec({"kseq": 1, "input": {"shape": [None, 8]}, "layers": [{"Dense": {"unit": 2}}]})
        ... except kseq.SpecError as error:
        ...     print(error.problems[0].hint)
        did you mean `units`?
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: list[Problem] = list(problems)
        shown = [str(problem) for problem in self.problems[:_SHOWN_ERRORS]]
        if len(self.problems) > _SHOWN_ERRORS:
            shown.append(f"and {len(self.problems) - _SHOWN_ERRORS} more")
        super().__init__("\n".join(shown))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)


class Collector:
    """Gathers problems of one spec; the same one twice (a block used again) is listed once.

    Attributes:
        source: the text that they are in.
        wrong: how often something was found to be wrong, also again; a part is right if it has not grown.
    """

    source: "SourceText"
    wrong: int

    def __init__(self, source: "SourceText") -> None:
        self.source, self.wrong = source, 0
        self._found, self._comparisons = {}, Comparisons()

    def again(self) -> None:
        """Note that a value is wrong that has been reported already."""
        self.wrong += 1

    def near(self, name: str, known: Iterable[str]) -> str | None:
        """A hint with the known name nearest to `name`, or `None` if none is near, or too much was compared already."""
        return did_you_mean(name, known, self._comparisons)

    def add(self, message: str, node: "Node | None" = None, path: str = "", hint: "str | Near | None" = None) -> None:
        self.wrong += 1
        if isinstance(hint, Near):
            hint = self.near(hint.name, hint.known)
        line, column = (None, None) if node is None else (node.line, node.column)
        text = None if line is None else self.source.line(line)
        problem = Problem(message, path, hint, self.source.name, line, column, text)
        place = (line, column) if line is not None else path
        self._found.setdefault((place, message), problem)
        if len(self._found) >= _MOST_PROBLEMS:
            self.check()

    def stop(
        self, message: str, node: "Node | None" = None, path: str = "", hint: "str | Near | None" = None
    ) -> NoReturn:
        """Add a problem after which reading on makes no sense."""
        self.add(message, node, path, hint)
        self.check()
        raise AssertionError(message)  # there is a problem, which was raised

    def check(self) -> None:
        """Raise what was gathered, if anything was.

        Raises:
            SpecError: something was.
        """
        if self._found:
            problems = self._found.values()
            raise SpecError(sorted(problems, key=lambda p: (p.line or 0, p.column or 0)))


OTHER_CHARACTERS = "written with other characters; write it alike (names are compared in NFC, Unicode's form)"


def alike(name: str, other: str) -> bool:
    """Whether two names that are not the same are spellings of one, as an accent has them."""
    return name != other and unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", other)


class Near(NamedTuple):
    """A hint that is the name nearest to another, if one is near."""

    name: str
    known: Iterable[str]


class Comparisons:
    """How much may still be compared for hints."""

    def __init__(self) -> None:
        self.left: int = _MOST_COMPARISONS

    def take(self, count: int) -> bool:
        """Whether there is as much left."""
        self.left -= count
        return self.left >= 0


def did_you_mean(name: str, known: Iterable[str], comparisons: Comparisons | None = None) -> str | None:
    """A hint with the known name nearest to `name`, or `None` if none is near."""
    known, comparisons = list(known), comparisons or Comparisons()
    if len(name) > _SHOWN_TEXT or not comparisons.take(len(known)):
        return None
    same = None if name.isascii() else next((other for other in known if alike(name, other)), None)
    if same:
        return f"`{same}` looks the same, {OTHER_CHARACTERS}"
    tail = {other.rpartition(".")[2].lower(): other for other in reversed(known)}
    if name.lower() in tail:
        return f"did you mean `{tail[name.lower()]}`?"
    # Names of other lengths are not near by the ratio that difflib asks for; it takes a time of the product of two.
    close = (other for other in known if 3 * len(name) <= 7 * len(other) and 3 * len(other) <= 7 * len(name))
    compared = itertools.takewhile(lambda other: comparisons.take(len(name) * len(other)), close)
    near = difflib.get_close_matches(name, compared, n=1)
    return f"did you mean `{near[0]}`?" if near else None


def shown(value: Any) -> str:
    """A value of a spec as an error message shows it."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case str():
            return repr(shorten(value))
    return str(value)


def shorten(text: object, most: int = _SHOWN_TEXT) -> str:
    """Text that fits into a message and into any terminal: no control characters, not too long."""
    text = printable(text, keep="")
    return text if len(text) <= most else text[:most] + "..."


def article(noun: str) -> str:
    """The article in front of a noun."""
    return "an" if noun[0] in "aeiou" else "a"


def listed(names: Iterable[object]) -> str:
    """Names as an error message lists them."""
    names = [f"`{shorten(name)}`" for name in names][:20]
    return ", ".join(names) or "none"


def _excerpt(text, column):
    """The part of a line around a column, and the cells of a terminal in front of the column."""
    start = max(column - _SHOWN_TEXT // 2, 0) if len(text) > _SHOWN_TEXT else 0
    before, after = shorten(text[start:column]), shorten(text[column : start + _SHOWN_TEXT])
    return before + after, cell_len(before)
