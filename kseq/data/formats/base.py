"""What every format of files offers: a source of records to read, and a sink to write them to."""

import abc
import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..store.aside import CompletedOrAborted
from ..store.schema import Schema


class RecordSource(abc.ABC):
    """The records of a file or folder of files; every iteration begins anew.

    Attributes:
        schema: the `Schema` of the records, or None where the format has none (then it is inferred).
        metadata: what the file says beside its records, a dict of JSON values.
    """

    schema: Schema | None = None
    metadata: Mapping[str, Any] = {}

    @abc.abstractmethod
    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield records: dicts of NumPy arrays, numbers, strings and bytes."""

    def columns(self) -> Iterator[dict[str, Any]] | None:
        """The same as columns of many records each, as `Writer.write_batch` takes them, where these are quicker to
        read; else None."""
        return None

    def _known(self) -> Schema:
        """The schema, of a source that always has one."""
        assert self.schema is not None
        return self.schema


def rows_of(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the records of columns."""
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


class RecordSink(CompletedOrAborted):
    """A file of another format, written record by record; used as a context manager.

    An exception inside the `with` leaves no file: it is written aside and renamed when it is complete.
    """

    @abc.abstractmethod
    def write(self, record: dict[str, Any]) -> None:
        """Write one record, a dict."""


@dataclasses.dataclass(frozen=True)
class Format:
    """One format: its name, the suffixes of its files, and how it is read and written.

    Args:
        name: what the command line and errors call it.
        suffixes: of files that are of this format unless something else is said.
        read: `(path, **options) -> RecordSource`.
        write: `(path, schema, metadata, **options) -> RecordSink`, or None where kseq does not write it.
        needs: the package to install for it, or None.
        keeps_metadata: whether its files have a place for metadata; else `write` refuses any.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[..., RecordSource]
    write: Callable[..., RecordSink] | None = None
    needs: str | None = None
    keeps_metadata: bool = True


@functools.cache
def require(package: str, extra: str | None = None, name: str | None = None) -> Any:
    """An optional package.

    Args:
        package: what is imported.
        extra: the extra of kseq that installs it.
        name: what it is called where its import is not.

    Raises:
        ImportError: it is not installed; the text says what to install.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = name or package.split(".")[0]
        what = f"'kseq[{extra}]'" if extra else name
        raise ImportError(f"this format needs {name}: pip install {what}") from error
