"""What libraries write past Python to the standard error."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def quiet_stderr() -> Iterator[Callable[[], str]]:
    """Keep what is written to the standard error of the process, and give a function that says what it was so far."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        before = os.dup(2)
        os.dup2(kept.fileno(), 2)

        def said():
            sys.stderr.flush()
            kept.seek(0)
            return kept.read().decode(errors="replace")

        try:
            yield said
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
