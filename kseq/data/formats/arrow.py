"""Columns of Arrow as the fields of records, and back."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from ...annotations import AnyPath
from ..errors import FormatError
from ..store.schema import BINARY, TEXT, Field, Schema
from .schemas import make_schema

_PLAIN = "biuf"


def arrow_type(field: Field) -> Any:
    """The Arrow type of a field's values."""
    import pyarrow as pa

    if field.text:
        return pa.large_string() if field.dtype == TEXT else pa.large_binary()
    if _plain(field.store):
        kind = pa.from_numpy_dtype(field.store)
    else:
        kind = pa.binary(field.store.itemsize)
    for size in reversed(field.inner_shape):
        kind = pa.list_(kind, size)
    return pa.large_list(kind) if field.ragged else kind


def _plain(dtype):
    return dtype.kind in _PLAIN and dtype.isbuiltin != 2 and dtype.itemsize <= 8


def schema_of(arrow: Any, nullable: Collection[str], path: AnyPath | None) -> Schema:
    """The schema of an Arrow schema's columns.

    Args:
        arrow: the `pyarrow.Schema`.
        nullable: names of the columns in which some record has no value.
        path: that errors name.

    Raises:
        FormatError: a column that no field can hold.
    """
    return make_schema({name: (*_field(arrow.field(name), path), name in nullable) for name in arrow.names}, path)


def _field(column, path):
    """The dtype and shape of a column."""
    from pyarrow import types

    kind, shape = _storage(column.type), []
    if types.is_list(kind) or types.is_large_list(kind):
        kind, shape = _storage(kind.value_type), [None]
    while types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = _storage(kind.value_type)
    dtype = _dtype(kind)
    if dtype is None or (isinstance(dtype, str) and shape):
        raise FormatError(
            f"column {column.name!r} must be of numbers, texts, or lists of numbers; received {column.type}: "
            "choose others with columns=",
            path,
        )
    return dtype, tuple(shape)


def _storage(kind):
    return kind.storage_type if hasattr(kind, "storage_type") else kind


def _dtype(kind):
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind):
        return TEXT
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return BINARY
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        return np.dtype(kind.to_pandas_dtype())
    if types.is_timestamp(kind) and kind.tz is None:
        return np.dtype(f"M8[{kind.unit}]")
    if types.is_duration(kind):
        return np.dtype(f"m8[{kind.unit}]")
    return np.dtype("M8[D]") if types.is_date32(kind) else None


def records(batch: Any, schema: Schema, path: AnyPath | None) -> Iterator[dict[str, Any]]:
    """The records of a `pyarrow.RecordBatch`: arrays are views of its columns.

    Raises:
        FormatError: values that are missing where the schema says that they are there.
    """
    columns = [_values(batch.column(name), name, field, path) for name, field in schema.items()]
    names = list(schema)
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def _values(column, name, field, path):
    """The values of a column, one for each record."""
    import pyarrow as pa
    from pyarrow import types

    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    shared = types.is_dictionary(column.type)
    if shared:
        try:
            column.validate(full=True)  # its places in the dictionary
        except pa.ArrowInvalid as error:
            raise FormatError(f"column {name!r} is damaged: {error}", path) from None
        column = column if field.text else column.dictionary_decode()
    there = None
    if column.null_count:
        if not field.optional:
            raise FormatError(f"column {name!r} must have all values; received {column.null_count} nulls", path)
        there = column.is_valid().to_numpy(zero_copy_only=False)
    if field.text:
        try:
            if not shared:
                yield from column.to_pylist()
                return
            texts = column.dictionary.to_pylist()
            for place in column.indices.to_pylist():
                yield None if place is None else texts[place]
        except UnicodeDecodeError as error:
            raise FormatError(f"column {name!r} must be UTF-8: {error}", path) from None
        return
    if field.ragged:
        offsets = column.offsets.to_numpy()
        start, stop = int(offsets[0]), int(offsets[-1])
        flat = _flat(column.values.slice(start, stop - start), name, field, path)
        offsets = (offsets - start).tolist()
        for n in range(len(column)):
            yield flat[offsets[n] : offsets[n + 1]] if there is None or there[n] else None
        return
    flat = _flat(column, name, field, path, there is not None)
    for n, value in enumerate(flat):
        yield value if there is None or there[n] else None


def _flat(values, name, field, path, nulls=False):
    """The steps of sequences, or the arrays of records, as one array [n, *inner_shape]."""
    import pyarrow as pa

    count = len(values)
    while True:
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        if values.null_count and not nulls:
            raise FormatError(f"column {name!r} must have no nulls in its lists; received some", path)
        if not pa.types.is_fixed_size_list(values.type):
            break
        size = values.type.list_size
        # Not `flatten`: it leaves out what belongs to nulls.
        values = values.values.slice(values.offset * size, len(values) * size)
    if pa.types.is_fixed_size_binary(values.type):
        width = values.type.byte_width
        data = values.buffers()[1]
        bare = np.frombuffer(data if data is not None else b"", "u1", count=-1)
        bare = bare[values.offset * width : (values.offset + len(values)) * width]
        array = np.frombuffer(bare.tobytes(), field.store)
    else:
        if values.null_count:
            values = values.fill_null(False if pa.types.is_boolean(values.type) else _zero(values.type))
        array = values.to_numpy(zero_copy_only=False)
    array = array.reshape(count, *field.inner_shape)
    return array if array.dtype == field.dtype else array.astype(field.dtype)


def _zero(kind):
    import pyarrow as pa

    return pa.scalar(0, pa.int64()).cast(kind) if not pa.types.is_date32(kind) else pa.scalar(0, pa.int32()).cast(kind)


def column_of(values: Sequence[Any], field: Field, kind: Any) -> Any:
    """The values of records as an Arrow array."""
    import pyarrow as pa

    if field.text:
        return pa.array(values, kind)
    there = np.array([value is not None for value in values], bool)
    nothing = np.zeros((0, *field.inner_shape) if field.ragged else field.inner_shape, field.store)
    mask = None if there.all() else pa.array(~there)
    values = [nothing if value is None else value for value in values]
    inner = kind.value_type if field.ragged else kind
    if not field.ragged:
        return _fixed(np.stack(values), inner, None if mask is None else ~there)
    offsets = np.cumsum([0, *map(len, values)], dtype="int64")
    flat = _fixed(np.concatenate(values), inner, None)
    return pa.LargeListArray.from_arrays(pa.array(offsets), flat, type=kind, mask=mask)


def _fixed(array, kind, absent):
    """An array [n, *inner_shape] as Arrow fixed-size lists of values; `absent` marks nulls."""
    import pyarrow as pa

    leaf, kinds = kind, []
    while pa.types.is_fixed_size_list(leaf):
        kinds.append(leaf)
        leaf = leaf.value_type
    flat = np.ascontiguousarray(array).reshape(-1)
    outer = None if kinds else absent
    if pa.types.is_fixed_size_binary(leaf):
        valid = None if outer is None else pa.array(~outer).buffers()[1]
        values = pa.FixedSizeBinaryArray.from_buffers(leaf, len(flat), [valid, pa.py_buffer(flat.tobytes())])
    else:
        values = pa.array(flat, leaf, mask=outer)
    for depth, kind in enumerate(reversed(kinds)):
        last = depth == len(kinds) - 1
        mask = pa.array(absent) if last and absent is not None else None
        values = pa.FixedSizeListArray.from_arrays(values, type=kind, mask=mask)
    return values
