"""Specs of older versions of the format, brought up to date before they are checked.

Every step is a pure function of the plain tree of version `n` that gives the tree of version `n + 1`. Renamed layers
and arguments need no step: `kseq.register` takes their former names.
"""

from collections.abc import Callable

from .node import Node

VERSION = 1
MIGRATIONS: dict[int, Callable[[Node], Node]] = {}


def migrate(tree: Node, version: int) -> Node:
    """A tree of `version` as one of `VERSION`."""
    for number in range(version, VERSION):
        tree = MIGRATIONS[number](tree)
    return tree
