"""Parquet files, read and written, and Arrow IPC files (`.arrow`, `.feather`), read.

Lists are sequences, lists of fixed-size lists sequences with an inner shape, fixed-size lists arrays. What kseq writes
keeps the schema and the metadata in the file's metadata under "kseq", and dtypes that Parquet lacks (complex, bfloat16,
dates, structs) as fixed-size binary, restored by that schema.
"""

import json
import os

import numpy as np

from ..errors import FormatError
from ..schema import BINARY, TEXT, Schema
from . import FileSink, files_of, kept_parts, kept_schema, make_schema
from .base import Format, Source

_KSEQ = b"kseq"
_ARROW_MAGIC, _STREAM_MAGIC = b"ARROW1", b"\xff\xff\xff\xff"
_ROWS_AT_ONCE, _BYTES_AT_ONCE = 4096, 16 << 20
_PLAIN = "biuf"


class ParquetSource(Source):
    """Records of Parquet or Arrow files, a few thousand of them in memory at a time.

    Args:
        path: a file, a pattern, a folder, or a list of files of equal columns.
        columns: names of the columns to read; by default all.

    Raises:
        FormatError: a damaged file, columns that no field can hold, files of different columns.
    """

    def __init__(self, path, columns=None):
        self._files = files_of(path, FORMAT.suffixes)
        arrow, self._columns = None, columns
        nullable = set()
        for file in self._files:
            found = _open(file)
            own = found.schema
            for name in columns or ():
                if name not in own.names:
                    raise FormatError(f"there must be a column {name!r}; received {own.names}", file)
            if columns is not None:
                own = _select(own, columns)
            arrow = own if arrow is None else arrow
            if _types(own) != _types(arrow):
                raise FormatError(f"files must have equal columns: {_types(arrow)}; received {_types(own)}", file)
            found.close()
        kept = _kept(arrow, self._files[0])
        if kept:
            data, self.metadata = kept
            schema = kept_schema(data, self._files[0])
            if columns is not None:
                schema = Schema({name: schema[name] for name in columns if name in schema})
            if {name: arrow_type(field) for name, field in schema.items()} != _types(arrow):
                raise FormatError(f"its schema must be of its columns {_types(arrow)}; received {schema}", file)
            self.schema = schema
            return
        for file in self._files:
            found = _open(file)
            nullable |= found.nullable(arrow.names)
            found.close()
        self.schema = schema_of(arrow, nullable, self._files[0])

    def __iter__(self):
        for path in self._files:
            found = _open(path)
            try:
                for batch in found.batches(list(self.schema)):
                    yield from records(batch, self.schema, path)
            finally:
                found.close()


def _select(arrow, columns):
    import pyarrow as pa

    return pa.schema([arrow.field(name) for name in columns], arrow.metadata)


def _types(arrow):
    return dict(zip(arrow.names, arrow.types, strict=True))


def _kept(arrow, path):
    text = (arrow.metadata or {}).get(_KSEQ)
    if text is None:
        return None
    try:
        kept = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"its metadata is damaged: {error}", path) from None
    return kept_parts(kept, path)


def _open(path):
    with open(path, "rb") as file:
        start = file.read(8)
    if start[:6] == _ARROW_MAGIC or start[:4] == _STREAM_MAGIC:
        return _Ipc(path, start[:4] == _STREAM_MAGIC)
    return _Parquet(path)


