"""Ray as an executor of `concurrent.futures`."""

import concurrent.futures


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

    def __init__(self, **options):
        try:
            import ray
        except ImportError as error:
            raise ImportError("RayExecutor needs Ray: pip install 'kseq[ray]'") from error
        if not ray.is_initialized():
            ray.init()
        self._ray = ray
        self._call = ray.remote(_call).options(**options) if options else ray.remote(_call)
        self._tasks, self._open = {}, True

    def submit(self, fn, /, *args, **kwargs):
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

    def shutdown(self, wait=True, *, cancel_futures=False):
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
