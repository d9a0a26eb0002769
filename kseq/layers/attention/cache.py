"""The keys and values of a stream's past, and what is known of their steps.  A ring of slots, written in place.

State: keys [B, H, S, D], values [B, H, S, Dv] and `valid` bool [B, S]; the position of each slot's step and the number
of its segment, int32 [B, S], where they are asked for; scales [B, H, S, 1] of what is stored as integers. The first
valid steps of a stream may have slots of their own, the last ones, which nothing overwrites, and `ages`, int32
[B, sinks], how many steps came after each.
"""

import dataclasses
import math
from typing import Any

from keras import ops

from ...hints import has_scatters
from .scores import finite_values
from .visibility import Steps

_MOST = 127  # of int8, symmetric about zero
#: Leaves that are written in place, with heads.
LARGE = ("keys", "values", "key_scales", "value_scales")
# The age of a step that is older than all that may matter.
_LONG_AGO = 2**29


@dataclasses.dataclass(frozen=True)
class Cache:
    """What a cache keeps.

    Attributes:
        ring: slots that steps come to in turn.
        heads, key_dim, value_dim: of keys and values.
        dtype: of keys and values where they are used.
        stored: the dtype that they are kept in; `int8` has a scale for each step and head.
        positions: whether positions are kept.
        segments: whether the numbers of segments are kept.
        sinks: slots for the first valid steps, which are then nowhere else.
        ages: whether it matters how long ago the first valid steps of earlier calls came.
    """

    ring: int
    heads: int
    key_dim: int
    value_dim: int
    dtype: str
    stored: str
    positions: bool = False
    segments: bool = False
    sinks: int = 0
    ages: bool = False

    def empty(self, batch_size: Any) -> dict[str, Any]:
        """A cache without steps."""
        slots, by_head = self.ring + self.sinks, (batch_size, self.heads, self.ring + self.sinks)
        state = {
            "keys": ops.zeros((*by_head, self.key_dim), dtype=self.stored),
            "values": ops.zeros((*by_head, self.value_dim), dtype=self.stored),
            "valid": ops.zeros((batch_size, slots), dtype="bool"),
        }
        if self.stored == "int8":
            state |= {name: ops.zeros((*by_head, 1), dtype="float32") for name in ("key_scales", "value_scales")}
        if self.positions:
            state["positions"] = ops.zeros((batch_size, slots), dtype="int32")
        if self.segments:
            state["segments"] = ops.zeros((batch_size, slots), dtype="int32")
        if self.ages:
            state["ages"] = ops.zeros((batch_size, self.sinks), dtype="int32")
        return state

    def rounded(self, key: Any, value: Any) -> tuple[Any, Any]:
        """Keys and values as they are after they were kept; gradients go through as if nothing were lost."""
        if self.stored == self.dtype:
            return key, value
        found = self.read(self._stored(key, value))
        key, value = (x + ops.stop_gradient(y - x) for x, y in zip((key, value), found, strict=True))
        return key, value

    def write(
        self, state: Any, slot: Any, key: Any, value: Any, steps: Steps, active: Any = None
    ) -> tuple[dict[str, Any], Steps]:
        """The cache after some steps more, no more than the ring has slots, and what is known of all its steps then.

        Args:
            state: the cache.
            slot: int32 [B], the one that comes next.
            key, value: [B, H, T, D].
            steps: of them, each [B, T] but for the index [T].
            active: bool [B] or `None`: in other rows the large leaves stay what they were, bit for bit.
        """
        time = key.shape[2]
        at = (slot[:, None] + ops.arange(0, time, dtype="int32")) % self.ring
        index = steps.index[-1] - (at[:, -1:] - ops.arange(0, self.ring, dtype="int32")) % self.ring
        entries = self._entries(key, value, steps)
        new_state = {name: _put(state[name], at, entry, active) for name, entry in entries.items()}
        if self.sinks:
            firsts, ages = self._firsts(state, entries, steps)
            at = ops.broadcast_to(
                ops.arange(self.ring, self.ring + self.sinks, dtype="int32"), (ops.shape(slot)[0], self.sinks)
            )
            new_state = {name: _put(new_state[name], at, entry, active) for name, entry in firsts.items()}
            index = ops.concatenate([index, steps.index[-1] - ages], axis=1)
            new_state |= {"ages": ages} if self.ages else {}
        return new_state, _known(index, new_state)

    def read(self, leaves: Any) -> tuple[Any, Any]:
        """Keys [B, H, S, D] and values of leaves."""
        if self.stored != "int8":
            return ops.cast(leaves["keys"], self.dtype), ops.cast(leaves["values"], self.dtype)
        key, value = (
            ops.cast(ops.cast(leaves[f"{name}s"], "float32") * leaves[f"{name}_scales"], self.dtype)
            for name in ("key", "value")
        )
        return key, value

    def append(
        self, state: Any, slot: Any, key: Any, value: Any, steps: Steps
    ) -> tuple[dict[str, Any], tuple[Any, Steps], tuple[Any, Steps] | None]:
        """The cache after some steps more, however many, and what it held on the way, the ring in the order of time.

        Returns:
            The cache, whose next slot is 0 then; leaves of what was in the ring and of the new steps, with what is
            known of them; and the same of the first valid steps, if they have slots.
        """
        order = (slot[:, None] + ops.arange(0, self.ring, dtype="int32")) % self.ring
        entries = self._entries(key, value, steps)
        leaves = {
            name: ops.concatenate([_take(state[name], order), entry], axis=_axis(name))
            for name, entry in entries.items()
        }
        index = ops.concatenate([steps.index[:1] - self.ring + ops.arange(0, self.ring, dtype="int32"), steps.index])
        new_state = {name: _last(leaf, self.ring, _axis(name)) for name, leaf in leaves.items()}
        if not self.sinks:
            return new_state, (leaves, _known(index, leaves)), None
        firsts, ages = self._firsts(state, entries, steps)
        new_state = {name: ops.concatenate([leaf, firsts[name]], axis=_axis(name)) for name, leaf in new_state.items()}
        new_state |= {"ages": ages} if self.ages else {}
        return new_state, (leaves, _known(index, leaves)), (firsts, _known(steps.index[-1] - ages, firsts))

    def apart(self, key: Any, value: Any, steps: Steps) -> tuple[Steps, dict[str, Any], Steps]:
        """What is known of all steps but the first valid ones, and the leaves of these with what is known of them."""
        plain = dataclasses.replace(self, stored=self.dtype, positions=True, ages=False)
        firsts, ages = plain._firsts(plain.empty(ops.shape(key)[0]), plain._entries(key, value, steps), steps)
        return steps._replace(valid=self._others(steps)), firsts, _known(steps.index[-1] - ages, firsts)

    def take_back(self, state: Any, slot: Any, count: Any) -> tuple[dict[str, Any], Any]:
        """The cache without the last `count` int32 [B] steps, and how many of them were valid, int32 [B].

        No more of them than the ring has room for beyond what is looked back at.
        """
        ages = (slot[:, None] - 1 - ops.arange(0, self.ring, dtype="int32")) % self.ring
        gone = ages < count[:, None]
        lost = ops.sum(ops.cast(ops.logical_and(state["valid"], gone), "int32"), axis=1)
        return state | {"valid": ops.logical_and(state["valid"], ops.logical_not(gone))}, lost

    def _stored(self, key, value):
        """Keys and values as they are kept, by the name of the leaf."""
        entries = {}
        if self.stored not in (self.dtype, "int8"):  # what it cannot hold is infinite in it
            key, value = finite_values(ops.cast(key, self.stored), ops.cast(value, self.stored))
        for name, x in (("key", key), ("value", value)):
            if self.stored == "int8":
                x = ops.cast(x, "float32")
                finite = ops.all(ops.isfinite(x), axis=-1, keepdims=True)  # what is not is undefined by its scale
                x = ops.where(finite, x, ops.zeros_like(x))
                scale = ops.max(ops.abs(x), axis=-1, keepdims=True) / _MOST
                levels = ops.round(x / ops.where(scale > 0, scale, ops.ones_like(scale)))
                entries[f"{name}s"] = ops.cast(ops.clip(levels, -_MOST, _MOST), "int8")
                entries[f"{name}_scales"] = ops.where(finite, scale, ops.full_like(scale, math.nan))
            else:
                entries[f"{name}s"] = ops.cast(x, self.stored)
        return entries

    def _entries(self, key, value, steps):
        """What is kept of some steps, by the name of the leaf; those with slots of their own are not valid here."""
        entries = self._stored(key, value) | {"valid": self._others(steps) if self.sinks else steps.valid}
        if self.positions:
            entries["positions"] = steps.position
        if self.segments:
            entries["segments"] = steps.segment
        return entries

    def _others(self, steps):
        """Which steps are valid, and not among the first ones."""
        first = ops.logical_and(steps.position >= 0, steps.position < self.sinks)
        return ops.logical_and(steps.valid, ops.logical_not(first))

    def _firsts(self, state, entries, steps):
        """The leaves of the first valid steps after some steps more, of which these are the entries, and their ages."""
        numbers = ops.arange(0, self.sinks, dtype="int32")[:, None]
        match = ops.logical_and(steps.valid[:, None, :], steps.position[:, None, :] == numbers)  # [B, sinks, T]
        found, here = ops.any(match, axis=-1), ops.argmax(ops.cast(match, "int32"), axis=-1)
        firsts = {}
        for name, entry in (entries | {"valid": steps.valid}).items():
            before = _last(state[name], self.sinks, _axis(name))
            there = found[:, None, :, None] if _axis(name) == 2 else found
            firsts[name] = ops.where(there, _take(entry, here), before)
        older = ops.minimum(state["ages"] + steps.index.shape[0], _LONG_AGO) if self.ages else _LONG_AGO
        return firsts, ops.where(found, steps.index[-1] - ops.take(steps.index, here), older)


