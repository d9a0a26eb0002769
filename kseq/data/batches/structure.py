"""The structure in which a batch has its inputs or targets: one field, a list, or a dict of fields."""

import functools
import operator

from kseq.sequence import Sequence

from ..errors import SchemaError

_sequence = functools.partial(tuple.__new__, Sequence)  # without the names of arguments, in half the time


class Structure:
    """Fields as one value, a list or a dict.

    Attributes:
        fields: their names.
        keys: of the dict, or None.
        single: whether there is one value and no structure.
        slots: the slot of each field, set when they are known.
        masks: "sequence", "inputs" or None, as in `Batches`.
        packed: whether segment numbers and positions, the last two arrays, are added.
    """

    def __init__(self, fields, keys, single):
        self.fields, self.keys, self.single = fields, keys, single
        self.slots, self.masks, self.packed = (), None, False

    def build(self, arrays):
        """The structure of a batch's arrays."""
        values = [self._value(slot, arrays) for slot in self.slots]
        if self.packed:
            keys = self.keys or self.fields
            return dict(zip(keys, values, strict=True)) | {"segment_ids": arrays[-2], "positions": arrays[-1]}
        if self.masks == "inputs":
            masks = [arrays[slot.mask_at] if slot.ragged else None for slot in self.slots]
            if self.keys is None:
                pairs = zip(values, masks, strict=True)
                return tuple(array for pair in pairs for array in pair if array is not None)
            named = zip(self.keys, masks, strict=True)
            return self.of(values) | {f"{key}_mask": mask for key, mask in named if mask is not None}
        return self.of(values)

    def builder(self):
        """A function that does what `build` does, for one field in a few nanoseconds."""
        if not self.single or self.packed or self.masks == "inputs":
            return self.build
        at, mask_at = self.slots[0].at, self.slots[0].mask_at
        if self.masks == "sequence" and self.slots[0].ragged:
            return lambda arrays: _sequence((arrays[at], arrays[mask_at]))
        return operator.itemgetter(at)

    def of(self, values):
        """The structure of one value a field."""
        if self.single:
            return values[0]
        return tuple(values) if self.keys is None else dict(zip(self.keys, values, strict=True))

    def _value(self, slot, arrays):
        if self.masks == "sequence" and slot.ragged and not self.packed:
            return Sequence(arrays[slot.at], arrays[slot.mask_at])
        return arrays[slot.at]


def structure_of(fields, schema) -> Structure:
    """The structure of what a user gave as inputs or targets.

    Raises:
        SchemaError: fields that do not exist, or something that names none.
    """
    if isinstance(fields, str):
        structure = Structure([fields], None, True)
    elif isinstance(fields, dict):
        structure = Structure(list(fields.values()), list(fields), False)
    elif isinstance(fields, (list, tuple)):
        structure = Structure(list(fields), None, False)
    else:
        raise SchemaError(f"inputs and targets must be a field, a list or a dict of fields; received {fields!r}")
    if not structure.fields:
        raise SchemaError("inputs and targets must name a field; received none")
    for name in structure.fields:
        if name not in schema:
            raise SchemaError(f"a field must be one of {list(schema)}; received {name!r}")
    return structure
