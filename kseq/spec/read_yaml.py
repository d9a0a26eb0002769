"""YAML to the positioned tree, by PyYAML's parser and rules of our own that leave nothing to guess.

PyYAML's loaders resolve scalars as YAML 1.1 does (`no` is false, `1e-3` is text) and follow tags and aliases, through
which small files become code or huge trees. Here its parser's events are composed instead: no tags, anchors, aliases,
merge keys or second documents, duplicate keys are errors, and depth and size are limited while reading.
"""

import yaml
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from .errors import Collector, SpecError, shorten
from .node import UNKNOWN, Limits, Node, SourceText, checked, is_new, plain_scalar, raised


def read_yaml(source: SourceText, problems: Collector, limits: Limits) -> Node:
    """The tree of a YAML text.

    Raises:
        SpecError: a syntax error or a limit; what is well-formed but refused is left in `problems`.
    """
    try:
        return _Composer(source, problems, limits).document()
    except SpecError:
        raise
    except yaml.reader.ReaderError as error:
        place = Node(None, *source.place(max(error.position, 0)))
        problems.stop(f"cannot be read: the character U+{_code(error.character):04X} is not allowed in YAML", place)
    except yaml.MarkedYAMLError as error:
        message, mark, hint = _in_words(error, source)
        problems.stop(f"not YAML: {shorten(message)}", Node(None, mark.line + 1, mark.column + 1), hint=hint)
    except (ValueError, OverflowError):  # from PyYAML's `chr` of an escape beyond Unicode
        problems.stop("not YAML: an escape that is no character")


def _in_words(error, source):
    """What an error of PyYAML means, where, and what to do about it."""
    message, mark, begin = error.problem or error.context, error.problem_mark or error.context_mark, error.context_mark
    for what, opens, closes in (("mapping", "{", "}"), ("sequence", "[", "]")):
        if error.context == f"while parsing a flow {what}" and message.startswith("expected ','"):
            place = f"line {mark.line + 1}, column {mark.column + 1}"
            hint = f"close it by `{closes}`, or put `,` between its parts"
            return f"this `{opens}` is not closed, and {place} cannot be in it", begin, hint
    if message.startswith("expected <block end>"):
        message = "the line is indented otherwise than what it belongs to"
        return message, mark, f"line {begin.line + 1} begins in column {begin.column + 1}"
    if message.startswith("mapping values are not allowed") and mark.line:
        before = source.line(mark.line + 1)[: mark.column]
        if before[:1].isspace() and not before.lstrip().startswith("-") and " " not in before.strip():
            return message, mark, f"is line {mark.line + 1} indented too far?"
    return message, mark, None


def _code(character):
    return character if isinstance(character, int) else ord(character)


class _Parser(Reader, Scanner, Parser):
    def __init__(self, text):
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


class _Composer:
    def __init__(self, source, problems, limits):
        self.parser = _Parser(source.text)
        self.problems, self.limits, self.count = problems, limits, 0

    def document(self):
        self.parser.get_event()  # the stream's start
        if self.parser.check_event(yaml.StreamEndEvent):
            return Node(None, 1, 1)
        self.parser.get_event()  # the document's start
        root = self.node(0)
        self.parser.get_event()  # the document's end
        if not self.parser.check_event(yaml.StreamEndEvent):
            self.problems.stop("a file holds one spec; received a second document", _place(self.parser.peek_event()))
        return root

    def node(self, depth):
        event = self.parser.get_event()
        place = _place(event)
        self.count += 1
        if self.count > self.limits.nodes:
            self.problems.stop(f"more than {self.limits.nodes} values; {raised('nodes')}", place)
        if depth > self.limits.depth:
            self.problems.stop(f"nested more than {self.limits.depth} deep; {raised('depth')}", place)
        if isinstance(event, yaml.AliasEvent):
            self.problems.add(
                f"aliases (`*{shorten(event.anchor)}`) are not allowed", place, hint="use `vars` or `blocks`"
            )
            return Node(UNKNOWN, place.line, place.column)
        if event.anchor is not None:
            self.problems.add(
                f"anchors (`&{shorten(event.anchor)}`) are not allowed", place, hint="use `vars` or `blocks`"
            )
        if event.tag is not None:
            hint = "write the value itself; quote it where it is text"
            self.problems.add(f"tags (`{shorten(event.tag)}`) are not allowed", place, hint=hint)
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event, place)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not self.parser.check_event(yaml.SequenceEndEvent):
                items.append(self.node(depth + 1))
            self.parser.get_event()
            return Node(items, place.line, place.column)
        return self.mapping(depth, place)

    def scalar(self, event, place):
        value = event.value if event.style else plain_scalar(event.value)
        return checked(Node(value, place.line, place.column), self.problems)

    def mapping(self, depth, place):
        items, keys = {}, {}
        while not self.parser.check_event(yaml.MappingEndEvent):
            text = self.parser.peek_event()
            key = self.node(depth + 1)
            value = self.node(depth + 1)
            if not isinstance(text, yaml.ScalarEvent):
                self.problems.add("a key must be text", key)
                continue
            name = text.value
            if name == "<<" and not text.style:
                self.problems.stop("merge keys (`<<`) are not allowed", key, hint="use `vars` or `blocks`")
            elif is_new(name, key, keys, self.problems):
                items[name], keys[name] = value, key
        self.parser.get_event()
        return Node(items, place.line, place.column, keys)


def _place(event):
    mark = event.start_mark
    return Node(None, mark.line + 1, mark.column + 1)
