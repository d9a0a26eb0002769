"""Text, bytes, files and mappings to the positioned tree."""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from .errors import Collector, Problem, SpecError
from .node import Limits, Node, SourceText, from_python, raised
from .read_json import read_json
from .read_yaml import read_yaml

SUFFIXES = (".yaml", ".yml", ".json")


def read(spec: Any, limits: Limits) -> tuple[Node, Collector]:
    """The tree of a spec and a collector for what is wrong with it.

    Args:
        spec: a path, the text itself (str or bytes), or a mapping. A str is a path where it is one line that ends as
            the names of specs do, and text otherwise.
        limits: how large it may be.

    Raises:
        SpecError: no such file, or no YAML or JSON.
    """
    if isinstance(spec, Mapping):
        problems = Collector(SourceText("<mapping>"))
        return from_python(spec, problems, limits), problems
    if isinstance(spec, os.PathLike) or (isinstance(spec, str) and _is_path(spec)):
        return _read_file(spec, limits)
    return read_text(spec, limits)


def read_text(text: str | bytes, limits: Limits) -> tuple[Node, Collector]:
    """The tree of a spec's text, str or bytes, and a collector; no file is opened, whatever the text."""
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"a spec is a path, text, bytes or a mapping; received {text!r} of type {type(text).__name__}")
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return _parse(_decoded("<text>", data, limits), limits)


def _read_file(path, limits):
    try:
        with pathlib.Path(path).open("rb") as file:
            data = file.read(limits.bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError([Problem(f"cannot be read: {reason}", source=str(path))]) from error
    source = _decoded(str(path), data, limits)
    if not _KSEQ_KEY.search(source.text):
        # It may be any file, whose contents are no business of whoever reads the error.
        Collector(SourceText(source.name)).stop("no spec: the key `kseq` is missing", hint="begin with `kseq: 1`")
    return _parse(source, limits)


def _decoded(name, data, limits) -> SourceText:
    problems = Collector(SourceText(name))
    if len(data) > limits.bytes:
        problems.stop(f"larger than {limits.bytes} bytes; {raised('bytes')}")
    for wide, marks in (("UTF-32", _UTF_32), ("UTF-16", _UTF_16)):
        if marks.match(data):
            problems.stop(f"must be UTF-8; received {wide}", hint="save it as UTF-8")
    try:
        return SourceText(name, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        problems.stop(f"must be UTF-8; received the byte 0x{data[error.start]:02x} at offset {error.start}")


def _parse(source, limits):
    problems = Collector(source)
    strict = source.name.lower().endswith(".json")
    is_json = strict or source.text.lstrip()[:1] == "{"
    tree = read_json(source, problems, limits, strict) if is_json else None
    if tree is None:  # YAML takes the flow mappings that JSON does not
        tree = read_yaml(source, problems, limits)
    return tree, problems


def _is_path(text):
    return text.lower().endswith(SUFFIXES) and len(text.splitlines()) == 1 and text.lstrip()[:1] != "{"


def read_value(text: str) -> Any:
    """The value of a piece of YAML by the rules of specs, as for a variable on a command line.

    Raises:
        SpecError: no YAML.
    """
    problems = Collector(SourceText("<value>", text))
    value = read_yaml(problems.source, problems, Limits()).plain()
    problems.check()
    return value


_KSEQ_KEY = re.compile(r"""(?:^|[{,\s])["']?kseq["']?\s*:""")
# Byte order marks, or the zeros of the first characters, of which none is in a spec.
_UTF_16 = re.compile(rb"\xff\xfe|\xfe\xff|\0[^\0]\0|[^\0]\0[^\0]\0")
_UTF_32 = re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff|\0\0\0[^\0]|[^\0]\0\0\0")
