"""What libraries write past Python to the standard error."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator

# What TensorFlow's C++ tells and warns of; errors are not among them.
_NOISE = re.compile(r"WARNING: All log messages before absl|[IW]\d{4} \d\d:|\d{4}-\d\d-\d\d [\d:.]+: [IW] |INFO: |\s*$")


@contextlib.contextmanager
def quiet_stderr() -> Iterator[Callable[[], str]]:
    """Keep what is written to the standard error of the process, and give a function that says what it was so far.

    Afterwards what is no information or warning of TensorFlow's is written after all.
    """
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
            text = said()
            os.dup2(before, 2)
            os.close(before)
            for line in text.splitlines(keepends=True):
                if not _NOISE.match(line):
                    os.write(2, line.encode())
