"""Several records in every row of a batch."""

import numpy as np

from ..errors import RecordError


def packed_arrays(layout, rows):
    """The arrays of a batch of packed rows: for each slot values and mask, then segment numbers and positions.

    Args:
        layout: the `BatchLayout`, of sequences of one store.
        rows: `BatchRows` with `ends`. Rows that are filled up hold the first row again.

    Raises:
        RecordError: a record that does not fit its row.
    """
    chunks, places, slots, jobs = layout.groups[0]
    ids = rows.ids if places is None else places[rows.ids]
    ends = rows.ends
    if rows.used < rows.size:
        more = rows.size - rows.used
        first = ids[: ends[0]]
        ends = np.concatenate([ends, ends[-1] + ends[0] * np.arange(1, more + 1)])
        ids = np.concatenate([ids, np.tile(first, more)])
    arrays = []
    for slot, job in zip(slots, jobs, strict=True):
        found = chunks.table.packed(job, ids, ends, rows.bound)
        if type(found) is int:
            raise RecordError("the record does not fit its row", int(ids[found]), slot.name)
        values, segments, positions = found
        values = values if slot.cast is None else slot.widened(values, segments > 0)
        arrays += _shifted(slot, values, segments) if slot.shift else [values, segments > 0]
    return [*arrays, segments, positions]


def _shifted(slot, values, segments):
    """Values and mask of a `Shift`: what comes later in the same record."""
    later, shown = np.full_like(values, slot.fill), np.zeros(segments.shape, bool)
    count = max(segments.shape[1] - slot.shift, 0)
    shown[:, :count] = (segments[:, :count] > 0) & (segments[:, :count] == segments[:, slot.shift :])
    later[shown] = values[:, slot.shift :][shown[:, :count]]
    return [later, shown]
