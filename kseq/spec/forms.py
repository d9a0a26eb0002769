"""The two forms that mappings have in a spec: sections with known keys, and `Type: {arguments}` pairs."""

from collections.abc import Iterable
from typing import Any

from .errors import Collector, article, listed, shorten, shown
from .node import UNKNOWN, Node

CALL_KEYS = ("id", "inputs", "share")


def mapping(node: Node | None, path: str, problems: Collector) -> dict[str, Node]:
    """The items of a mapping; none where there is no node."""
    if node is None or node.value is UNKNOWN:
        return {}
    if not isinstance(node.value, dict):
        problems.add(f"must be a mapping; received {shown(node.value)}", node, path)
        return {}
    return node.value


def check_keys(node: Node, known: Iterable[str], path: str, problems: Collector) -> set[str]:
    """Refuses unknown keys; returns known ones that they may have meant."""
    meant = set()
    for key in node.value if isinstance(node.value, dict) else ():
        if key not in known:
            hint = problems.near(key, known)
            meant |= {name for name in known if hint and f"`{name}`" in hint}
            hint = hint or f"known here are {listed(known)}"
            problems.add(f"unknown key `{shorten(key)}`", node.keys[key], path, hint)
    return meant


def pair(node: Node, path: str, what: str, problems: Collector) -> tuple[str | None, Any, Any]:
    """Name, its place, and the arguments of a mapping of one; `None` as the name where it is none."""
    if node.value is UNKNOWN:
        problems.again()
        return None, None, None
    what = f"{article(what)} {what}"
    if isinstance(node.value, str):
        hint = f"write `{shorten(node.value)}: {{}}`"
        problems.add(f"{what} is one `Type: {{arguments}}` pair; received {shown(node.value)}", node, path, hint)
    elif not isinstance(node.value, dict) or len(node.value) != 1:
        size = f"{len(node.value)} keys" if isinstance(node.value, dict) else shown(node.value)
        hint = None
        if isinstance(node.value, dict) and set(node.value) & {*CALL_KEYS, "name"}:
            hint = "`id`, `inputs` and `name` belong into the arguments"
        problems.add(f"{what} is one `Type: {{arguments}}` pair; received {size}", node, path, hint)
    else:
        ((name, given),) = node.value.items()
        if given.value is None:
            given = Node({}, given.line, given.column)
        if isinstance(given.value, dict):
            return name, node.keys[name], given
        problems.add(f"arguments are a mapping; received {shown(given.value)}", given, f"{path}.{shorten(name)}")
    return None, None, None