def _chosen(leaf, at, entry, active):
    """The same by a choice for every slot: runtimes that have no scatter, or a slow one, have this."""
    match = at[:, :, None] == ops.arange(0, leaf.shape[-2 if len(leaf.shape) == 4 else 1], dtype="int32")  # [B, T, S]
    if active is not None:
        match = ops.logical_and(match, active[:, None, None])
    here = ops.any(match, axis=1) if at.shape[1] > 1 else match[:, 0]
    if at.shape[1] > 1:
        entry = _take(entry, ops.cast(ops.argmax(ops.cast(match, "int32"), axis=1), "int32"))
    return ops.where(here if len(leaf.shape) == 2 else here[:, None, :, None], entry, leaf)


def _known(index, leaves):
    return Steps(index, *(leaves.get(name) for name in ("valid", "positions", "segments")))


def _axis(name):
    """The axis of slots of a leaf."""
    return 2 if name in LARGE else 1


def _last(leaf, count, axis):
    return leaf[:, :, -count:] if axis == 2 else leaf[:, -count:]


def _take(leaf, slots):
    """The slots [B, N] of a leaf."""
    if len(leaf.shape) == 2:
        return ops.take_along_axis(leaf, slots, axis=1)
    return ops.take_along_axis(leaf, slots[:, None, :, None], axis=2)


