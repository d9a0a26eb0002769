"""Building stores of records from rows: split, loaded and written in parallel, committed at once."""

import contextlib
import inspect
import logging
import math
import os

from kseq.arguments import as_integer
from kseq.version import __version__

from ..errors import BuildError, SchemaError, StoreNotFoundError
from ..store.commits import check_json, commit_shards
from .folder import building, check_local, remove_staged, subfolder
from .folds import write_folds
from .plan import divide
from .records import record_info, schema_of
from .report import BuildReport, count, read_config, table, write_config
from .rows import read_rows
from .run import progress_bar, run_executor, run_here, run_processes
from .task import FAILED, WRITTEN, ShardTask, check_arguments

# Rows of a shard where nothing is said: enough shards for many workers, none too small.
_SHARDS, _LEAST_ROWS, _MOST_ROWS = 32, 256, 8192
_log = logging.getLogger("kseq.data")


def build(
    path,
    RecordClass,
    source,
    *,
    splits=None,
    folds=None,
    seed=0,
    by=None,
    executor=None,
    workers=None,
    format="store",
    on_error="raise",
    shard_rows=None,
    metadata=None,
    progress=True,
    **kw,
) -> BuildReport:
    """Build stores of records from a CSV or other source: one store for each split, `path/train` and so on.

    Beside the stores are `<split>.csv`, which says of every row where its records are or why there are none, and
    `build.json`, from which `rebuild` does the same again. The stores are the same bytes whatever the executor and
    however often its workers die. All appear at once, in the end: after an error there is nothing at `path`.

    Args:
        path: folder to make, or a URL that `fsspec` knows.
        RecordClass: class decorated with `kseq.data.record`.
        source: a CSV, TSV or JSON lines file, files of another format (`kseq.data.formats`), an iterable of records
            or of dicts, or a dict of these by the name of their split. It is held in memory: leave what is heavy to
            `load`.
        splits: the share of each split; they sum to 1. By default train 0.8, eval 0.1, test 0.1.
        folds: number of folds, instead of splits: `path/fold-0` and so on hold every record once, and
            `path/folds.json` lists which of them train and test; `open_fold` opens them.
        seed: of the choice of splits; None spreads each evenly over the rows.
        by: column or attribute whose equal values stay in one split, such as the speaker.
        executor: a `concurrent.futures.Executor`, such as `distributed.Client().get_executor()` or `RayExecutor()`,
            whose workers see `path`. It is not shut down.
        workers: processes to use without an executor; by default the work is done in this one.
        format: "store" or "tfrecord".
        on_error: "raise", or "skip" to leave out rows that fail; they are logged, counted and in the CSV.
        shard_rows: rows of the source in a shard; by default by their number.
        metadata: JSON values that describe the data, written into every store.
        progress: whether to show a bar on a terminal.
        **kw: JSON values for `load` and `split` of the records, whose arguments must have names that are none of these.

    Returns:
        A `BuildReport` with the counts.

    Raises:
        StoreExistsError: something lies at the path.
        BuildError: a record failed; says its file and row, and has the original error as its cause.
        BuildWorkerError: workers died, again and again.
        SchemaError: a class that is no record.

    Example:
        >>> report = build("corpus", Utterance, "utterances.csv", by="speaker", workers=8)  # doctest: +SKIP
        >>> train = kseq.data.open("corpus/train")  # doctest: +SKIP
    """
    info = record_info(RecordClass)
    check_arguments(RecordClass, kw, inspect.signature(build).parameters.keys() - {"kw"})
    check_json("keyword arguments for load and split", kw)
    check_json("metadata", metadata or {})
    for name, value, wanted in (("format", format, ("store", "tfrecord")), ("on_error", on_error, ("raise", "skip"))):
        if value not in wanted:
            raise ValueError(f"{name} must be one of {wanted}; received {value!r}")
    if executor is not None and workers is not None:
        raise ValueError("give an executor or workers, not both")
    workers = 1 if workers is None else as_integer("workers", workers, 1)
    shard_rows = None if shard_rows is None else as_integer("shard_rows", shard_rows, 1)
    if format == "tfrecord":
        check_local(path)

    with building(path) as folder:
        parts, checksums, splits = divide(source, splits, folds, seed, by)
        tasks, folders = [], {}
        for name, (rows, numbers) in parts.items():
            folders[name] = subfolder(folder, name)
            size = shard_rows or min(max(math.ceil(len(numbers) / _SHARDS), _LEAST_ROWS), _MOST_ROWS)
            for number, start in enumerate(range(0, len(numbers), size)):
                chosen = [rows.rows[n] for n in numbers[start : start + size]]
                options = kw, format, metadata or {}, on_error == "skip"
                tasks.append(
                    ShardTask(os.fspath(folders[name]), number, RecordClass, rows.path, rows.header, chosen, *options)
                )
        results = _run(tasks, executor, workers, progress)
        counts = {}
        for name, inner in folders.items():
            done = [results[task.folder, task.number] for task in tasks if task.folder == os.fspath(inner)]
            remove_staged(inner)
            counts[name] = count(done)
            if format == "store":
                commit_shards(inner, info.schema, [result.entry for result in done], metadata=metadata or {})
            folder.put(f"{name}.csv", table(done, info.source_fields, format))
        if folds is not None:
            write_folds(folder, list(parts))
        arguments = {"splits": splits, "folds": folds, "seed": seed, "by": by, "format": format, "on_error": on_error}
        arguments |= {"shard_rows": shard_rows, "metadata": metadata, "kw": kw}
        report = BuildReport(os.fspath(path), counts)
        write_config(folder, _config(RecordClass, source, checksums, arguments, report))
    return report


