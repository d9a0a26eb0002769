"""Outputs to files and pipes, as they come."""

from __future__ import annotations

import os
import pathlib
import sys
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..annotations import AnyPath
from .arguments import say
from .frames import FramesError


class RawWriter:
    """Writes values little-endian to a file as they come; `length` counts them along the first axis."""

    length: int

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.length = file, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def write(self, values: NDArray[Any]) -> None:
        self._file.write(_little(values).tobytes())
        self._file.flush()
        self.length += len(values)


class NpyWriter:
    """Writes an NPY file as values come; the file appears under its name, whole, when the `with` block ends well.

    Raises:
        FramesError: a name that does not end in `.npy`, or of something other than a file.
        OSError: a folder or disk that cannot be written.
    """

    length: int

    def __init__(self, path: AnyPath) -> None:
        path = pathlib.Path(os.path.realpath(path))
        if path.suffix != ".npy":
            raise FramesError(
                f"the output must be a file .npy, or - for raw values to standard output; received {path}"
            )
        if path.exists() and not path.is_file():  # a rename would replace a device or a pipe
            raise FramesError(f"the output must be a file that can be replaced; received {path}, which is none")
        self._destination, self.length = path, 0
        # Of what is written first; of nothing, numbers.
        self._shape: tuple[int, ...] | None = None
        self._dtype = np.dtype("float32")

    def __enter__(self) -> Self:
        self._temporary = self._destination.with_name(f".{self._destination.name}.{os.getpid()}.tmp")
        self._file = self._temporary.open("xb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:
                if kind is None:
                    self._file.seek(0)
                    self._write_header()
            if kind is None:
                os.replace(self._temporary, self._destination)
        finally:
            self._temporary.unlink(missing_ok=True)

    def write(self, values: NDArray[Any]) -> None:
        values = _little(values)
        if self._shape is None:
            self._shape, self._dtype = values.shape[1:], values.dtype
            self._write_header()
        self.length += len(values)
        self._file.write(values.tobytes())

    def _write_header(self):
        """The header, of one size for every length: NumPy leaves room for the first axis to grow."""
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.length, *(self._shape or ()))}
        np.lib.format.write_array_header_1_0(self._file, header)


class Watched:
    """A writer that says once, on standard error, that outputs are not finite."""

    def __init__(self, writer: RawWriter | NpyWriter) -> None:
        self._writer, self._said = writer, False

    @property
    def length(self) -> int:
        """Outputs that were written."""
        return self._writer.length

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        return self._writer.__exit__(*error)

    def write(self, values: NDArray[Any]) -> None:
        """Write outputs [n, ...]."""
        if not self._said and values.dtype.kind in "fV" and not np.isfinite(values.astype("float64")).all():
            self._said = True
            bad = np.isfinite(values.astype("float64")).reshape(len(values), -1).all(1)
            first = self.length + int(np.argmin(bad))
            say(f"kseq stream: outputs are not finite, from output {first} on", file=sys.stderr)
        self._writer.write(values)


def open_writer(output: str) -> RawWriter | NpyWriter:
    """The writer for `-` or a path; a context manager with `write(values)`."""
    return RawWriter(sys.stdout.buffer) if output == "-" else NpyWriter(output)


def _little(values):
    if values.dtype.kind == "V":  # bfloat16, for which NPY has no name
        values = values.astype("float32")
    return values.astype(values.dtype.newbyteorder("<"), copy=False)
