"""Parquet files, read and written, and Arrow IPC files (`.arrow`, `.feather`), read.

Lists are sequences, lists of fixed-size lists sequences with an inner shape, fixed-size lists arrays. What kseq writes
keeps the schema and the metadata in the file's metadata under "kseq", and dtypes that Parquet lacks (complex, bfloat16,
dates, structs) as fixed-size binary, restored by that schema.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...annotations import AnyPath, AnyPaths
from ..errors import FormatError
from ..store.schema import Schema
from .arrow import arrow_type, column_of, records, schema_of
from .base import Format, RecordSource
from .files import FileSink, check_expansion, files_of
from .schemas import kept_parts, kept_schema

_KSEQ = b"kseq"
_ARROW_MAGIC, _STREAM_MAGIC = b"ARROW1", b"\xff\xff\xff\xff"
_ROWS_AT_ONCE, _BYTES_AT_ONCE = 4096, 16 << 20
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}


class ParquetSource(RecordSource):
    """Records of Parquet or Arrow files, a few thousand of them in memory at a time.

    Args:
        path: a file, a pattern, a folder, or a list of files of equal columns.
        columns: names of the columns to read; by default all.
        max_bytes: what a row group of Parquet may take in memory; by default 64 MB, or 64 times what is stored.

    Raises:
        FormatError: a damaged file, or one compressed beyond that; columns that no field can hold, files of different
            columns.
    """

    metadata: Mapping[str, Any]

    schema: Schema | None

    def __init__(self, path: AnyPaths, columns: Sequence[str] | None = None, max_bytes: int | None = None) -> None:
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
            found.check(own.names, max_bytes)
            found.close()
        assert arrow is not None  # there is a file
        kept = _kept(arrow, self._files[0])
        if kept:
            data, self.metadata = kept
            schema = kept_schema(data, self._files[0])
            if columns is not None:
                schema = Schema({name: schema[name] for name in columns if name in schema})
            if {name: arrow_type(field) for name, field in schema.items()} != _types(arrow):
                raise FormatError(
                    f"its schema must be of its columns {_types(arrow)}; received {schema}", self._files[0]
                )
            self.schema = schema
            return
        for file in self._files:
            found = _open(file)
            nullable |= found.nullable(arrow.names)
            found.close()
        self.schema = schema_of(arrow, nullable, self._files[0])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        schema = self._known()
        for path in self._files:
            found = _open(path)
            try:
                for batch in found.batches(list(schema)):
                    yield from records(batch, schema, path)
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
        groups = [group for group in range(meta.num_row_groups) if meta.row_group(group).num_rows]
        try:
            for group in groups:
                for place in range(meta.num_columns):
                    column = meta.row_group(group).column(place)
                    kinds = column.physical_type, self._file.schema.column(place).physical_type
                    if kinds[0] != kinds[1]:  # the same for `statistics`
                        raise ValueError(f"a column must be of the type {kinds[1]}; received {kinds[0]}")
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

    def check(self, names, max_bytes):
        """Refuse a row group of which some columns take far more memory than data of its size does."""
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path, buffer_size=1 << 16) as file:  # a first page costs little so
                for group in range(self._file.metadata.num_row_groups):
                    # Where statistics are damaged pyarrow raises here, but `column` ends the process.
                    next(file.iter_batches(1, [group]), None)
        except self._errors as error:
            raise FormatError(f"it is damaged: {error}", self.path) from None
        for number, (bytes_at_once, stored, _, _) in enumerate(self._groups(names)):
            check_expansion(bytes_at_once, stored, f"row group {number}", self.path, max_bytes)

    def batches(self, names):
        import pyarrow.parquet as pq

        groups = list(self._groups(names))
        # Texts that many rows share stay that: one of a megabyte can be that of a million rows.
        shared = sorted(set().union(*(shared for *_, shared in groups)))
        try:
            with pq.ParquetFile(self.path, read_dictionary=shared) as file:
                for number, (_, _, rows, _) in enumerate(groups):
                    for batch in file.iter_batches(rows, [number], names):
                        yield batch.select(names)
        except self._errors as error:
            raise FormatError(f"it is damaged: {error}", self.path) from None

    def _groups(self, names):
        """Of each row group: bytes that its parts take at once, bytes that are stored, how many of its rows are read
        together, and the columns of shared texts."""
        for number in range(self._file.metadata.num_row_groups):
            group = self._file.metadata.row_group(number)
            unpacked = stored = values = largest = 0
            shared = []
            for place in range(group.num_columns):
                chunk, column = group.column(place), self._file.schema.column(place)
                if column.path.partition(".")[0] not in names and column.path not in names:
                    continue
                width = (
                    column.length
                    if chunk.physical_type == "FIXED_LEN_BYTE_ARRAY"
                    else _WIDTHS.get(chunk.physical_type, 0)
                )
                size = max(chunk.num_values * width, chunk.total_uncompressed_size)
                # Values of a list may all be those of one row; others are read a few at a time.
                unpacked += size if column.max_repetition_level else chunk.total_uncompressed_size
                values, stored = values + size, stored + chunk.total_compressed_size
                if chunk.physical_type == "BYTE_ARRAY" and any("DICTIONARY" in how for how in chunk.encodings):
                    shared.append(column.path)
                if "DELTA_BYTE_ARRAY" in chunk.encodings:  # texts may be the beginning of the one before, and some more
                    largest = max(largest, chunk.total_uncompressed_size)
            rows = min(_BYTES_AT_ONCE * group.num_rows // max(values, 1), _BYTES_AT_ONCE // max(largest, 1))
            yield unpacked, stored, min(max(rows, 1), _ROWS_AT_ONCE), shared

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

    def check(self, names, max_bytes):
        """Nothing says what its parts take before they are read."""

    def nullable(self, names):
        """The columns in which some record has no value."""
        return {name for batch in self.batches(names) for name in names if batch.column(name).null_count}

    def batches(self, names):
        try:
            file = self._reader
            reader = file if self._stream else map(file.get_batch, range(file.num_record_batches))
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


class ParquetSink(FileSink):
    """Records to a Parquet file.

    Args:
        path: the file.
        schema: `Schema`; it is kept in the file, as is the metadata.
        metadata: JSON values.
        row_group_bytes: write a row group when the values kept in memory are about so many bytes.
        compression: of pyarrow: "snappy", "zstd", "none", ...
    """

    def __init__(
        self,
        path: AnyPath,
        schema: Schema,
        metadata: Mapping[str, Any] | None = None,
        row_group_bytes: int = 16 << 20,
        compression: str = "snappy",
    ) -> None:
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
            column_of(self._rows[name], field, self._arrow.field(name).type) for name, field in self.schema.items()
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._arrow))
        self._rows, self._bytes = {name: [] for name in self.schema}, 0

    def _finish(self):
        if self._bytes:
            self._flush()
        self._writer.close()

    def _drop(self):
        self._writer.close()


FORMAT = Format("parquet", (".parquet", ".pq", ".arrow", ".feather"), ParquetSource, ParquetSink)