def _each_repeated(count, times):
    """0, ..., 0, 1, ..., 1, ...; `ops.repeat` looks on torch at a number that a program of operations does not have."""
    return ops.reshape(ops.broadcast_to(ops.arange(0, count, dtype="int32")[:, None], (count, times)), (-1,))


def _put(leaf, at, entry, active=None):
    """The leaf with entries [B, T] or [B, H, T, D] in the slots [B, T], of large leaves where `active` [B]."""
    if not has_scatters():
        return _chosen(leaf, at, entry, active)
    if len(leaf.shape) == 2:
        if at.shape[1] == 1:
            here = ops.arange(0, leaf.shape[1], dtype="int32") == at
            return ops.where(here, entry, leaf)
        rows = ops.broadcast_to(ops.arange(0, ops.shape(leaf)[0], dtype="int32")[:, None], ops.shape(at))
        return ops.scatter_update(leaf, ops.reshape(ops.stack([rows, at], axis=-1), (-1, 2)), ops.reshape(entry, (-1,)))
    if active is not None:
        entry = ops.where(active[:, None, None, None], entry, _take(leaf, at))
    # A scatter even for one row: XLA updates the donated ring in place, where it copies around a slice update.
    (batch, heads), time = ops.shape(leaf)[:2], at.shape[1]
    rows = _each_repeated(batch, heads * time)
    by_head = ops.tile(_each_repeated(heads, time), (batch,))
    slots = ops.reshape(ops.tile(at[:, None, :], (1, heads, 1)), (-1,))
    index = ops.stack([rows, by_head, slots], axis=1)
    return ops.scatter_update(leaf, index, ops.reshape(entry, (-1, entry.shape[-1])))
