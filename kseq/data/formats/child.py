"""Functions in a process of their own, with limits of time and memory: there are files that hang or crash libraries."""

import atexit
import contextlib
import faulthandler
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ...annotations import AnyPath
from ..errors import FormatError
from .files import most_bytes

SECONDS = 60  # for an answer
_COPIES, _ROOM = 4, 512 << 20  # of the data, within libraries and in the answer; bytes that they take in any case
_LOOK = 0.05  # seconds between looks at what it takes
_CODE = "import sys; sys.path[:] = {!r}; from kseq.data.formats.child import serve; serve()"


def limited(function: Callable[..., Any], path: AnyPath, *arguments: Any, max_bytes: int | None = None) -> Any:
    """What `function(path, *arguments)` gives in another process, which must be one that this can import.

    Raises:
        FormatError: it takes too long or too much memory, or the process ends; and whatever it raises.
    """
    most = most_bytes(os.path.getsize(path), max_bytes)
    what, answer = _CHILD.ask((function, (path, *arguments), SECONDS), _COPIES * most + _ROOM)
    if what == "memory":
        raise FormatError(f"it would take more than {most} bytes of memory: give max_bytes if that is meant", path)
    if what == "end":
        raise FormatError(f"it is damaged: what reads it {answer}", path)
    if what == "error":
        raise answer
    return answer


class _Child:
    """The process, which is started when it is asked, and again when it has ended; a fork has its own."""

    def __init__(self):
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[Any] | None = None
        self._guard = threading.Lock()

    def ask(self, question: tuple[Any, ...], memory: int) -> tuple[str, Any]:
        """What became of it ("value", "error", "memory", "end"), and the value, the error, or how it ended."""
        with self._guard:
            if self._process is None:
                self._start()
            process, answers = self._process, self._answers
            assert process is not None and process.stdin is not None and answers is not None
            latest = time.monotonic() + question[-1]
            try:
                with contextlib.suppress(OSError):  # it has ended: so has its answer
                    pickle.dump(question, process.stdin, protocol=5)
                    process.stdin.flush()
                while True:
                    with contextlib.suppress(queue.Empty):
                        answer = answers.get(timeout=_LOOK)
                        break
                    if _resident(process.pid) > memory:
                        self.stop()
                        return "memory", None
                    if time.monotonic() > latest:
                        self.stop()
                        return "end", f"takes more than {question[-1]} seconds"
            except BaseException:
                self.stop()  # the answer would be that to the next question
                raise
            if answer is not None:
                return answer
            code = process.wait()
            self.stop()
            return "end", f"ends its process with {code}"

    def _start(self):
        # Threads of NumPy's algebra would take memory.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE.format(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=_receive, args=(self._process.stdout, self._answers), daemon=True).start()

    def stop(self):
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):  # of what is not sent yet
                if process.stdin is not None:
                    process.stdin.close()

    def let_go(self):
        """In a process that was forked: the other is its parent's."""
        if self._process is not None:
            self._process.returncode = 0  # there is nothing to wait for
        self.__init__()


def _receive(file, answers):
    with file, contextlib.suppress(Exception):
        while True:
            answers.put(pickle.load(file))
    answers.put(None)


def _resident(process):
    """Bytes of memory of a process, where the system says it."""
    try:
        with open(f"/proc/{process}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


_CHILD = _Child()
atexit.register(_CHILD.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CHILD.let_go)


# ---- in the other process


def serve() -> None:
    """Answer what is asked until there is nothing more."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print
    while True:
        try:
            function, arguments, seconds = pickle.load(questions)
        except EOFError:
            return
        faulthandler.dump_traceback_later(2 * seconds, exit=True)  # nobody may be there to end it
        try:
            answer = "value", function(*arguments)
        except Exception as error:
            answer = "error", error
        faulthandler.cancel_dump_traceback_later()
        pickle.dump(answer, answers, protocol=5)
        answers.flush()
