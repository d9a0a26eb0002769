"""Several records in every row of a batch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RecordError
from .layout import BatchLayout
from .plan import BatchRows


def packed_arrays(layout: BatchLayout, rows: BatchRows) -> list[NDArray[Any]]:
    """The arrays of a batch of packed rows: for each slot values and mask, then segment numbers and positions.

    Args:
        layout: the `BatchLayout`, of sequences of one store.
        rows: `BatchRows` with `ends`. Rows that are filled up hold the first row again.

    Raises:
        RecordError: a record that does not fit its row.
    """
    chunks, places, slots, jobs = layout.groups[0]
    ids, ends = rows.ids, rows.ends
    assert ids is not None and ends is not None
    ids = ids if places is None else places[ids]
    if rows.used < rows.size:
        more = rows.size - rows.used
        first = ids[: ends[0]]
        ends = np.concatenate([ends, ends[-1] + ends[0] * np.arange(1, more + 1)])
        ids = np.concatenate([ids, np.tile(first, more)])
    arrays, last = [], []
    for slot, job in zip(slots, jobs, strict=True):
        found = chunks.table.packed(job, ids, ends, rows.bound)
        if type(found) is int:
            raise RecordError("the record does not fit its row", int(ids[found]), slot.name)
        values, segments, positions = found
        last = [segments, positions]  # the same for all
        values = values if slot.cast is None else slot.widened(values, segments > 0)
        arrays += _shifted(slot, values, segments) if slot.shift else [values, segments > 0]
    return [*arrays, *last]


def _shifted(slot, values, segments):
    """Values and mask of a `Shift`: what comes later in the same record."""
    later, shown = np.full_like(values, slot.fill), np.zeros(segments.shape, bool)
    count = max(segments.shape[1] - slot.shift, 0)
    shown[:, :count] = (segments[:, :count] > 0) & (segments[:, :count] == segments[:, slot.shift :])
    later[shown] = values[:, slot.shift :][shown[:, :count]]
    return [later, shown]
