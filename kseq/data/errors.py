"""What can be wrong with a store or the data for it: each error says which file, shard and record."""

from ..annotations import AnyPath


class DataError(Exception):
    """Base of every error of `kseq.data`."""


class StoreError(DataError):
    """A store cannot be opened, read or written.

    Attributes:
        path: the file or folder that is meant, or None.
    """

    def __init__(self, message: str, path: AnyPath | None = None) -> None:
        super().__init__(message if path is None else f"{path}: {message}")
        self.path: AnyPath | None = path


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no store at a path."""


class StoreExistsError(StoreError, FileExistsError):
    """There is a store, or something else, where a new one was to be written."""


class StoreLockedError(StoreError):
    """Another writer has the store open."""


class StoreWriteError(StoreError, OSError):
    """The operating system refused to write: no space, no permission."""


class StoreChangedError(StoreError):
    """A store is not the one that an object remembers."""


class UnsealedShardError(StoreError):
    """A writer that was killed left a shard that is not part of the store: `repair` recovers it."""


class EmptyStoreError(StoreError):
    """Something was asked of a store without records that needs one."""


class ManifestError(StoreError):
    """A manifest that is damaged, or of a version that is not known."""


class ShardError(StoreError):
    """A shard that is missing, truncated or damaged."""


class FormatError(StoreError):
    """A file of another format (TFRecord, HDF5, ...) that is damaged or not of that format."""


class SchemaError(DataError, ValueError):
    """A schema that is not one, or fields that do not agree with it."""


class RecordError(DataError, ValueError):
    """A record that does not fit the schema.

    Attributes:
        record: number of the record, or None.
        field: name of the field, or None.
    """

    record: int | None
    field: str | None

    def __init__(self, message: str, record: int | None = None, field: str | None = None) -> None:
        where = [] if record is None else [f"record {record}"]
        where += [] if field is None else [f"field {field!r}"]
        super().__init__(f"{', '.join(where)}: {message}" if where else message)
        self.record, self.field = record, field


class StateError(DataError, ValueError):
    """A position in the data that belongs to another store or plan."""


class IncompleteStoreWarning(UserWarning):
    """The writer of a store did not finish: what is there is its last commit."""


class BuildError(DataError):
    """A record could not be built; its cause is the original error.

    Attributes:
        path: the file of the row, or None.
        row: number of the row in its source, from 0, or None.
        line: line of the file on which the row begins, from 1, or None.
    """

    path: AnyPath | None
    row: int | None
    line: int | None

    def __init__(
        self, message: str, path: AnyPath | None = None, row: int | None = None, line: int | None = None
    ) -> None:
        where = [] if path is None else [str(path)]
        where += [] if line is None else [f"line {line}"]
        where += [] if row is None else [f"row {row}"]
        super().__init__(f"{', '.join(where)}: {message}" if where else message)
        self.path, self.row, self.line = path, row, line


class BuildWorkerError(BuildError):
    """The workers of a build died, again and again, before their shards were written."""
