"""Zoneout: values of a state that stay what they were."""

import itertools
from typing import Any

from keras import ops


def zone_out(old: Any, new: Any, zoned: Any) -> tuple[Any, ...]:
    """New states, some values of which are the old ones.

    Args:
        old, new: tuples of arrays [B, size].
        zoned: bool [B, sum of sizes], true where values are the old ones; or a number, which is how much of the old
            value is in every new one.
    """
    if isinstance(zoned, float):
        return tuple(n + zoned * (o - n) for o, n in zip(old, new, strict=True))
    ends = [0, *itertools.accumulate(o.shape[-1] for o in old)]
    parts = [zoned[..., start:end] for start, end in itertools.pairwise(ends)]
    return tuple(ops.where(z, o, n) for z, o, n in zip(parts, old, new, strict=True))
