"""Building stores of records from rows: split, loaded and written in parallel, committed at once."""

import concurrent.futures
import inspect
import math
import os
from collections.abc import Mapping
from typing import Any, Literal

from kseq.arguments import as_integer
from kseq.version import __version__

from ...annotations import AnyPath
from ..errors import BuildError, SchemaError, StoreNotFoundError
from ..store.commits import check_json, commit_shards
from .folder import building, check_local, remove_staged, subfolder
from .folds import write_folds
from .plan import divide
from .records import record_info, schema_of
from .report import BuildReport, count, read_config, table, write_config
from .rows import source_checksum
from .run import run
from .task import Recipe, ShardTask, check_arguments

# Rows of a shard where nothing is said: enough shards for many workers, none too small.
_SHARDS, _LEAST_ROWS, _MOST_ROWS = 32, 256, 8192


def build(
    path: AnyPath,
    RecordClass: type[Any],
    source: Any,
    *,
    splits: Mapping[str, float] | None = None,
    folds: int | None = None,
    seed: int | None = 0,
    by: str | int | None = None,
    header: bool | list[str] = True,
    executor: concurrent.futures.Executor | None = None,
    workers: int | None = None,
    format: Literal["store", "tfrecord"] = "store",
    on_error: Literal["raise", "skip"] = "raise",
    overwrite: bool = False,
    cast: bool = False,
    shard_rows: int | None = None,
    shard_bytes: int | None = None,
    metadata: dict[str, Any] | None = None,
    progress: bool = True,
    **kw: Any,
) -> BuildReport:
    """Build stores of records from a CSV or other source: one store for each split, `path/train` and so on.

    Beside the stores are `<split>.csv`, which says of every row where its records are or why there are none, and
    `build.json`, from which `rebuild` does the same again. The stores are the same bytes whatever the executor and
    however often its workers die. All appear at once, in the end: after an error everything at `path` is as before.

    Args:
        path: folder to make, or a URL that `fsspec` knows.
        RecordClass: class decorated with `kseq.data.record`.
        source: a CSV, TSV or JSON lines file, files of another format (`kseq.data.formats`), an iterable of records,
            of dicts, of lists in the order of the fields, or of arrays for a class of one field; or a dict of these by
            the name of their split. It is held in memory: leave what is heavy to `load`.
        splits: the share of each split; they sum to 1. By default train 0.8, eval 0.1, test 0.1.
        folds: number of folds, instead of splits: `path/fold-0` and so on hold every record once, and
            `path/folds.json` lists which of them train and test; `open_fold` opens them.
        seed: of the choice of splits; None spreads each evenly over the rows.
        by: column or attribute whose equal values stay in one split, such as the speaker; of lists the cell's number.
        header: whether the first line of CSV names the columns, or a list of their names; False makes rows lists.
        executor: a `concurrent.futures.Executor`, such as `distributed.Client().get_executor()` or `RayExecutor()`,
            whose workers see `path`. It is not shut down.
        workers: processes to use without an executor; by default the work is done in this one.
        format: "store" or "tfrecord".
        on_error: "raise", or "skip" to leave out rows that fail; they are logged, counted and in the CSV.
        overwrite: take the place of the build that is there, which stays until the new one is complete. Where the
            system cannot exchange two folders at once (it can on Linux), there is a moment in between in which it is
            put aside; the next build of the path brings it back.
        cast: round arrays of wider floats, such as float64, to those of their field; by default they are refused.
        shard_rows: rows of the source in a shard, at most; by default by their number.
        shard_bytes: bytes after which a shard ends too; its number is then that of its first row.
        metadata: JSON values that describe the data, written into every store.
        progress: whether to show a bar on a terminal.
        **kw: JSON values for `load`, `split` and `from_csv_row` of the records, whose arguments must have names that
            are none of these.

    Returns:
        A `BuildReport` with the counts.

    Raises:
        StoreExistsError: something lies at the path; with `overwrite`, something that is no build.
        BuildError: a record failed; says its file and row, and has the original error as its cause.
        BuildWorkerError: workers died, again and again.
        SchemaError: a class that is no record.

    Example:
        >>> report = build("corpus", Utterance, "utterances.csv", by="speaker", workers=8)  # doctest: +SKIP
        >>> train = kseq.data.open("corpus/train")  # doctest: +SKIP
    """
    record_info(RecordClass)
    check_arguments(RecordClass, kw, inspect.signature(build).parameters.keys() - {"kw"})
    check_json("keyword arguments of the records", kw)
    check_json("metadata", metadata or {})
    for name, value, wanted in (("format", format, ("store", "tfrecord")), ("on_error", on_error, ("raise", "skip"))):
        if value not in wanted:
            raise ValueError(f"{name} must be one of {wanted}; received {value!r}")
    if not isinstance(header, (bool, list)):
        raise ValueError(f"header must be true, false or a list of names; received {header!r}")
    if executor is not None and workers is not None:
        raise ValueError("give an executor or workers, not both")
    workers = 1 if workers is None else as_integer("workers", workers, 1)
    shard_rows = None if shard_rows is None else as_integer("shard_rows", shard_rows, 1)
    shard_bytes = None if shard_bytes is None else as_integer("shard_bytes", shard_bytes, 1)
    if format == "tfrecord":
        check_local(path)
    recipe = Recipe(RecordClass, kw, format, metadata or {}, on_error == "skip", bool(cast), shard_bytes)

    with building(path, overwrite) as folder:
        division = divide(source, splits, folds, seed, by, header)
        folders = {name: subfolder(folder, name) for name in division.parts}
        tasks = [task for name in folders for task in _tasks(folders[name], division.parts[name], shard_rows, recipe)]
        results = run(tasks, executor, workers, progress)
        counts = {}
        for name, inner in folders.items():
            done = [results[place] for place, task in enumerate(tasks) if task.folder == os.fspath(inner)]
            counts[name] = _complete(folder, name, inner, done, recipe)
        if folds is not None:
            write_folds(folder, list(folders))
        report = BuildReport(os.fspath(path), counts)
        given = {"seed": seed, "by": by, "header": header, "format": format, "on_error": on_error, "cast": recipe.cast}
        given |= {"splits": division.shares, "folds": folds, "metadata": metadata, "kw": kw}
        given |= {"shard_rows": shard_rows, "shard_bytes": shard_bytes}
        write_config(folder, _config(RecordClass, source, division.checksums, given, report))
    return report


