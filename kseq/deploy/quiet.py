"""What libraries write past Python to the standard error."""

import contextlib
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator

# What TensorFlow's C++ tells and warns of; errors are not among them.
_NOISE = re.compile(
    r"WARNING: All log messages before absl|[IW]\d{4} \d\d:|fully_quantize: |\d{4}-\d\d-\d\d [\d:.]+: [IW] |INFO: |\s*$"
)


@contextlib.contextmanager
def quiet() -> Iterator[Callable[[], str]]:
    """Keep what is written to the standard error of the process, and give a function that says what it was so far.

    Afterwards what is no information or warning of TensorFlow's is written after all, unless something was raised: then
    the text is for the error. Warnings of Python's, in its two ways, are not given.
    """
    sys.stderr.flush()
    logger = logging.getLogger("absl")
    level = logger.level
    with tempfile.TemporaryFile() as kept, warnings.catch_warnings():
        before = os.dup(2)
        os.dup2(kept.fileno(), 2)
        logger.setLevel(logging.ERROR)
        warnings.simplefilter("ignore")

        def said():
            sys.stderr.flush()
            kept.seek(0)
            return kept.read().decode(errors="replace")

        text = ""
        try:
            yield said
            text = said()
        finally:
            logger.setLevel(level)
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
        for line in text.splitlines(keepends=True):
            if not _NOISE.match(line):
                os.write(2, line.encode())
