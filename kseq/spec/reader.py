"""Text, bytes, files and mappings to the positioned tree."""

import os
import pathlib
from collections.abc import Mapping

from .errors import Collector, Problem, SpecError, shorten
from .node import RAISE, Limits, Node, SourceText, from_python
from .read_json import read_json
from .read_yaml import read_yaml


def read(spec, limits: Limits) -> tuple[Node, Collector]:
    """The tree of a spec and a collector for what is wrong with it.

    Args:
        spec: a path, the text itself (str or bytes), or a mapping. A str is text where it has a line break, a `: ` or a
            brace in front, and a path otherwise.
        limits: how large it may be.

    Raises:
        SpecError: no such file, or no YAML or JSON.
    """
    if isinstance(spec, Mapping):
        problems = Collector(SourceText("<mapping>"))
        return from_python(spec, problems, limits), problems
    if not isinstance(spec, (str, bytes, os.PathLike)):
        raise TypeError(f"a spec is a path, text, bytes or a mapping; received {spec!r} of type {type(spec).__name__}")
    name, data = _load(spec, limits)
    problems = Collector(SourceText(name))
    if len(data) > limits.bytes:
        problems.stop(f"larger than {limits.bytes} bytes; {RAISE} `bytes`")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.stop(f"must be UTF-8; received the byte 0x{data[error.start]:02x} at offset {error.start}")
    problems.source = source = SourceText(name, text)
    strict = name.lower().endswith(".json")
    tree = read_json(source, problems, limits, strict) if strict or text.lstrip()[:1] == "{" else None
    if tree is None:  # YAML takes the flow mappings that JSON does not
        tree = read_yaml(source, problems, limits)
    return tree, problems


def read_value(text: str):
    """The value of a piece of YAML by the rules of specs, as for a variable on a command line.

    Raises:
        SpecError: no YAML.
    """
    problems = Collector(SourceText("<value>", text))
    value = read_yaml(problems.source, problems, Limits()).plain()
    problems.check()
    return value


def _load(spec, limits):
    """The name and the bytes of a spec that is text or a file."""
    if isinstance(spec, bytes):
        return "<text>", spec
    if isinstance(spec, str) and ("\n" in spec or ": " in spec or spec.lstrip()[:1] in ("{", "")):
        return "<text>", spec.encode("utf-8", "surrogatepass")
    path = pathlib.Path(spec)
    try:
        with path.open("rb") as file:
            return str(spec), file.read(limits.bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        hint = "" if isinstance(spec, os.PathLike) else "; nor is it a spec's text"
        raise SpecError([Problem(f"cannot be read: {reason}{hint}", source=shorten(str(spec)))]) from error
