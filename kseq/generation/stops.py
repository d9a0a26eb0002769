"""When a row ends."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arguments import as_integer


class Stops:
    """What ends a row, besides its number of steps.

    Args:
        stop: a token; a list of tokens, or of lists of tokens, of which any ends a row; or a function of the new steps
            of a row so far [N, ...], in NumPy, that says whether they are the last.
        vocabulary: tokens that there are, or `None` where steps are no tokens.

    Attributes:
        tokens: those that end a row, int32 [N].

    Raises:
        TypeError: something else.
        ValueError: tokens that there are not.
    """

    tokens: np.ndarray

    def __init__(self, stop: Any, vocabulary: int | None) -> None:
        self.function: Callable[[Any], Any] | None = stop if callable(stop) else None
        ends = [] if stop is None or callable(stop) else [_several(one) for one in _several(stop)]
        ends = [[as_integer("`stop`", token, least=0) for token in one] for one in ends]
        if ends and vocabulary is None:
            raise ValueError("`stop` must be a function where steps are no single tokens; received tokens")
        for token in (token for one in ends for token in one):
            if vocabulary is not None and token >= vocabulary:
                raise ValueError(f"`stop` must be of tokens below {vocabulary}; received {token}")
        if not all(ends):
            raise ValueError("`stop` must be of lists of at least one token; received an empty one")
        self.tokens = np.array(sorted({one[0] for one in ends if len(one) == 1}), np.int32)
        self._longer = [np.array(one) for one in ends if len(one) > 1]

    def __bool__(self) -> bool:
        return bool(len(self.tokens) or self._longer or self.function)

    @property
    def on_host(self) -> bool:
        """Whether there is more than single tokens to look at."""
        return bool(self._longer or self.function)

    def first(self, steps: np.ndarray, known: int) -> int | None:
        """How many steps of a row there are when it ends, or `None` where it goes on.

        Args:
            steps: all new steps of the row.
            known: so many have not ended it.
        """
        found = []
        if len(self.tokens):
            found += (known + 1 + np.flatnonzero(np.isin(steps[known:], self.tokens))[:1]).tolist()
        for end in self._longer:
            for length in range(max(known + 1, len(end)), len(steps) + 1):
                if np.array_equal(steps[length - len(end) : length], end):
                    found.append(length)
                    break
        if self.function is not None:
            before = min(found, default=len(steps))
            found += [length for length in range(known + 1, before + 1) if self.function(steps[:length])][:1]
        return min(found, default=None)


def _several(value):
    return value if isinstance(value, (list, tuple, np.ndarray)) else (value,)
