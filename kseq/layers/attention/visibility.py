"""Which keys a query sees: a window around it, blocks, its own segment, a prefix."""

import dataclasses
from typing import Any, NamedTuple

from keras import ops


class Steps(NamedTuple):
    """What is known of the steps of queries or keys, each [..., T] or, where it is the same in every row, [T].

    Attributes:
        index: int32, the place in time, counted from any step that queries and keys agree on.
        valid: bool, or `None` where every step is valid.
        position: int32, how many valid steps of its segment come before a step, or `None` where nobody asks.
        segment: int32, the number of a step's segment, or `None` where all are of one.
    """

    index: Any
    valid: Any = None
    position: Any = None
    segment: Any = None


@dataclasses.dataclass(frozen=True)
class Visibility:
    """Which keys a query sees, beside that they are valid and of its segment.

    Attributes:
        past, future: blocks before and after its own that a query sees, `None` for all of them.
        block: steps of a block: 1 for a window that moves with each step.
        prefix: so many first valid steps of a segment see one another.
        sinks: so many first valid steps are seen by all that come after them.
    """

    past: int | None
    future: int | None
    block: int = 1
    prefix: int = 0
    sinks: int = 0

    @property
    def before(self) -> int | None:
        """Steps before the first of a block of queries that its queries may see; `None` for all."""
        return None if self.past is None else max(self.past * self.block, self._of_prefix)

    @property
    def after(self) -> int | None:
        """Steps after the last of a block of queries that its queries may see; `None` for all."""
        return None if self.future is None else max(self.future * self.block, self._of_prefix)

    @property
    def waits_for_prefix(self) -> bool:
        """Whether queries wait longer than for the future that those beyond the prefix see."""
        return self.future is not None and self._of_prefix > self.future * self.block

    @property
    def _of_prefix(self):
        return -(-(self.prefix - 1) // self.block) * self.block if self.prefix else 0

    @property
    def field(self) -> tuple[tuple[float, float], ...]:
        """The receptive field of each output of a block."""
        infinite = float("inf")
        before = infinite if self.before is None or self.sinks else self.before
        after = infinite if self.after is None else self.after
        return tuple((-before - i, after + self.block - 1 - i) for i in range(self.block))

    def visible(self, queries: Steps, keys: Steps, future: Any = None) -> Any:
        """Bool [..., Q, K], or what broadcasts to it; `None` where every query sees every key.

        Args:
            queries, keys: what is known of them; whether queries are valid does not matter.
            future: in the place of the attribute, where it is known at run time alone.
        """
        seen = self._in_window(queries, keys, self.future if future is None else future)
        if self.prefix and seen is not None:
            of_queries, of_keys = (_among_first(self.prefix, steps) for steps in (queries, keys))
            together = ops.logical_and(of_queries[..., :, None], of_keys[..., None, :])
            ahead = keys.index[..., None, :] - queries.index[..., :, None]
            if self.before is not None:  # where steps are missing, a prefix may be longer than a stream looks back
                together = ops.logical_and(together, ahead >= -self.before)
            if self.after is not None:
                together = ops.logical_and(together, ahead <= self.after)
            seen = ops.logical_or(seen, together)
        if keys.valid is not None:
            seen = _both(seen, keys.valid[..., None, :])
        if keys.segment is not None:
            seen = _both(seen, queries.segment[..., :, None] == keys.segment[..., None, :])
        return seen

    def _in_window(self, queries, keys, future):
        if self.past is None and future is None:
            return None
        of_query, of_key = (
            steps.index if self.block == 1 else ops.floor_divide(steps.index, self.block) for steps in (queries, keys)
        )
        ahead = of_key[..., None, :] - of_query[..., :, None]
        seen = None if self.past is None else ahead >= -self.past
        if seen is not None and self.sinks:
            seen = ops.logical_or(seen, _among_first(self.sinks, keys)[..., None, :])
        return seen if future is None else _both(seen, ahead <= future)


def _among_first(count, steps):
    return ops.logical_and(steps.position >= 0, steps.position < count)


def _both(a, b):
    return b if a is None else ops.logical_and(a, b)
