"""The work of a build: shards from a slice of the rows, a pure function that may run anywhere and more than once."""

import contextlib
import copy
import dataclasses
import inspect
import pickle
import traceback

from ..errors import RecordError
from ..store.conversion import as_dict
from .records import SkipRecord, bound, fills_in, method, record_info, split
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

    record: type
    arguments: dict = dataclasses.field(default_factory=dict)
    format: str = "store"
    metadata: dict = dataclasses.field(default_factory=dict)
    skip_errors: bool = False
    cast: bool = False
    shard_bytes: int | None = None

    def taken(self, name) -> dict:
        """The keyword arguments that a method of the records takes."""
        return _taken(method(self.record, name), self.arguments)


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
    cells: tuple = ()


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

    entries: tuple
    outcomes: list
    error: Exception | None = None
    trace: str = ""
    of_row: bool = False


def build_shard(task) -> ShardResult:
    """Load, divide and write the records of a slice of rows as one shard or several, under their final names.

    Running it again, after it was killed or while it runs elsewhere, gives the same files. Errors are returned, so that
    whatever comes out of an executor otherwise is the executor's.

    Args:
        task: the `ShardTask`.
    """
    outcomes, error = [], None
    arguments = [task.recipe.taken(name) for name in _TAKERS]
    try:
        with open_sink(task) as sink:
            for place, row in enumerate(task.source.rows):
                sink.begin_row(place)
                outcome, error = _add_row(task, row, sink, *arguments)
                outcomes.append(outcome)
                if error is not None and not task.recipe.skip_errors:
                    return ShardResult((), outcomes, *_portable(error), of_row=True)
            return ShardResult(tuple(sink.close()), outcomes)
    except Exception as error:
        return ShardResult((), outcomes, *_portable(error))


def _add_row(task, row, sink, for_load, for_split, for_row):
    """Write the records of one row, all or none, and return its `Outcome` and its error, or None."""
    cls, info, cells = task.recipe.record, record_info(task.recipe.record), ()
    try:
        record = task.source.data(row)
        if isinstance(record, cls):
            # What `load` sets must not stay in memory with the caller's record.
            record = copy.copy(record) if fills_in(cls) else record
        else:
            record = bound(cls, "from_csv_row", info)(_as_row(record, cls), **for_row)
        if info.source_fields:
            texts = bound(record, "to_csv_row", info)()
            cells = tuple(str(texts.get(name, "")) for name in info.source_fields)
        loaded = bound(record, "load", info)(**for_load)
        if loaded is not None and loaded is not record:
            _fill(record, info.schema, as_dict(info.schema, loaded))
        whole = method(cls, "split") is split
        parts = [record] if whole else bound(record, "split", info)(**for_split)
        parts = [as_dict(info.schema, part) for part in parts]
        shard, first = sink.write(parts)
        return Outcome(row.number, row.line, WRITTEN, shard, first, len(parts), cells=cells), None
    except SkipRecord as reason:
        return Outcome(row.number, row.line, SKIPPED, detail=str(reason), cells=cells), None
    except SinkError:
        raise
    except Exception as error:
        return Outcome(row.number, row.line, FAILED, detail=f"{type(error).__name__}: {error}", cells=cells), error


def _as_row(row, cls):
    """A row as `from_csv_row` takes it: a dict, a list or an array."""
    if isinstance(row, (dict, list, tuple)) or hasattr(row, "__array__"):
        return row
    wanted = cls.__qualname__
    raise TypeError(f"a source must yield {wanted} or dicts; received {type(row).__name__}")


def _fill(record, schema, values):
    """Set the fields that `load` returned."""
    for name, value in values.items():
        if name not in schema:
            raise RecordError(f"load must return fields of {list(schema)}; received {name!r}")
        setattr(record, name, value)


def _taken(function, arguments) -> dict:
    """Those keyword arguments that a function takes."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return arguments
    return {name: value for name, value in arguments.items() if name in parameters}


def check_arguments(cls, arguments, own):
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