def rebuild(config, path, RecordClass, *, source=None, executor=None, workers=None, progress=True) -> BuildReport:
    """Build again what a `build.json` says.

    Args:
        config: path of the `build.json`.
        path: folder to make.
        RecordClass: the class of the records.
        source: where the rows are now; needed where they were no file.
        executor: as in `build`, like `workers` and `progress`; they do not change what is built.

    Raises:
        BuildError: a file that is no configuration, or rows that have changed since.
        SchemaError: records with other fields than those of the configuration.
        StoreNotFoundError: there is no such file.

    Example:
        >>> kseq.data.rebuild("corpus/build.json", "corpus-2", Utterance)  # doctest: +SKIP
    """
    where = os.fspath(config)
    try:
        with open(where, "rb") as file:
            found = read_config(file.read(), where)
    except FileNotFoundError:
        raise StoreNotFoundError("there is no such file", where) from None
    if schema_of(RecordClass).to_json() != found["schema"]:
        raise SchemaError(f"{where}: the fields must be {found['schema']}; received {schema_of(RecordClass).to_json()}")
    if source is None:
        source = found["source"]
        if source is None or (isinstance(source, dict) and None in source.values()):
            raise BuildError("its rows came from no file: give the source", where)
    arguments = dict(found["arguments"])
    kw = arguments.pop("kw")
    files = source if isinstance(source, dict) else {"": source}
    for name, expected in found["checksums"].items():
        if expected is not None and read_rows(files[name]).checksum != expected:
            raise BuildError("its rows have changed since that build", files[name])
    return build(path, RecordClass, source, executor=executor, workers=workers, progress=progress, **arguments, **kw)


def _run(tasks, executor, workers, progress):
    """The results of all tasks, by folder and number."""
    if executor is not None:
        running = run_executor(tasks, lambda: contextlib.nullcontext(executor))
    else:
        running = run_processes(tasks, workers) if workers > 1 else run_here(tasks)
    results = {}
    with contextlib.closing(running), progress_bar(len(tasks), progress) as advance:
        for task, result in running:
            if result.error is not None:
                if result.error.__traceback__ is None:
                    result.error.add_note(f"in a worker:\n{result.trace}")
                if not result.of_row:
                    raise result.error
                outcome = result.outcomes[-1]
                raise BuildError(outcome.detail, task.path, outcome.number, outcome.line) from result.error
            for outcome in result.outcomes:
                if outcome.status != WRITTEN:
                    level = logging.WARNING if outcome.status == FAILED else logging.INFO
                    where = BuildError(outcome.detail, task.path, outcome.number, outcome.line)
                    _log.log(level, "%s: %s", outcome.status, where)
            results[task.folder, task.number] = result
            advance()
    return results


def _config(cls, source, checksums, arguments, report):
    """What `build.json` says: nothing of when or where, so that two runs write the same bytes."""
    return {
        "kseq": __version__,
        "record": f"{cls.__module__}:{cls.__qualname__}",
        "schema": schema_of(cls).to_json(),
        "source": {name: _name(each) for name, each in source.items()} if isinstance(source, dict) else _name(source),
        "checksums": checksums,
        "arguments": arguments,
        "splits": report.to_json()["splits"],
    }


def _name(source):
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
