"""The work of a build: shards from a slice of the rows, a pure function that may run anywhere and more than once."""

import contextlib
import copy
import dataclasses
import inspect
import pickle
import traceback
from collections.abc import Callable, Collection
from typing import Any

from ..errors import RecordError
from ..store.conversion import as_dict
from ..store.manifest import ShardEntry
from .records import SkipRecord, bound, csv_cells, fills_in, method, record_info, split
from .rows import SourceRows
from .sink import SinkError, open_sink

WRITTEN, SKIPPED, FAILED = "written", "skipped", "error"
_TAKERS = "load", "split", "from_csv_row"  # methods of records that take keyword arguments of a build


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a build does with its rows, whatever the shard.

    Attributes:
        record: the class of the records.
        arguments: keyword arguments for methods of the records.
        format: "store" or "tfrecord".
        metadata: for the TFRecord files, which have them each.
        skip_errors: whether to go on after a record that fails.
        cast: whether arrays of wider floats are rounded to those of their field.
        shard_bytes: bytes after which a shard ends, or None.
    """

    record: type[Any]
    arguments: dict[str, Any]
    format: str
    metadata: dict[str, Any]
    skip_errors: bool
    cast: bool
    shard_bytes: int | None


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """What a shard is built from, or several where there are bytes at which they end.

    Attributes:
        folder: path or URL of the store, or of the folder of TFRecord files; it is there.
        number: of the first shard.
        source: the `SourceRows`.
        recipe: the `Recipe`.
    """

    folder: str
    number: int
    source: SourceRows
    recipe: Recipe


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a row: `first` is its first record in `shard`; `cells` are its fields that are not stored."""

    number: int
    line: int | None
    status: str
    shard: int | None = None
    first: int = 0
    records: int = 0
    detail: str = ""
    cells: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """Shards that are written, or the error that prevented them.

    Attributes:
        entries: what the manifest will say of them, a `ShardEntry` each.
        outcomes: one of each row, up to the error if there is one.
        error: the exception, or None.
        trace: its traceback, which is lost on the way from another process.
        of_row: whether the error is that of the last outcome's row.
    """

    entries: tuple[ShardEntry, ...]
    outcomes: list[Outcome]
    error: Exception | None = None
    trace: str = ""
    of_row: bool = False


def build_shard(task: ShardTask, advance: Callable[[int], Any] | None = None) -> ShardResult:
    """Load, divide and write the records of a slice of rows as one shard or several, under their final names.

    Running it again, after it was killed or while it runs elsewhere, gives the same files. Errors are returned, so that
    whatever comes out of an executor otherwise is the executor's.

    Args:
        task: the `ShardTask`.
        advance: called with the number of rows that are done, from time to time.
    """
    outcomes, error = [], None
    try:
        with open_sink(task) as sink:
            work = _RowWork(task, sink)
            for place, row in enumerate(task.source.rows):
                sink.begin_row(place)
                outcome, error = work.do(row)
                outcomes.append(outcome)
                if advance is not None and (place + 1 == len(task.source.rows) or (place + 1) % _SHOWN == 0):
                    advance(place % _SHOWN + 1)
                if error is not None and not task.recipe.skip_errors:
                    return ShardResult((), outcomes, *_portable(error), of_row=True)
            return ShardResult(tuple(sink.close()), outcomes)
    except Exception as error:
        return ShardResult((), outcomes, *_portable(error))


_SHOWN = 500  # rows after which progress is told


class _RowWork:
    """What is done with each row of a task; what is the same for all is looked up once."""

    def __init__(self, task, sink):
        cls, recipe = task.recipe.record, task.recipe
        self._data, self._write, self._class, self._info = task.source.data, sink.write, cls, record_info(cls)
        self._arguments = {name: _taken(method(cls, name), recipe.arguments) for name in _TAKERS}
        self._sources = self._info.source_fields
        self._fills, self._whole = fills_in(cls), method(cls, "split") is split

    def do(self, row):
        """Write the records of a row, all or none, and return its `Outcome` and its error, or None."""
        cells = ()
        try:
            record = self._record(self._data(row))
            cells = csv_cells(record, self._info, self._sources)
            parts = [as_dict(self._info.schema, part) for part in self._parts(record)]
            shard, first = self._write(parts)
            return Outcome(row.number, row.line, WRITTEN, shard, first, len(parts), cells=cells), None
        except SkipRecord as reason:
            return Outcome(row.number, row.line, SKIPPED, detail=str(reason), cells=cells), None
        except SinkError:
            raise
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"
            return Outcome(row.number, row.line, FAILED, detail=detail, cells=cells), error

    def _record(self, data):
        if isinstance(data, self._class):
            # What `load` sets must not stay in memory with the caller's record.
            return copy.copy(data) if self._fills else data
        if isinstance(data, (dict, list, tuple)) or hasattr(data, "__array__"):
            return self._call(self._class, "from_csv_row", data)
        wanted = self._class.__qualname__
        raise TypeError(f"a source must yield {wanted} or dicts; received {type(data).__name__}")

    def _parts(self, record):
        """Load a record, and return what it becomes."""
        loaded, schema = self._call(record, "load"), self._info.schema
        if loaded is not None and loaded is not record:
            for name, value in as_dict(schema, loaded).items():
                if name not in schema:
                    raise RecordError(f"load must return fields of {list(schema)}; received {name!r}")
                setattr(record, name, value)
        return [record] if self._whole else self._call(record, "split")

    def _call(self, owner, name, *row):
        return bound(owner, name, self._info)(*row, **self._arguments[name])


def _taken(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Those keyword arguments that a function takes."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return arguments
    return {name: value for name, value in arguments.items() if name in parameters}


def check_arguments(cls: type[Any], arguments: dict[str, Any], own: Collection[str]) -> None:
    """Refuse keyword arguments that no method of the records takes, or that one of them misses or cannot get.

    Args:
        cls: the class of the records.
        arguments: those that are for methods of the records.
        own: names of those that `build` takes itself.

    Raises:
        TypeError: there are such.
    """
    methods = {f"{cls.__qualname__}.{name}": method(cls, name) for name in _TAKERS}
    unknown = [name for name in arguments if not any(name in _taken(each, {name: None}) for each in methods.values())]
    if unknown:
        raise TypeError(f"{cls.__qualname__}.load and .split take no arguments {unknown}")
    variable = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    for name, each in methods.items():
        signature = inspect.signature(each)  # first of all is the record, or the row
        shared = [
            part.name
            for part in list(signature.parameters.values())[1:]
            if part.name in own and part.kind not in variable
        ]
        if shared:
            raise TypeError(f"{name} takes {shared}, which build keeps for itself: give it another name")
        try:
            signature.bind(None, **_taken(each, arguments))
        except TypeError as error:
            raise TypeError(f"{name}: {error}; give it to build") from None


def _portable(error: Exception) -> tuple[Exception, str]:
    """An exception that another process can read, and its traceback as text."""
    if isinstance(error, SinkError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = "".join(traceback.format_exception(error))
    with contextlib.suppress(Exception):
        same = pickle.loads(pickle.dumps(error))
        if type(same) is type(error) and str(same) == str(error):
            return error, text
    return RuntimeError(f"{type(error).__name__}: {error}"), text