def rebuild(
    config: AnyPath,
    path: AnyPath,
    RecordClass: type[Any],
    *,
    source: Any = None,
    executor: concurrent.futures.Executor | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> BuildReport:
    """Build again what a `build.json` says.

    Args:
        config: path of the `build.json`.
        path: folder to make.
        RecordClass: the class of the records.
        source: where the rows are now; needed where they were no file.
        executor: as in `build`, like `workers`, `overwrite` and `progress`; they do not change what is built.

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
        if expected is not None and source_checksum(os.fspath(files[name])) != expected:
            raise BuildError("its rows have changed since that build", files[name])
    arguments |= {"executor": executor, "workers": workers, "overwrite": overwrite, "progress": progress}
    return build(path, RecordClass, source, **arguments, **kw)


def _tasks(folder, source, shard_rows, recipe):
    """The `ShardTask`s of a split."""
    rows = len(source.rows)
    size = shard_rows or min(max(math.ceil(rows / _SHARDS), _LEAST_ROWS), _MOST_ROWS)
    for number, start in enumerate(range(0, rows, size)):
        first = number if recipe.shard_bytes is None else start  # so that numbers differ, whatever the rows become
        yield ShardTask(os.fspath(folder), first, source.take(range(start, min(start + size, rows))), recipe)


def _complete(folder, name, inner, results, recipe):
    """Make what was written of a split a store, list its rows beside it, and return its counts."""
    info = record_info(recipe.record)
    remove_staged(inner)
    if recipe.format == "store":
        entries = [entry for result in results for entry in result.entries]
        commit_shards(inner, info.schema, entries, metadata=recipe.metadata)
    folder.put(f"{name}.csv", table(results, info.source_fields, recipe.format))
    return count(results)


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
