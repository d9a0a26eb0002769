"""Queries that wait for their future: leaves whose steps move along, and what is known of them."""

from typing import Any

from keras import ops

#: The leaf of queries [B, H, T, D]; all others are [B, T].
QUERIES = "queries"


def empty(batch_size: Any, heads: int, size: int, count: int, dtype: str, numbers: Any) -> dict[str, Any]:
    """The leaves of `count` queries that are not there, with the names of what else is known of each, int32."""
    return {
        QUERIES: ops.zeros((batch_size, heads, count, size), dtype=dtype),
        "valid": ops.zeros((batch_size, count), dtype="bool"),
        **{name: ops.zeros((batch_size, count), dtype="int32") for name in numbers},
    }


def passed(old: dict[str, Any], new: dict[str, Any], spare: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The leaves that come out when T new steps come in, and those that wait then.

    Args:
        old: what waits, the first `spare` of it only in case that it goes back.
        new: as many steps as come out.
        spare: steps by which it may go back.
    """
    time = new[QUERIES].shape[2]
    joined = {name: ops.concatenate([x, new[name]], axis=_axis(name)) for name, x in old.items()}
    due = {name: _cut(name, x, spare, spare + time) for name, x in joined.items()}
    return due, {name: _cut(name, x, time, None) for name, x in joined.items()}


def moved_back(leaves: dict[str, Any], steps: Any) -> dict[str, Any]:
    """What waits after each row [B] went back by so many steps; what comes in at the front is zero."""
    found = {}
    for name, x in leaves.items():
        places = ops.arange(0, x.shape[_axis(name)], dtype="int32") - steps[:, None]
        here, there = ops.maximum(places, 0), places >= 0
        if name == QUERIES:
            here, there = here[:, None, :, None], there[:, None, :, None]
        moved = ops.take_along_axis(x, here, axis=_axis(name))
        found[name] = ops.where(there, moved, ops.zeros_like(moved))
    return found


def _axis(name):
    return 2 if name == QUERIES else 1


def _cut(name, x, start, stop):
    return x[:, :, start:stop] if name == QUERIES else x[:, start:stop]
