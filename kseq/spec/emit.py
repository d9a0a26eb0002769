"""Plain data to YAML as people write it: one line for what is small, blocks for what holds layers."""

import re
from typing import Any

import yaml

from .node import plain_scalar

_LINE = 110
_AMBIGUOUS = re.compile(r"[-+.]*[0-9]")


def emit(data: dict[str, Any]) -> str:
    """YAML text of a mapping; reading it gives the mapping again."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_LINE)


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow=False, indentless=False):
        return super().increase_indent(flow, False)  # lists stand further in than their keys

    def ignore_aliases(self, data):
        return True


def _text(dumper, text):
    # PyYAML quotes what its YAML 1.1 takes for something else; other readers take more for numbers.
    style = None if isinstance(plain_scalar(text), str) and not _AMBIGUOUS.match(text) else "'"
    style = style if text.isprintable() else '"'  # with escapes: line breaks are many
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _mapping(dumper, data):
    node = dumper.represent_mapping("tag:yaml.org,2002:map", data.items())
    node.flow_style = not any(map(_holds_mappings, data.values())) and len(str(data)) < _LINE
    return node


def _list(dumper, data):
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=not _holds_mappings(data))


def _holds_mappings(data):
    return isinstance(data, dict) or (isinstance(data, list) and any(map(_holds_mappings, data)))


_Dumper.add_representer(str, _text)
_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(list, _list)
