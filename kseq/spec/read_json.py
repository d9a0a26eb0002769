"""JSON to the positioned tree, by the standard library's scanner."""

import json
import json.decoder
import json.scanner
import math
import re
from typing import Any

from .errors import Collector
from .node import LONGEST_INTEGER, Limits, Node, SourceText, checked, is_new, raised

# Of these modules type checkers do not know what is used here, which is in every Python nevertheless.
_scanner: Any = json.scanner
_decoder: Any = json.decoder


def read_json(source: SourceText, problems: Collector, limits: Limits, strict: bool = True) -> Node | None:
    """The tree of a JSON text; `None` for a text that is no JSON, unless `strict`.

    Raises:
        SpecError: a limit, or a syntax error where `strict`; what is refused besides is left in `problems`.
    """
    decoder = _Decoder(source, problems, limits)
    try:
        return decoder.document()
    except json.JSONDecodeError as error:
        if not strict:
            return None
        for start in (error.pos, len(source.text[: error.pos].rstrip()) - 1):  # Pythons differ
            if start >= 0 and (comma := _TRAILING_COMMA.match(source.text, start)):
                place = Node(None, *source.place(start))
                problems.stop(f"not JSON: a comma before `{comma[1]}`", place, hint="remove the comma")
        problems.stop(f"not JSON: {error.msg}", Node(None, *source.place(error.pos)))


class _Decoder(json.JSONDecoder):
    """The standard decoder with a scanner that makes every value a node.

    The library tells hooks no places, but its scanner is told where each value begins and tells where it ends; between
    the end of one value and the start of the next lies but one string, the key.
    """

    def __init__(self, source: SourceText, problems: Collector, limits: Limits) -> None:
        super().__init__(parse_int=_integer, parse_constant=lambda name: math.nan)
        self.source, self.problems, self.limits = source, problems, limits
        self.depth = self.count = 0
        self.parse_object, self.parse_array = self._object, self._array
        self._scan: Any = _scanner.py_make_scanner(self)

    def document(self):
        text = self.source.text
        start = _after(_SPACE, text, 0)
        try:
            (node, _), end = self.scan(text, start)
        except StopIteration as error:
            raise json.JSONDecodeError("Expecting value", text, error.value) from None
        end = _after(_SPACE, text, end)
        if end != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
        return node

    def scan(self, text, start):
        """((node, where it ends), where it ends): the end again as part of the value, for the keys' places."""
        place = self.source.place(start)
        self.count += 1
        if self.count > self.limits.nodes:
            self.problems.stop(f"more than {self.limits.nodes} values; {raised('nodes')}", Node(None, *place))
        if self.depth > self.limits.depth:
            self.problems.stop(f"nested more than {self.limits.depth} deep; {raised('depth')}", Node(None, *place))
        self.depth += 1
        value, end = self._scan(text, start)
        self.depth -= 1
        keys = {}
        if isinstance(value, _Pairs):
            value, keys = self.mapping(value, start + 1)
        elif isinstance(value, list):
            value = [node for node, _ in value]
        node = checked(Node(value, *place, keys), self.problems)
        return (node, end), end

    def _object(self, start, strict, *hooks):
        return _decoder.JSONObject(start, strict, self.scan, None, _Pairs, {})

    def _array(self, start, scan):
        return _decoder.JSONArray(start, self.scan)

    def mapping(self, pairs, end):
        items, keys = {}, {}
        for name, (node, after) in pairs:
            key = Node(name, *self.source.place(_after(_BEFORE_KEY, self.source.text, end)))
            end = after
            checked(key, self.problems)
            if is_new(name, key, keys, self.problems):
                items[name], keys[name] = node, key
        return items, keys


class _Pairs(list):
    """An object's keys and values, told apart from an array's values."""


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where a pattern that always matches ends."""
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _integer(text):
    return int(text) if len(text) <= LONGEST_INTEGER else math.inf


_TRAILING_COMMA = re.compile(r",\s*([}\]])")
_SPACE = re.compile(r"[ \t\n\r]*")
_BEFORE_KEY = re.compile(r"[ \t\n\r,]*")
