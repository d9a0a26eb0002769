"""Values as they are stored: converted where nothing is lost, else refused."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kseq.ragged import Ragged

from ..errors import RecordError
from .schema import TEXT, Field, Schema


def as_dict(schema: Mapping[str, Field], record: Any, number: int | None = None) -> dict[str, Any]:
    """A record by the names of its fields.

    Args:
        schema: the `Schema`.
        record: a dict; a dataclass, such as a `kseq.data.record`, of which the fields of the schema are taken; or,
            where the schema has one field, the value of that.
        number: of the record, for the error.

    Raises:
        RecordError: none of these.
    """
    if isinstance(record, dict):
        return record
    if hasattr(type(record), "__dataclass_fields__"):
        return {name: getattr(record, name, None) for name in schema}
    if len(schema) == 1:
        return dict.fromkeys(schema, record)
    raise RecordError(f"a record must be a dict of fields; received {type(record).__name__}", number)


def as_columns(schema: Schema | None, columns: Any) -> dict[str, Any]:
    """Columns by the names of their fields: a dict of them, or the one there is; without a schema an array of `values`.

    Raises:
        RecordError: none of these.
    """
    alone = isinstance(columns, (np.ndarray, Ragged)) or (schema is not None and isinstance(columns, (list, tuple)))
    if alone and (schema is None or len(schema) == 1):
        columns = dict.fromkeys(schema or ["values"], columns)
    if not isinstance(columns, dict) or not columns:
        raise RecordError(f"columns must be a dict of fields; received {columns!r:.100}")
    return columns


def convert_record(
    schema: Mapping[str, Field], record: Any, number: int | None = None, cast: bool = False
) -> dict[str, Any]:
    """A record as it is stored: every value in its field's stored dtype, C-contiguous.

    Args:
        schema: the `Schema`.
        record: as `as_dict` takes it.
        number: of the record, for the error.
        cast: whether arrays of wider floats are rounded to those of their field.

    Raises:
        RecordError: a field that is missing, unknown, or of another dtype or shape.
    """
    record = as_dict(schema, record, number)
    unknown = set(record) - set(schema)
    if unknown:
        raise RecordError(f"a record must have the fields {list(schema)}; received {sorted(map(str, unknown))}", number)
    return {name: _convert(field, record.get(name), number, name, cast) for name, field in schema.items()}


def _convert(field: Field, value: Any, number: int | None, name: str | None, cast: bool) -> Any:
    if value is None:
        if not field.optional:
            raise RecordError("the field is missing (Field(..., optional=True) would allow it)", number, name)
        return None
    if field.text:
        kinds = str if field.dtype == "string" else (bytes, bytearray, memoryview)
        if not isinstance(value, kinds):
            raise RecordError(f"the value must be {field.dtype}; received {type(value).__name__}", number, name)
        try:
            return str(value).encode().decode() if isinstance(value, str) else bytes(value)
        except UnicodeEncodeError as error:
            raise RecordError(f"the text must be encodable as UTF-8: {error}", number, name) from None
    return _convert_array(field, value, number, name, cast)


def _convert_array(field: Field, value: Any, number: int | None, name: str | None, cast: bool) -> NDArray[Any]:
    try:
        given = np.asarray(value)
    except ValueError as error:
        raise RecordError(f"the value is no array: {error}", number, name) from None
    if given.size == 0 and not hasattr(value, "dtype"):
        given = given.astype(field.dtype)  # an empty list says nothing about its type
    wanted = field.shape
    fits = given.ndim == len(wanted) and all(n in (None, m) for n, m in zip(wanted, given.shape, strict=True))
    if not fits and field.ragged and given.size == 0 and given.ndim == 1:
        given, fits = given.reshape(0, *field.inner_shape), True  # an empty list says nothing about its steps
    if not fits:
        raise RecordError(f"the value must have shape {_shape_text(wanted)}; received {given.shape}", number, name)
    source, text = given.dtype, f"the value must be {field.dtype.name}; received"
    exact = np.can_cast(source, field.dtype, "same_kind") or (source.kind in "iub" and field.dtype.kind in "iufc")
    exact = exact and source.kind != "O" and (source.kind in "SU" or field.dtype.kind not in "SU")
    exact = exact and source.names is None and field.dtype.names is None
    if source != field.dtype and not exact:
        raise RecordError(f"{text} {source.name}", number, name)
    wider = source.kind in "fc" and field.dtype.kind not in "iub" and source.itemsize > field.dtype.itemsize
    if wider and not cast and hasattr(value, "dtype"):  # Python's floats are always: only arrays say that they mean it
        raise RecordError(f"{text} {source.name}, which is wider (cast=True rounds it)", number, name)
    with np.errstate(all="ignore"):
        stored = np.ascontiguousarray(given.astype(field.store)).reshape(given.shape)
        held = _held(given, stored)
    if not np.all(held):
        bad = given[~held].flat[0]
        raise RecordError(f"the value must be one that {field.store.name} holds; received {bad}", number, name)
    return stored


def _held(given: NDArray[Any], stored: NDArray[Any]) -> Any:
    """Which values are stored as they were given; floats may be rounded to fewer digits."""
    if stored.dtype == given.dtype:
        return np.True_
    if given.dtype.kind in "fc" and stored.dtype.kind not in "iub":
        return np.isfinite(stored) | ~np.isfinite(given)
    if given.dtype.kind in "iu" and stored.dtype.kind in "iu":  # beyond the range numbers wrap, and would wrap back
        limits = np.iinfo(stored.dtype)
        return (given >= limits.min) & (given <= limits.max)
    # NaN and NaT, where they stay that, are not equal to themselves.
    return (stored.astype(given.dtype) == given) | (given != given) & (stored != stored)


def _shape_text(shape):
    return "(" + ", ".join("T" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"


# A field's share of a chunk: its bytes, offsets of its rows or None, a byte a row (or bit: validity) or None.
Part = tuple[NDArray[np.uint8], NDArray[np.int32] | None, NDArray[np.uint8] | None]


class Rows(NamedTuple):
    """The values of a field in many records, as they are stored.

    Attributes:
        data: bytes, uint8.
        offsets: steps up to the end of each row from `data`'s begin, int64 [N + 1], the first of which is its begin;
            None where every row is one step.
        step: bytes of a step.
        valid: a byte a row, or None where all are there.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64] | None
    step: int
    valid: NDArray[np.uint8] | None = None

    @property
    def number(self) -> int:
        """Their number."""
        return len(self.data) // self.step if self.offsets is None else len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of all."""
        return len(self.data) if self.offsets is None else int(self.offsets[-1] - self.offsets[0]) * self.step

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Bytes up to the end of each row, from the begin of the first."""
        if self.offsets is None:
            return np.arange(1, self.number + 1) * self.step
        return (self.offsets[1:] - self.offsets[0]) * self.step

    def part(self, start: int, end: int) -> Part:
        """Rows as `ShardWriter.write` takes them.

        Raises:
            OverflowError: they have more than 2**31 - 1 steps.
        """
        first, last = (start, end) if self.offsets is None else map(int, (self.offsets[start], self.offsets[end]))
        if last - first > np.iinfo(np.int32).max:
            raise OverflowError(f"the value is too large for a chunk of 2**31 steps; received {last - first}")
        offsets = None if self.offsets is None else (self.offsets[start : end + 1] - first).astype(np.int32)
        data = self.data[first * self.step : last * self.step]
        return data, offsets, None if self.valid is None else self.valid[start:end]


def convert_column(field: Field, column: Any, cast: bool = False) -> Rows | None:
    """Many values as they are stored, at once; None where each has to be looked at to say what is right or wrong."""
    if field.text:
        return _texts(field, column)
    offsets = None
    if isinstance(column, Ragged):
        values, offsets = column.values, column.offsets
        if len(values) > offsets[-1]:
            values = values[: offsets[-1]]
    elif field.ragged and isinstance(column, (list, tuple)):
        offsets = np.zeros(len(column) + 1, np.int64)
        values = _joined(column, offsets)
    else:
        values = column
    if (offsets is not None) != field.ragged or not (isinstance(values, np.ndarray) or _plain(values)):
        return None
    as_stored = isinstance(values, np.ndarray) and values.dtype == field.store and values.flags.c_contiguous
    if as_stored and values.ndim == 1 + len(field.inner_shape) and values.shape[1:] == field.inner_shape:
        stored = values
    else:
        try:
            stored = _convert_array(_many(field), values, None, None, cast)
        except RecordError:
            return None
    step = field.store.itemsize * math.prod(field.inner_shape)
    return Rows(stored.reshape(-1).view(np.uint8), offsets, step)


@functools.cache
def _many(field):
    """Many values of a field as one sequence."""
    store = None if field.store == field.dtype else field.store
    return Field(field.dtype, (None, *field.inner_shape), store=store)


def _plain(values):
    """Whether values are a list of Python's numbers of one kind: of several NumPy would make one, whatever is lost."""
    kinds = set(map(type, values)) if isinstance(values, (list, tuple)) else ()
    if kinds == {int}:
        return min(values) >= -(1 << 63) and max(values) < 1 << 63
    return kinds == {float} or kinds == {bool}


