"""The positioned tree that YAML, JSON and Python mappings are read into."""

import bisect
import dataclasses
import math
import numbers
import re
from collections.abc import Mapping
from typing import Any

from .errors import OTHER_CHARACTERS, Collector, alike, shorten


@dataclasses.dataclass(frozen=True)
class Limits:
    """How large a spec, and the model that it describes, may be.

    Attributes:
        bytes: of the text.
        nodes: values in the text, and again in all that blocks and variables expand to.
        depth: of values within values, and of layers within layers times four.
        repeats: of one `num_repeats`.
        layers: in the model, repeats counted.
        parameters: weights of the model, counted before they are allocated.
        state: numbers that one stream of the model, and its metrics, hold.

    Example:
        >>> import kseq
        >>> limits = kseq.spec.Limits(parameters=10**9)
    """

    bytes: int = 1_000_000
    nodes: int = 20_000
    depth: int = 64
    repeats: int = 1_000
    layers: int = 2_000
    parameters: int = 100_000_000
    state: int = 100_000_000


DEFAULT_LIMITS = Limits()


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A value with its place.

    Attributes:
        value: `None`, a bool, int, float or str; a list of nodes; or a dict of nodes by key.
        line, column: of the first character, from 1; `None` where there is no text.
        keys: of a mapping: a node for each key.
    """

    value: Any
    line: int | None = None
    column: int | None = None
    keys: dict[str, "Node"] = dataclasses.field(default_factory=dict)

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        return self.value


class SourceText:
    """Where a spec came from: its name and its lines."""

    name: str
    text: str

    def __init__(self, name: str, text: str = "") -> None:
        self.name, self.text = name, text
        self._starts = [0, *(end.end() for end in _LINE_END.finditer(text))]

    def line(self, number: int) -> str:
        """The text of a line, numbered from 1, without its end."""
        return _LINE_END.split(self.text[self._starts[number - 1] :], maxsplit=1)[0]

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, of a character of the text."""
        line = bisect.bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


def from_python(value: Any, problems: Collector, limits: Limits) -> Node:
    """A tree of a Python mapping's values, which have no place."""
    count = 0

    def convert(value, path, depth):
        nonlocal count
        count += 1
        if count > limits.nodes:
            problems.stop(f"more than {limits.nodes} values; {raised('nodes')}")
        if depth > limits.depth:
            problems.stop(f"nested more than {limits.depth} deep; {raised('depth')}")
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    problems.add(f"keys must be text; received {key!r:.100}", path=path)
            items, keys = {}, {}
            for key, item in value.items():
                if isinstance(key, str) and is_new(key, Node(key), keys, problems, path):
                    keys[key] = Node(key)
                    items[key] = convert(item, f"{path}.{key}".lstrip("."), depth + 1)
            return Node(items, keys=keys)
        if isinstance(value, (list, tuple)):
            return Node([convert(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)])
        if isinstance(value, numbers.Real) and not isinstance(value, (bool, int, float)):
            value = int(value) if isinstance(value, numbers.Integral) else float(value)  # NumPy's
        if value is not None and not isinstance(value, (bool, int, float, str)):
            problems.add(
                f"must be a mapping, list, text, number, boolean or null; received {type(value).__name__}", path=path
            )
            value = None
        return checked(Node(value), problems, path)

    return convert(value, "", 0)


def raised(limit: str) -> str:
    """How a limit is raised, as errors say it."""
    return f"give `load_spec` a `kseq.spec.Limits` with more `{limit}`, or the command `--limit {limit}=NUMBER`"


def plain_scalar(text: str) -> Any:
    """The value of an unquoted YAML scalar: YAML 1.2's, so that `no` and `on` are text and `1e-3` a number."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= LONGEST_INTEGER else math.inf
    return float(text) if _FLOAT.fullmatch(text) else text


def checked(node: Node, problems: Collector, path: str = "") -> Node:
    """The node, or an unknown one where its value is a number or text that no argument takes."""
    value = node.value
    infinite = isinstance(value, float) and not math.isfinite(value)
    if infinite or (isinstance(value, int) and abs(value) >= 2**63):
        problems.add("numbers must be finite, and integers below 2**63 in size", node, path)
    elif isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        problems.add("text must not hold half a character (a lone surrogate)", node, path)
    else:
        return node
    return Node(UNKNOWN, node.line, node.column)


def is_new(name: str, key: Node, keys: Mapping[str, Node], problems: Collector, path: str = "") -> bool:
    """Whether a mapping has no such key yet; a second one is a problem.

    Args:
        name: of the key.
        key: its node.
        keys: the nodes of those that were read before.
        problems: the collector.
        path: of the mapping.
    """
    message, first = f"the key `{shorten(name)}` is there already", keys.get(name)
    if first is None and not name.isascii():
        message += f", {OTHER_CHARACTERS}"
        first = next((node for other, node in keys.items() if alike(other, name)), None)
    if first is not None:
        hint = None if first.line is None else f"first in line {first.line}"
        problems.add(message, key, path, hint)
    return first is None


class _Unknown:
    """The value of what has been reported already."""

    def __str__(self) -> str:
        return "something unknown"


UNKNOWN = _Unknown()
_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # those of PyYAML
LONGEST_INTEGER = 20
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
