"""Classes of records for the tests of builds; in a module, since workers import them."""

import os
import pathlib
import time
import typing

import numpy as np

import kseq.data as kd


@kd.record
class Spoken:
    name: str = kd.source()
    speaker: str
    tokens: typing.Annotated[np.ndarray, kd.Field("int32", (None,))] = None
    label: int | None = None

    def load(self, extra=0):
        self.tokens = np.arange(int(self.name[1:]) % 7 + extra, dtype="int32")


@kd.record
class Mortal(Spoken):
    """Kills the first worker that loads its record n5, and fails where it is told to."""

    def load(self, marks="", bad=None, skip=None):
        super().load()
        if self.name == bad:
            raise OSError(f"cannot read {self.name}")
        if self.name == skip:
            raise kd.SkipRecord("too noisy")
        if self.name == "n5" and marks:
            mark = pathlib.Path(marks) / "died"
            if not mark.exists():
                mark.write_text("")
                os._exit(1)


@kd.record
class Chunked(Spoken):
    def split(self, size):
        for start in range(0, len(self.tokens), size):
            yield Chunked(name=self.name, speaker=self.speaker, tokens=self.tokens[start : start + size])


@kd.record
class Slow(Spoken):
    """Takes its time, and tells in which process."""

    def load(self):
        super().load()
        marks = os.environ.get("KSEQ_TEST_MARKS")
        if marks:
            (pathlib.Path(marks) / str(os.getpid())).write_text("")
            time.sleep(0.02)


def files(path):
    """All files of a folder with their bytes."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(pathlib.Path(path).rglob("*")) if p.is_file()}
