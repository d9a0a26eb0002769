"""Functions in a process of their own, with limits of time and memory: there are files that hang or crash libraries."""

import atexit
import faulthandler
import os
import pickle
import subprocess
import sys
import threading
import time

from ..errors import FormatError
from .files import most_bytes

SECONDS = 60  # for an answer
_COPIES = 3  # of the data, within libraries and in the answer
_ROOM = 256 << 20  # bytes that libraries take in any case
_CODE = "import sys; sys.path[:] = {!r}; from kseq.data.formats.child import serve; serve()"


def limited(function, path, *arguments, max_bytes=None, seconds=SECONDS):
    """What `function(path, *arguments)` gives in another process, which must be one that this can import.

    Raises:
        FormatError: it takes too long or too much memory, or the process ends; and whatever it raises.
    """
    most = _COPIES * most_bytes(os.path.getsize(path), max_bytes) + _ROOM
    answer = _CHILD.ask(function, (path, *arguments), most, seconds)
    if isinstance(answer, MemoryError):
        raise FormatError(f"it takes more than {most} bytes of memory: give max_bytes if that is meant", path)
    if isinstance(answer, str):
        raise FormatError(f"it is damaged: reading it {answer}", path)
    if isinstance(answer, BaseException):
        raise answer
    return answer[0]


class _Child:
    """The process, which is started when it is asked, and again when it has ended; a fork has its own."""

    def __init__(self):
        self._process, self._owner, self._lock = None, None, threading.Lock()

    def ask(self, function, arguments, memory, seconds):
        """The value in a tuple, the error, or how the process ended."""
        with self._lock:
            process, start = self._started(), time.monotonic()
            try:
                pickle.dump((function, arguments, memory, seconds), process.stdin, protocol=5)
                process.stdin.flush()
                return pickle.load(process.stdout)
            except (EOFError, OSError, pickle.UnpicklingError):
                self.stop()
                if time.monotonic() - start >= seconds:
                    return f"took more than {seconds} seconds"
                return f"ended its process ({process.returncode})"
            except BaseException:
                self.stop()  # its answer would be that to the next question
                raise

    def _started(self):
        if self._process is not None and self._owner != os.getpid():
            self._process.returncode = 0  # not ours to wait for
            self._process = None
        if self._process is None:
            # Threads of NumPy's algebra would take memory.
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CODE.format(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            self._owner = os.getpid()
        return self._process

    def stop(self):
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            process.stdout.close()
            try:
                process.stdin.close()
            except OSError:
                pass  # what was not sent yet

    def renew(self):
        """In a process that was forked: another thread may have held the lock."""
        self._lock = threading.Lock()


_CHILD = _Child()
atexit.register(_CHILD.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CHILD.renew)


# ---- in the other process


def serve():
    """Answer what is asked until there is nothing more."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print
    while True:
        try:
            function, arguments, memory, seconds = pickle.load(questions)
        except EOFError:
            return
        faulthandler.dump_traceback_later(seconds, exit=True)  # whatever a library does then
        _limit(memory)
        try:
            answer = (function(*arguments),)
        except Exception as error:
            answer = error
        _limit(None)
        faulthandler.cancel_dump_traceback_later()
        pickle.dump(answer, answers, protocol=5)
        answers.flush()


def _limit(memory):
    """Let this process take so many bytes more than it has, or any, where the system can limit it."""
    try:
        import resource

        with open("/proc/self/status") as file:
            (data,) = (int(line.split()[1]) << 10 for line in file if line.startswith("VmData:"))
    except (ImportError, OSError, ValueError):
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = hard if memory is None else data + memory
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
