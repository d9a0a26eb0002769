"""Patterns of axes in the notation of einops, as `"(a b) c -> b (a c)"`."""

import dataclasses
import itertools
import math
import re
from typing import Any

from ...annotations import Shape

Groups = tuple[tuple[str, ...], ...]
_TOKEN = re.compile(r"\s*(->|\.\.\.|[()]|\w+|\S)")


@dataclasses.dataclass(frozen=True)
class Pattern:
    """The axes before and after, each a group of named axes that are one; a group without any is of size one.

    Args:
        left: groups before.
        right: groups after, of the same names.
    """

    left: Groups
    right: Groups

    @classmethod
    def of(cls, text: str) -> "Pattern":
        """The pattern that a text is.

        Raises:
            ValueError: a text that is none, or one of other names on the right than on the left.
        """
        sides = [_groups(side, text) for side in text.split("->")] if isinstance(text, str) else []
        if len(sides) != 2:
            raise ValueError(f"`pattern` must be of the form 'left -> right'; received {text!r}")
        names = [sorted(name for group in side for name in group) for side in sides]
        for side in names:
            for name, following in itertools.pairwise(side):
                if name == following:
                    raise ValueError(f"`pattern` names {name!r} twice on one side; received {text!r}")
        if names[0] != names[1]:
            raise ValueError(f"`pattern` must name the same axes on both sides; received {text!r}")
        if any("..." in group and len(group) > 1 for group in sides[0]):
            raise ValueError(f"`pattern` may not have '...' within brackets on the left; received {text!r}")
        return cls(*sides)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order in which they stand on the left."""
        return tuple(name for group in self.left for name in group)

    def of_rank(self, rank: int) -> "Pattern":
        """The pattern for values of so many axes, with names in the place of `...`."""
        many = rank - len(self.left) + 1
        if ("...",) not in self.left or many < 0:
            return self
        names = tuple(f"...{i}" for i in range(many))

        def named(groups):
            for group in groups:
                if group == ("...",):
                    yield from ((name,) for name in names)
                else:
                    yield tuple(n for name in group for n in (names if name == "..." else (name,)))

        return Pattern(tuple(named(self.left)), tuple(named(self.right)))

    def sizes(self, shape: Any, lengths: dict[str, int]) -> dict[str, Any]:
        """The size of each name, of the sizes of the axes on the left; `None` follows from one that is `None`.

        Raises:
            ValueError: axes that do not fit the pattern.
        """
        if len(shape) != len(self.left):
            raise ValueError(f"the pattern {self} takes {len(self.left)} axes; received shape {tuple(shape)}")
        found: dict[str, Any] = {}
        for group, size in zip(self.left, shape, strict=True):
            unknown = [name for name in group if name not in lengths]
            known = math.prod(lengths[name] for name in group if name in lengths)
            if len(unknown) > 1:
                raise ValueError(f"the pattern {self} needs `axes_lengths` of {' or '.join(map(repr, unknown))}")
            if size is not None and (size % known if unknown else size != known):
                raise ValueError(f"the pattern {self} cannot divide an axis of size {size} by {known}")
            found |= {name: lengths[name] if name in lengths else size and size // known for name in group}
        return found

    @property
    def order(self) -> tuple[int, ...]:
        """For each name on the right its place on the left."""
        return tuple(self.names.index(name) for group in self.right for name in group)

    def __str__(self) -> str:
        return repr(" -> ".join(" ".join(map(_in_brackets, side)) for side in (self.left, self.right)))


def check_lengths(pattern: Pattern, axes_lengths: dict[str, int]) -> None:
    """Refuse lengths of axes that a pattern does not name.

    Raises:
        ValueError: such a name.
    """
    for name in axes_lengths:
        if name not in pattern.names or name == "...":
            raise ValueError(f"`axes_lengths` names {name!r}, which the pattern {pattern} does not")


def shape_of(groups: Groups, sizes: dict[str, int]) -> Shape:
    """The sizes of groups of names."""
    return tuple(math.prod(sizes[name] for name in group) for group in groups)


def _groups(side, text) -> Groups:
    found, within = [], None
    for token in _TOKEN.findall(side):
        if token == "(" and within is None:
            within = []
        elif token == ")" and within is not None:
            found.append(tuple(within))
            within = None
        elif token == "1" or token == "..." or token.isidentifier():
            names = () if token == "1" else (token,)
            if within is None:
                found.append(names)
            else:
                within += names
        else:
            raise ValueError(f"`pattern` may not have {token!r} there; received {text!r}")
    if within is not None:
        raise ValueError(f"`pattern` must close its brackets; received {text!r}")
    return tuple(found)


def _in_brackets(group):
    return group[0] if len(group) == 1 else f"({' '.join(group)})"
