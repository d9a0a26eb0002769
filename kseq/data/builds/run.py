"""Running the tasks of a build: here, or by an executor whose workers may die."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle
import sys
import threading

from ..errors import BuildError, BuildWorkerError
from .task import build_shard

# Rounds in which no shard at all was finished before a build gives up.
_TRIES = 3


def run_here(tasks):
    """Run tasks one after the other, and yield each with its result."""
    for task in tasks:
        yield task, build_shard(task)


def run_processes(tasks, workers):
    """Run tasks in processes of their own, and yield each with its result as they come.

    Raises:
        BuildError: a class of records that other processes cannot import.
        BuildWorkerError: the processes died, again and again.
    """
    try:
        pickle.dumps(tasks[0].record if tasks else None)
    except Exception as error:
        raise BuildError(
            f"with workers, the class of the records must be one that a module has at its top: {error}"
        ) from error

    @contextlib.contextmanager
    def pool():
        # Not fork: it would copy the locks of threads, of which Keras's backends have many.
        executor = concurrent.futures.ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), _end_with_parent
        )
        try:
            yield executor
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    return run_executor(tasks, pool)


def run_executor(tasks, open_executor):
    """Run tasks by an executor, and yield each with its result as they come.

    What died with its worker is submitted again.

    Args:
        tasks: the `ShardTask`s.
        open_executor: function that returns a context manager of an executor, called again after workers died.

    Raises:
        BuildWorkerError: in several rounds not one task was finished.
    """
    missing, tries = list(tasks), 0
    while missing:
        left, cause = [], None
        with open_executor() as executor:
            futures = {}
            try:
                for task in missing:
                    try:
                        futures[executor.submit(build_shard, task)] = task
                    except Exception as error:  # an executor that is broken or shut down already
                        left.append(task)
                        cause = error
                for future in concurrent.futures.as_completed(futures):
                    try:
                        result = future.result()
                    except (Exception, concurrent.futures.CancelledError) as error:
                        # `build_shard` returns its errors: this is the executor's own.
                        left.append(futures[future])
                        cause = error
                    else:
                        yield futures[future], result
            finally:
                for future in futures:
                    future.cancel()
        tries = tries + 1 if len(left) == len(missing) else 0
        if tries == _TRIES:
            first = min(left, key=lambda task: (task.folder, task.number))
            rows = f"rows {first.rows[0].number} to {first.rows[-1].number}" if first.rows else "no rows"
            raise BuildWorkerError(
                f"{len(left)} shards were not built in {_TRIES} tries, the first with {rows}: the workers failed with "
                f"{type(cause).__name__}: {cause}",
                first.path,
            ) from cause
        missing = left


def _end_with_parent():
    """Have a worker end when the process that started it is killed; else it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


@contextlib.contextmanager
def progress_bar(total, show):
    """A function to call for every shard that is done; it shows how many on a terminal."""
    if not show or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("shards"), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=total)
        yield lambda: progress.advance(bar)
