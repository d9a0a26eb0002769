"""The work of a build: one shard from a slice of the rows, a pure function that may run anywhere and more than once."""

import contextlib
import copy
import dataclasses
import inspect
import pickle
import traceback

from ..store.manifest import ShardEntry
from .records import SkipRecord, bound, fills_in, method, record_info, split
from .rows import row_data
from .sink import SinkError, open_sink

WRITTEN, SKIPPED, FAILED = "written", "skipped", "error"


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """What a shard is built from.

    Attributes:
        folder: path or URL of the store, or of the folder of TFRecord files; it is there.
        number: of the shard.
        record: the class of the records.
        path: of the file of the rows, or None.
        header: columns of the rows, or None.
        rows: the `Row`s.
        arguments: keyword arguments for `load` and `split`.
        format: "store" or "tfrecord".
        metadata: for the TFRecord files, which have them each.
        skip_errors: whether to go on after a record that fails.
    """

    folder: str
    number: int
    record: type
    path: str | None
    header: list | None
    rows: list
    arguments: dict
    format: str = "store"
    metadata: dict = dataclasses.field(default_factory=dict)
    skip_errors: bool = False


@dataclasses.dataclass
class Outcome:
    """What became of a row: `first` is its first record in the shard; `cells` are its fields that are not stored."""

    number: int
    line: int | None
    status: str
    first: int = 0
    records: int = 0
    detail: str = ""
    cells: tuple = ()


@dataclasses.dataclass
class ShardResult:
    """A shard that is written, or the error that prevented it.

    Attributes:
        number: of the shard.
        entry: what the manifest will say of it, or None.
        outcomes: one of each row, up to the error if there is one.
        error: the exception, or None.
        trace: its traceback, which is lost on the way from another process.
        of_row: whether the error is that of the last outcome's row.
    """

    number: int
    entry: ShardEntry | None
    outcomes: list
    error: Exception | None = None
    trace: str = ""
    of_row: bool = False


def build_shard(task) -> ShardResult:
    """Load, divide and write the records of a slice of rows as one shard, under its final name.

    Running it again, after it was killed or while it runs elsewhere, gives the same file. Errors are returned, so that
    whatever comes out of an executor otherwise is the executor's.

    Args:
        task: the `ShardTask`.
    """
    outcomes, error = [], None
    methods = [method(task.record, name) for name in ("load", "split")]
    arguments = [taken(each, task.arguments) for each in methods]
    try:
        with open_sink(task) as sink:
            for row in task.rows:
                outcome, error = _add_row(task, row, sink, *arguments)
                outcomes.append(outcome)
                if error is not None and not task.skip_errors:
                    sink.abort()
                    return ShardResult(task.number, None, outcomes, *_portable(error), of_row=True)
            return ShardResult(task.number, sink.close(), outcomes)
    except Exception as error:
        return ShardResult(task.number, None, outcomes, *_portable(error))


def _add_row(task, row, sink, for_load, for_split):
    """Write the records of one row, all or none, and return its `Outcome` and its error, or None."""
    cls, info, cells = task.record, record_info(task.record), ()
    try:
        record = row_data(row, task.header)
        if isinstance(record, cls):
            # What `load` sets must not stay in memory with the caller's record.
            record = copy.copy(record) if fills_in(cls) else record
        elif isinstance(record, dict):
            record = bound(cls, "from_csv_row", info)(record)
        else:
            wanted = cls.__qualname__
            raise TypeError(f"a source must yield {wanted} or dicts; received {type(record).__name__}")
        if info.source_fields:
            texts = bound(record, "to_csv_row", info)()
            cells = tuple(str(texts.get(name, "")) for name in info.source_fields)
        bound(record, "load", info)(**for_load)
        whole = method(cls, "split") is split
        parts = [record] if whole else list(bound(record, "split", info)(**for_split))
        first, names = sink.records, list(info.schema)
        sink.write([{name: getattr(part, name) for name in names} for part in parts])
        return Outcome(row.number, row.line, WRITTEN, first, len(parts), cells=cells), None
    except SkipRecord as reason:
        return Outcome(row.number, row.line, SKIPPED, detail=str(reason), cells=cells), None
    except SinkError:
        raise
    except Exception as error:
        return Outcome(row.number, row.line, FAILED, detail=f"{type(error).__name__}: {error}", cells=cells), error


def taken(function, arguments) -> dict:
    """Those keyword arguments that a function takes."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return arguments
    return {name: value for name, value in arguments.items() if name in parameters}


def check_arguments(cls, arguments, own):
    """Refuse keyword arguments that neither `load` nor `split` takes, or that one of them misses or cannot get.

    Args:
        cls: the class of the records.
        arguments: those that are for `load` and `split`.
        own: names of those that `build` takes itself.

    Raises:
        TypeError: there are such.
    """
    methods = [method(cls, "load"), method(cls, "split")]
    unknown = [name for name in arguments if not any(name in taken(each, {name: None}) for each in methods)]
    if unknown:
        raise TypeError(f"{cls.__qualname__}.load and .split take no arguments {unknown}")
    for each in methods:
        shared = [name for name in list(inspect.signature(each).parameters)[1:] if name in own]
        if shared:
            raise TypeError(f"{each.__qualname__} takes {shared}, which build keeps for itself: give it another name")
    if fills_in(cls):
        for each in methods:
            try:
                inspect.signature(each).bind(None, **taken(each, arguments))
            except TypeError as error:
                raise TypeError(f"{each.__qualname__}: {error}; give it to build") from None


def _portable(error):
    """An exception that another process can read, and its traceback as text."""
    if isinstance(error, SinkError) and error.__cause__ is not None:
        error = error.__cause__
    text = "".join(traceback.format_exception(error))
    with contextlib.suppress(Exception):
        same = pickle.loads(pickle.dumps(error))
        if type(same) is type(error) and str(same) == str(error):
            return error, text
    return RuntimeError(f"{type(error).__name__}: {error}"), text
