"""The leaves of a state: nested dicts, tuples and lists of arrays, in the order of their names on every backend.

`keras.tree` leaves dicts within dicts in the order in which they were made where the backend is torch.
"""

from typing import Any


def named_leaves(state: Any, name: Any = "") -> list[tuple[str, Any]]:
    """Every leaf with its name: the keys on the way to it, joined by slashes; of a state that is one array, `state`.

    Example:
        >>> named_leaves({"b": 1, "a": {"values": 2, "mask": 3}})
        [('a/mask', 3), ('a/values', 2), ('b', 1)]
    """
    parts = _parts(state)
    if parts is None:
        return [(name or "state", state)]
    return [leaf for key, part in parts for leaf in named_leaves(part, f"{name}/{key}" if name else str(key))]


def leaves(state: Any) -> list[Any]:
    """Every leaf, in the order of `named_leaves`."""
    parts = _parts(state)
    return [state] if parts is None else [leaf for _, part in parts for leaf in leaves(part)]


def order_made(state: Any) -> list[int]:
    """The numbers of the leaves in the order in which a state was made.

    That is the order of the layers in it, also where Keras has made their names, by how many it made before.

    Example:
        >>> order_made({"gru_9": {"hidden": 1}, "gru_10": {"hidden": 2}})
        [1, 0]
    """
    return list(_as_made(pack(state, range(len(leaves(state))))))


def _as_made(state):
    if isinstance(state, dict):
        state = state.values()
    elif not isinstance(state, (tuple, list)):
        yield state
        return
    for part in state:
        yield from _as_made(part)


def pack(like: Any, items: Any) -> Any:
    """A state of the structure of another, of leaves in the order of `leaves`."""
    return _pack(like, iter(items))


def map_leaves(fn: Any, state: Any, *others: Any) -> Any:
    """A state of what `fn` makes of each leaf, and of those in its place in states of the same structure."""
    return pack(state, map(fn, leaves(state), *map(leaves, others)))


def _pack(like, items):
    parts = _parts(like)
    if parts is None:
        return next(items)
    made = {key: _pack(part, items) for key, part in parts}
    if isinstance(like, dict):
        return {key: made[key] for key in like}
    return type(like)(*made.values()) if hasattr(like, "_fields") else type(like)(made.values())


def _parts(state):
    if isinstance(state, dict):
        return [(key, state[key]) for key in sorted(state)]
    if isinstance(state, (tuple, list)):
        return list(zip(getattr(state, "_fields", range(len(state))), state, strict=True))
    return None
