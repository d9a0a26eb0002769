"""Many records at once, by column: as they are stored, to be copied, or as users see them."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from kseq.ragged import Ragged

from ..errors import RecordError
from .conversion import Rows, convert_column
from .protocol import Records
from .schema import Field
from .shard import step_bytes

_LOOKED_AT = 1 << 20  # records whose sizes are known at a time


def stretches(store: Records, most: int) -> Iterator[tuple[int, int]]:
    """Stretches of records of up to `most` bytes, but one record at least: pairs (start, end).

    Args:
        store: `Records`.
        most: bytes.
    """
    listed = [name for name, field in store.schema.items() if field.ragged or field.text]
    fixed = sum(step_bytes(field) for name, field in store.schema.items() if name not in listed)
    for first in range(0, len(store), _LOOKED_AT):
        ids = np.arange(first, min(first + _LOOKED_AT, len(store)))
        sizes = np.full(len(ids), fixed)
        for name in listed:
            sizes += store.field_lengths(name, ids) * step_bytes(store.schema[name])
        ends, start = np.cumsum(sizes), 0
        while start < len(ids):
            done = int(ends[start - 1]) if start else 0
            end = max(int(np.searchsorted(ends, done + most, "right")), start + 1)
            yield first + start, first + end
            start = end


def stored_rows(store: Records, name: str, start: int, end: int) -> Rows:
    """A field of the records from `start` to `end`, as it is stored.

    Raises:
        ShardError: what is on the disk was damaged since it was opened, or a text is none.
    """
    core, column, rows = store.place(name)
    chunks, field = core.chunks, store.schema[name]
    ids = None if rows is None else rows[start:end]
    found = chunks.table.gather(column, ids, start, end - start)
    if type(found) is int:
        raise chunks.lying(column, start + found if ids is None else int(ids[found]))
    data, offsets, valid = found
    found = Rows(data, offsets if field.ragged or field.text else None, step_bytes(field), valid)
    if field.dtype == "string":
        try:
            _arrow_texts(found, pa.large_string()).validate(full=True)
        except pa.ArrowInvalid:
            for row in range(start, end) if ids is None else ids.tolist():
                chunks.value(column, row)  # raises for the one that is none
            raise
    return found


def rows_for(field: Field, store: Records, name: str, start: int, end: int, cast: bool = False) -> Rows | None:
    """A field of the records from `start` to `end` as another `Field` stores it; None where each has to be looked at.

    Args:
        field: the other `Field`.
        store: `Records`.
        name: of the field in the store.
        start: number of the first record.
        end: number after the last.
        cast: as `convert_column` takes it.
    """
    source = store.schema.get(name)
    if source is None:
        return None
    rows = stored_rows(store, name, start, end)
    if (source.store, source.shape) == (field.store, field.shape):
        return rows if rows.valid is None or field.optional else None
    return convert_column(field, seen(name, source, rows), cast) if rows.valid is None else None


def seen(name: str, field: Field, rows: Rows) -> Any:
    """Rows as users see them: a `Ragged` of a sequence, a list of texts, else an array [N, ...].

    A sequence that is missing is one without steps, a text is None. Sequences of what are no numbers (dates, parts) are
    a list of arrays, since a `Ragged` holds numbers.

    Raises:
        RecordError: a value is missing that is no sequence; its number is that among these.
    """
    if field.text:
        kind = pa.large_string() if field.dtype == "string" else pa.large_binary()
        return _arrow_texts(rows, kind).to_pylist()
    if rows.valid is not None and not field.ragged:
        raise RecordError("the value is missing", int(np.flatnonzero(rows.valid == 0)[0]), name)
    values = rows.data.view(field.store).reshape(-1, *field.inner_shape).astype(field.dtype, copy=False)
    if rows.offsets is None:
        return values
    if field.dtype.kind in "biufc" or (field.dtype.kind == "V" and field.dtype.isbuiltin == 2):
        return Ragged(values, rows.offsets)
    return [values[start:end] for start, end in itertools.pairwise(rows.offsets.tolist())]


def _arrow_texts(rows: Rows, kind: Any) -> Any:
    valid = rows.valid
    if valid is not None:
        valid = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, rows.number, [valid, pa.py_buffer(rows.offsets), pa.py_buffer(rows.data)])
