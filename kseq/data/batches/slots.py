"""How one field gets from stores into batches: by the kernel, or by NumPy where its dtype or its text needs it."""

import numpy as np

from kseq import _ext

from ..store.shard import step_bytes


class Slot:
    """How one field is read for batches."""

    def __init__(self, store, name, fill, end, cut, pack):
        kind, self.name = store.schema[name], name
        self.place = store.place(name)
        self.chunks, self.number = self.place.core.chunks, self.place.column
        self.ragged, self.text, self.kind = kind.ragged, kind.text, kind
        self.cast = self.job = None
        if kind.text:
            return
        shown = (
            kind.dtype if not pack and (kind.store == kind.dtype or _ext.widens(kind.store, kind.dtype)) else kind.store
        )
        self.cast = None if shown == kind.dtype else kind.dtype
        self._fill = _scalar(f"pad_value of {name!r}", fill, kind.dtype)
        first = np.zeros(1, shown) if self.cast is not None else self._fill
        ends = np.empty(0, np.uint8)
        if end is not None:
            step = np.broadcast_to(_scalar(f"eos of {name!r}", end, shown).reshape(()), kind.inner_shape)
            ends = np.ascontiguousarray(step).reshape(-1).view(np.uint8)
        self.job = _ext.Job(
            self.number,
            step_bytes(kind),
            kind.store,
            shown,
            kind.inner_shape,
            kind.ragged,
            first.view(np.uint8),
            ends,
            cut,
        )
        self.plain = not kind.ragged and not kind.optional and kind.store == kind.dtype

    plain = False

    def widened(self, array, mask):
        """The array in the field's dtype, with the padding value where it holds nothing."""
        array = array.astype(self.cast)
        if mask is not None:
            array[~mask] = self._fill[0]
        return array

    def texts(self, rows):
        """The texts of records: objects [B]."""
        out = np.empty(len(rows), object)
        for place, row in enumerate(rows):
            value = self.chunks.value(self.number, row)
            out[place] = self._missing() if value is None else value
        return out

    def _missing(self):
        return "" if self.kind.dtype == "string" else b""


def group_slots(slots):
    """Fields by where they lie: (chunks, rows, slots, jobs), the rows as in `Place`."""
    groups = {}
    for slot in slots.values():
        groups.setdefault(slot.place.group, (slot.place, []))[1].append(slot)
    place = 0
    for _, own in groups.values():
        for slot in own:
            slot.at, slot.mask_at = place, place + 1
            place += 1 + slot.ragged
    return [
        (place.core.chunks, place.rows, own, tuple(slot.job for slot in own if not slot.text))
        for place, own in groups.values()
    ]


def _scalar(what, value, dtype):
    """A number as an array [1] of a dtype that holds it."""
    given = np.asarray(value)
    with np.errstate(all="ignore"):
        stored = given.astype(dtype).reshape(-1)
    if given.ndim or (given.dtype.kind in "biuf" and dtype.kind in "biu" and stored[0] != given):
        raise ValueError(f"{what} must be a number that {dtype.name} holds; received {value!r}")
    return stored
