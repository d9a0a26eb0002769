"""Running the tasks of a build: here, or by an executor whose workers may die."""

import concurrent.futures
import contextlib
import functools
import logging
import pickle
import sys
from collections.abc import Sequence

from ..errors import BuildError, BuildWorkerError
from .executors import processes
from .task import FAILED, WRITTEN, ShardResult, ShardTask, build_shard

# Rounds in which no shard at all was finished before a build gives up.
_TRIES = 3
_log = logging.getLogger("kseq.data")


def run(
    tasks: Sequence[ShardTask],
    executor: concurrent.futures.Executor | None = None,
    workers: int = 1,
    progress: bool = False,
) -> dict[int, ShardResult]:
    """The `ShardResult` of every `ShardTask`, by the task's place in the list.

    Args:
        tasks: the list.
        executor: what runs them, or None; it is not shut down.
        workers: how many processes run them where there is no executor; 1 is this one.
        progress: whether to show a bar on a terminal.

    Raises:
        BuildError: a row failed; or the class of the records is one that other processes cannot import.
        BuildWorkerError: the workers died, again and again.
    """
    results = {}
    with _bar(sum(len(task.source.rows) for task in tasks), progress) as advance:
        if executor is not None:
            running = _submitted(tasks, lambda: contextlib.nullcontext(executor), advance)
        elif workers > 1:
            _check_importable(tasks)
            running = _submitted(tasks, functools.partial(processes, workers), advance)
        else:
            running = ((place, build_shard(task, advance)) for place, task in enumerate(tasks))
        with contextlib.closing(running):
            for place, result in running:
                _raise_or_log(tasks[place], result)
                results[place] = result
    return results


def _raise_or_log(task, result):
    """Raise the error of a result, if it has one; log the rows that are not written."""
    error, path = result.error, task.source.path
    if error is not None:
        if error.__traceback__ is None:
            error.add_note(f"in a worker:\n{result.trace}")
        if not result.of_row:
            raise error
        outcome = result.outcomes[-1]
        raise BuildError(outcome.detail, path, outcome.number, outcome.line) from error
    for outcome in result.outcomes:
        if outcome.status != WRITTEN:
            level = logging.WARNING if outcome.status == FAILED else logging.INFO
            _log.log(level, "%s: %s", outcome.status, BuildError(outcome.detail, path, outcome.number, outcome.line))


def _check_importable(tasks):
    try:
        pickle.dumps(tasks[0].recipe.record if tasks else None)
    except Exception as error:
        raise BuildError(
            f"with workers, the class of the records must be one that a module has at its top: {error}"
        ) from error


def _submitted(tasks, open_executor, advance):
    """Run tasks by an executor, and yield the place of each with its result as they come.

    What died with its worker is submitted again.

    Args:
        tasks: the `ShardTask`s.
        open_executor: function that returns a context manager of an executor, called again after workers died.
        advance: called with the number of rows that are done.

    Raises:
        BuildWorkerError: in several rounds not one task was finished.
    """
    missing, tries = range(len(tasks)), 0
    while missing:
        left, cause = [], None
        with open_executor() as executor:
            futures = {}
            try:
                for place in missing:
                    try:
                        futures[executor.submit(build_shard, tasks[place])] = place
                    except Exception as error:  # an executor that is broken or shut down already
                        left.append(place)
                        cause = error
                for future in concurrent.futures.as_completed(futures):
                    try:
                        result = future.result()
                    except (Exception, concurrent.futures.CancelledError) as error:
                        # `build_shard` returns its errors: this is the executor's own.
                        left.append(futures[future])
                        cause = error
                    else:
                        advance(len(tasks[futures[future]].source.rows))
                        yield futures[future], result
            finally:
                for future in futures:
                    future.cancel()
        tries = tries + 1 if len(left) == len(missing) else 0
        if tries == _TRIES:
            first = tasks[min(left)].source
            rows = f"rows {first.rows[0].number} to {first.rows[-1].number}" if first.rows else "no rows"
            raise BuildWorkerError(
                f"{len(left)} shards were not built in {_TRIES} tries, the first with {rows}: the workers failed with "
                f"{type(cause).__name__}: {cause}",
                first.path,
            ) from cause
        missing = left


@contextlib.contextmanager
def _bar(total, show):
    """A function to call with a number of rows that are done; it shows them on a terminal."""
    if not show or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("rows"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=total)
        yield lambda count: progress.advance(bar, count)
