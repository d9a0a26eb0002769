"""Data sets of Hugging Face `datasets`: read from objects and from folders of `save_to_disk`."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import FormatError, StoreNotFoundError
from ..store.schema import Schema
from .arrow import records, schema_of
from .base import Format, RecordSource, require

_ROWS_AT_ONCE = 1024


def read(path: Any, columns: Sequence[str] | None = None) -> RecordSource:
    """The records of a data set, without a detour over Python lists.

    Args:
        path: a `datasets.Dataset` or `IterableDataset`, or the folder to which one was saved by `save_to_disk`.
        columns: names of the columns to read; by default all.

    Raises:
        FormatError: a `DatasetDict` (choose one of its parts), columns that no field can hold.

    Example:
        >>> source = read(datasets.load_dataset("rotten_tomatoes", split="train"))  # doctest: +SKIP
    """
    if isinstance(path, (str, os.PathLike)):
        if not os.path.isdir(path):
            raise StoreNotFoundError("no such folder of a data set", path)
        try:
            data = _package().load_from_disk(os.fspath(path))
        except Exception as error:
            raise FormatError(f"it is no folder of save_to_disk, or damaged: {error}", path) from error
    else:
        data, path = path, None
    if isinstance(data, dict):
        raise FormatError(f"choose one data set of {sorted(data)}; received all of them", path)
    if hasattr(data, "_resolve_features") and not hasattr(data, "data"):
        return _IterableSource(data, columns, path)
    if not hasattr(data, "with_format") or not hasattr(data, "column_names"):
        raise FormatError(f"a data set must be a Dataset or an IterableDataset; received {type(data).__name__}", path)
    return _TableSource(data, columns, path)


def _package():
    require("datasets.arrow_dataset")  # a folder "datasets" here would be found as a package too
    return require("datasets")


class _TableSource(RecordSource):
    """Records of the Arrow table under a `Dataset`, in the order of its rows."""

    schema: Schema | None = None

    def __init__(self, data, columns, path):
        self._data = _selected(data, columns, path).with_format("arrow")
        self.path = path
        nullable = set()
        arrow = None
        for table in self._tables():
            arrow = table.schema
            nullable |= {name for name in arrow.names if table.column(name).null_count}
        if arrow is not None:
            self.schema = schema_of(arrow, nullable, path)
        self.metadata = _about(data)

    def __len__(self):
        return len(self._data)

    def _tables(self):
        for start in range(0, len(self._data), _ROWS_AT_ONCE):
            yield self._data[start : start + _ROWS_AT_ONCE]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.schema is None:  # there are no rows
            return
        for table in self._tables():
            for batch in table.to_batches():
                yield from records(batch, self.schema, self.path)


class _IterableSource(RecordSource):
    """Records of an `IterableDataset`; its schema is that of its features, or of the first record."""

    schema: Schema | None

    def __init__(self, data, columns, path):
        features = data.features
        if features is None:
            data = data._resolve_features()
            features = data.features
        if columns is not None:
            for name in columns:
                if name not in features:
                    raise FormatError(f"there must be a column {name!r}; received {sorted(features)}", path)
            data = data.select_columns(list(columns))
            features = {name: features[name] for name in columns}
        self._data, self.path = data.with_format("arrow"), path
        arrow = _package().Features(features).arrow_schema
        # A stream cannot be read twice to look for nulls: any column may have them.
        self.schema = schema_of(arrow, set(arrow.names), path)
        self.metadata = _about(data)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        schema = self._known()
        for table in self._data.iter(_ROWS_AT_ONCE):
            for batch in table.select(list(schema)).to_batches():
                yield from records(batch, schema, self.path)


def _selected(data, columns, path):
    if columns is None:
        return data
    for name in columns:
        if name not in data.column_names:
            raise FormatError(f"there must be a column {name!r}; received {data.column_names}", path)
    return data.select_columns(list(columns))


def _about(data):
    """What the data set says of itself, as JSON values."""
    info = getattr(data, "info", None)
    names = ("description", "citation", "homepage", "license")
    about = {name: str(getattr(info, name, "") or "") for name in names}
    labels = {
        name: list(feature.names) for name, feature in (data.features or {}).items() if hasattr(feature, "int2str")
    }
    return {name: text for name, text in about.items() if text} | ({"labels": labels} if labels else {})


FORMAT = Format("huggingface", (), read, None, "datasets")
