"""Where the tasks of a build run: in processes of its own, or as Ray tasks."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def processes(workers: int) -> Iterator[concurrent.futures.Executor]:
    """An executor of some processes, which end with it, or when this process is killed."""
    # Not fork: it would copy the locks of threads, of which Keras's backends have many.
    executor = concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _end_with_parent():
    """Have a worker end when the process that started it is killed; else it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


class RayExecutor(concurrent.futures.Executor):
    """Run functions as Ray tasks: on the cluster that `ray.init` has connected to, or a local one.

    Args:
        **options: of `ray.remote`, such as `num_cpus` of a task, or `max_retries` if its worker dies.

    Raises:
        ImportError: Ray is not installed.

    Example:
        >>> ray.init(address="auto")  # doctest: +SKIP
        >>> kseq.data.build("corpus", Utterance, "utterances.csv", executor=RayExecutor())  # doctest: +SKIP
    """

    def __init__(self, **options: Any) -> None:
        try:
            import ray
        except ImportError as error:
            raise ImportError("RayExecutor needs Ray: pip install 'kseq[ray]'") from error
        if not ray.is_initialized():
            ray.init()
        self._ray = ray
        self._call = ray.remote(_call).options(**options) if options else ray.remote(_call)
        self._tasks, self._open = {}, True

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Start a task, and return its future."""
        if not self._open:
            raise RuntimeError("the executor is shut down")
        task = self._call.remote(fn, *args, **kwargs)
        # Not Ray's own future: it cannot be cancelled, and raises in Ray's thread if it was.
        future = concurrent.futures.Future()
        self._tasks[future] = task
        future.add_done_callback(lambda done: self._ray.cancel(task) if done.cancelled() else None)
        task.future().add_done_callback(lambda done: self._finish(future, done))
        return future

    def _finish(self, future, done):
        self._tasks.pop(future, None)
        if future.set_running_or_notify_cancel():
            if done.exception() is None:
                future.set_result(done.result())
            else:
                future.set_exception(done.exception())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; the cluster is left as it is."""
        self._open = False
        futures = list(self._tasks)
        if cancel_futures:
            for future in futures:
                future.cancel()
        if wait:
            concurrent.futures.wait(futures)


def _call(fn, *args, **kwargs):
    # Ray takes functions only; executors take whatever can be called.
    return fn(*args, **kwargs)
