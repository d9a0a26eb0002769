"""The structure in which a batch has its inputs or targets: one field, a list, or a dict of fields."""

from __future__ import annotations

import collections.abc
import functools
import operator
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from kseq.arguments import as_integer
from kseq.sequence import Sequence

from ..errors import SchemaError
from ..store.schema import Schema

if TYPE_CHECKING:
    from .slots import Slot

_sequence = functools.partial(tuple.__new__, Sequence)  # without the names of arguments, in half the time


class Shift(typing.NamedTuple):
    """A sequence from its step `steps` on; see `shift`."""

    field: str
    steps: int


# What a user names as inputs or targets: a field or a `Shift` of one; one of these, several, or several by name.
Shown = str | Shift
Fields = Shown | collections.abc.Sequence[Shown] | collections.abc.Mapping[str, Shown]


def shift(field: str, steps: int = 1) -> Shift:
    """A sequence as the model should foretell it: at every step what comes `steps` steps later.

    As an input or target of `store.batches(...)`. It is padded like the field itself; the last `steps` steps of a
    record have nothing to show and are padding. With `bos` and `eos` of the field those are steps like others.

    Args:
        field: name of a sequence.
        steps: how much later, at least 1.

    Raises:
        ValueError: `steps` below 1.

    Example:
        >>> batches = store.batches(batch_size=8, inputs="tokens", targets=shift("tokens", 1))  # doctest: +SKIP
    """
    return Shift(field, as_integer("steps", steps, 1))


def field_of(shown: Shown) -> str:
    """The field that is shown, which may be shifted."""
    return shown.field if isinstance(shown, Shift) else shown


class FieldNames:
    """What a user gave as inputs or targets.

    Attributes:
        shown: fields, or `Shift`s of them.
        keys: of the dict, or None.
        single: whether there is one value and no structure.

    Raises:
        SchemaError: fields that do not exist, or something that names none.
    """

    shown: list[Shown]
    keys: list[str] | None
    single: bool

    def __init__(self, given: Any, schema: Schema) -> None:
        self.keys, self.single = list(given) if isinstance(given, dict) else None, isinstance(given, (str, Shift))
        if isinstance(given, (str, Shift)):
            self.shown = [given]
        elif isinstance(given, (dict, list, tuple)):
            self.shown = list(given.values() if isinstance(given, dict) else given)
        else:
            raise SchemaError(f"inputs and targets must be a field, a list or a dict of fields; received {given!r}")
        if not self.shown:
            raise SchemaError("inputs and targets must name a field; received none")
        for each in self.shown:
            if field_of(each) not in schema:
                raise SchemaError(f"a field must be one of {list(schema)}; received {field_of(each)!r}")
            if isinstance(each, Shift) and not schema[each.field].ragged:
                raise SchemaError(f"only a sequence can be shifted; {each.field!r} is {schema[each.field]}")

    @property
    def fields(self) -> list[str]:
        """The names of the fields."""
        return [field_of(each) for each in self.shown]


class Structure:
    """From the arrays of a batch to one value, a list or a dict.

    Args:
        names: the `FieldNames`.
        slots: the slot of each of them.
        masks: "sequence", "inputs", "lengths" or None, as in `Batches`.
        packed: whether segment numbers and positions, the last two arrays, are added.
    """

    slots: list[Slot]

    def __init__(self, names: FieldNames, slots: list[Slot], masks: str | None, packed: bool = False) -> None:
        self.slots, self._keys, self._single = slots, names.keys, names.single
        self._masks, self._packed, self._fields = masks, packed, names.fields
        self.ragged: bool = any(slot.ragged for slot in slots)

    def build(self, arrays: collections.abc.Sequence[NDArray[Any]]) -> Any:
        """The structure of a batch's arrays."""
        values = [self._value(slot, arrays) for slot in self.slots]
        if self._packed:
            keys = self._keys or self._fields
            return dict(zip(keys, values, strict=True)) | {"segment_ids": arrays[-2], "positions": arrays[-1]}
        if self._masks not in _BESIDE:
            return self.of(values)
        suffix, beside = _BESIDE[self._masks]
        more = [beside(arrays[slot.mask_at]) if slot.ragged else None for slot in self.slots]
        if self._keys is None:
            pairs = zip(values, more, strict=True)
            return tuple(array for pair in pairs for array in pair if array is not None)
        named = zip(self._keys, more, strict=True)
        return self.of(values) | {f"{key}_{suffix}": array for key, array in named if array is not None}

    def builder(self) -> Callable[[collections.abc.Sequence[NDArray[Any]]], Any]:
        """A function that does what `build` does, for one field in a few nanoseconds."""
        if not self._single or self._packed or self._masks in _BESIDE:
            return self.build
        at, mask_at = self.slots[0].at, self.slots[0].mask_at
        if self._masks == "sequence" and self.slots[0].ragged:
            return lambda arrays: _sequence((arrays[at], arrays[mask_at]))
        return operator.itemgetter(at)

    def of(self, values: collections.abc.Sequence[Any]) -> Any:
        """The structure of one value a field."""
        if self._single:
            return values[0]
        return tuple(values) if self._keys is None else dict(zip(self._keys, values, strict=True))

    def _value(self, slot, arrays):
        if self._masks == "sequence" and slot.ragged and not self._packed:
            return Sequence(arrays[slot.at], arrays[slot.mask_at])
        return arrays[slot.at]


# What stands beside the values of a sequence: its mask [B, T], or its lengths, int32 [B].
_BESIDE = {"inputs": ("mask", lambda mask: mask), "lengths": ("lengths", lambda mask: mask.sum(1, dtype="int32"))}