def _joined(rows: Sequence[Any], offsets: NDArray[np.int64]) -> Any:
    """Rows one after the other, an array or a list; None where they are of several kinds. Sets their offsets."""
    kinds = set(map(type, rows))
    if not kinds or not (kinds == {np.ndarray} or kinds <= {list, tuple}):
        return None
    if kinds != {np.ndarray}:
        np.cumsum(list(map(len, rows)), out=offsets[1:])
        return list(itertools.chain.from_iterable(rows))
    if len({(row.dtype, row.shape[1:], row.ndim) for row in rows}) != 1 or not rows[0].ndim:
        return None
    np.cumsum(list(map(len, rows)), out=offsets[1:])
    return np.concatenate(rows)


def _texts(field, column):
    kinds = set(map(type, column)) if isinstance(column, (list, tuple)) else ()
    if not kinds or not kinds <= {str if field.dtype == TEXT else bytes, *([type(None)] if field.optional else [])}:
        return None
    try:
        array = pa.array(column, pa.large_string() if field.dtype == TEXT else pa.large_binary())
    except (pa.ArrowException, UnicodeEncodeError):
        return None
    valid, ends, data = array.buffers()
    if valid is not None:
        valid = np.unpackbits(np.frombuffer(valid, np.uint8), count=len(array), bitorder="little")
    data = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return Rows(data, np.frombuffer(ends, np.int64)[: len(array) + 1], 1, valid)