class _Parquet:
    """One Parquet file."""

    def __init__(self, path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._errors, self.path = (pa.ArrowException, OSError, ValueError, TypeError, NotImplementedError), path
        try:
            self._file = pq.ParquetFile(path)
            self.schema = _checked(self._file.schema_arrow)
        except self._errors as error:
            raise FormatError(f"it is no Parquet file, or damaged: {error}", path) from None

    def nullable(self, names):
        """The columns in which some record has no value: by the statistics, or by reading them."""
        maybe, meta = set(), self._file.metadata
        try:
            for group in range(meta.num_row_groups):
                for place in range(meta.num_columns):
                    column = meta.row_group(group).column(place)
                    stats = column.statistics
                    if stats is None or not stats.has_null_count or stats.null_count:
                        maybe.add(column.path_in_schema)
        except self._errors as error:
            raise FormatError(f"it is damaged: {error}", self.path) from None
        # A path is that of a leaf ("tokens.list.element"); in those of lists empty ones count as nulls too.
        maybe = {name for name in names if any(leaf == name or leaf.startswith(f"{name}.") for leaf in maybe)}
        found = set()
        for name in sorted(maybe):
            if any(batch.column(0).null_count for batch in self.batches([name])):
                found.add(name)
        return found

    def batches(self, names):
        try:
            for number in range(self._file.metadata.num_row_groups):
                group = self._file.metadata.row_group(number)
                rows = _BYTES_AT_ONCE * group.num_rows // max(group.total_byte_size, 1)
                rows = min(max(rows, 1), _ROWS_AT_ONCE)
                for batch in self._file.iter_batches(rows, [number], names):
                    yield batch.select(names)
        except self._errors as error:
            raise FormatError(f"it is damaged: {error}", self.path) from None

    def close(self):
        self._file.close()


class _Ipc:
    """One file of Arrow IPC, of the file or the stream form; each batch is checked: Arrow trusts its offsets."""

    def __init__(self, path, stream):
        import pyarrow as pa

        self._errors, self.path, self._stream = (pa.ArrowException, OSError, ValueError), path, stream
        try:
            self._source = pa.OSFile(path)
            self._reader = pa.ipc.open_stream(self._source) if stream else pa.ipc.open_file(self._source)
            self.schema = _checked(self._reader.schema)
        except self._errors as error:
            raise FormatError(f"it is no Arrow file, or damaged: {error}", path) from None

    def nullable(self, names):
        """The columns in which some record has no value."""
        return {name for batch in self.batches(names) for name in names if batch.column(name).null_count}

    def batches(self, names):
        try:
            count = None if self._stream else self._reader.num_record_batches
            reader = self._reader if self._stream else map(self._reader.get_batch, range(count))
            for batch in reader:
                batch = batch.select(names)
                batch.validate(full=True)
                yield batch
        except self._errors as error:
            raise FormatError(f"it is damaged: {error}", self.path) from None

    def close(self):
        self._source.close()


def _checked(arrow):
    names = arrow.names
    if len(set(names)) < len(names):
        raise ValueError(f"names of columns must differ; received {names}")
    return arrow


def arrow_type(field):
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


def schema_of(arrow, nullable, path) -> Schema:
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


def records(batch, schema, path):
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
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    there = None
    if column.null_count:
        if not field.optional:
            raise FormatError(f"column {name!r} must have all values; received {column.null_count} nulls", path)
        there = column.is_valid().to_numpy(zero_copy_only=False)
    if field.text:
        try:
            yield from column.to_pylist()
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


class ParquetSink(FileSink):
    """Records to a Parquet file.

    Args:
        path: the file.
        schema: `Schema`; it is kept in the file, as is the metadata.
        metadata: JSON values.
        row_group_bytes: write a row group when the values kept in memory are about so many bytes.
        compression: of pyarrow: "snappy", "zstd", "none", ...
    """

    def __init__(self, path, schema, metadata=None, row_group_bytes=16 << 20, compression="snappy"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        if os.fspath(path).lower().endswith((".arrow", ".feather")):
            raise FormatError("kseq writes Parquet (.parquet), and Arrow files only as stores", path)
        if row_group_bytes < 1:
            raise ValueError(f"row_group_bytes must be from 1; received {row_group_bytes}")
        kept = json.dumps({"schema": schema.to_json(), "metadata": dict(metadata or {})})
        columns = [pa.field(name, arrow_type(field), field.optional) for name, field in schema.items()]
        self._arrow = pa.schema(columns, {_KSEQ: kept.encode()})
        self._most, self._bytes, self._rows = row_group_bytes, 0, {name: [] for name in schema}
        super().__init__(path, schema)
        self._writer = pq.ParquetWriter(self._aside.temporary, self._arrow, compression=compression)

    def _put(self, record):
        for name, value in record.items():
            field = self.schema[name]
            if value is not None:
                self._bytes += len(value) if field.text else value.nbytes
            self._bytes += 8
            self._rows[name].append(value)
        if self._bytes >= self._most:
            self._flush()

    def _flush(self):
        import pyarrow as pa

        columns = [
            _column(self._rows[name], field, self._arrow.field(name).type) for name, field in self.schema.items()
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._arrow))
        self._rows, self._bytes = {name: [] for name in self.schema}, 0

    def _finish(self):
        if self._bytes:
            self._flush()
        self._writer.close()

    def _drop(self):
        self._writer.close()


def _column(values, field, kind):
    """The values of records as an Arrow array."""
    import pyarrow as pa

    if field.text:
        return pa.array(values, kind)
    there = np.array([value is not None for value in values], bool)
    nothing = np.zeros((0, *field.inner_shape) if field.ragged else field.shape, field.store)
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


FORMAT = Format("parquet", (".parquet", ".pq", ".arrow", ".feather"), ParquetSource, ParquetSink)
