"""Audio files, each a record: a folder of WAV, FLAC, Ogg or MP3."""

import os
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from ...annotations import AnyPaths
from ..errors import FormatError
from ..store.schema import TEXT, Field, Schema
from .base import Format, RecordSource, require
from .files import check_expansion, files_of
from .wav import FLOAT, PCM, floats, integers, read_header

_DTYPES = {"PCM_S8": "int16", "PCM_U8": "int16", "PCM_16": "int16", "PCM_24": "int32", "PCM_32": "int32"}
_DTYPES |= {"DOUBLE": "float64"}
_CHOICES = ("int16", "int32", "float32", "float64")


class AudioSource(RecordSource):
    """Audio files, each a record: `samples` [T], or [T, channels], `sample_rate`, and `path`.

    Args:
        path: a folder, searched at any depth, a file, a pattern, or a list of files; in the order of their paths.
        dtype: of the samples: "int16", "int32", "float32" or "float64"; by default that of the first file, which is
            float32 where it is not PCM. Samples of 8 bits count as 16, those of 24 as 32. Integers become floats from
            -1 to 1; nothing else is converted.
        max_bytes: what the samples of a file may take in memory; by default 64 MB, or 64 times the file.

    Raises:
        FormatError: a file that is damaged or truncated, of an encoding that libsndfile does not know, or compressed
            beyond `max_bytes`; files that differ in dtype or channels.
        ImportError: soundfile is not installed.
    """

    schema: Schema | None

    def __init__(
        self,
        path: AnyPaths,
        dtype: Literal["int16", "int32", "float32", "float64"] | None = None,
        max_bytes: int | None = None,
    ) -> None:
        if dtype not in (None, *_CHOICES):
            raise ValueError(f"dtype must be one of {_CHOICES}; received {dtype!r}")
        self._root = os.fspath(path) if isinstance(path, (str, os.PathLike)) and os.path.isdir(path) else None
        self._files, self._max_bytes = files_of(path, FORMAT.suffixes), max_bytes
        with _Opened(self._files[0]) as file:
            self._channels, self._wanted = file.channels, np.dtype(dtype or _dtype(file))
        inner = () if self._channels == 1 else (self._channels,)
        self.schema = Schema(
            {"samples": Field(self._wanted, (None, *inner)), "sample_rate": Field("int64"), "path": Field(TEXT)}
        )

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path in self._files:
            with _Opened(path) as file:
                samples = self._samples(file, path)
                rate = file.samplerate
            name = path if self._root is None else os.path.relpath(path, self._root)
            yield {"samples": samples, "sample_rate": rate, "path": name}

    def _samples(self, file, path):
        if file.channels != self._channels:
            raise FormatError(f"files must have {self._channels} channels; received {file.channels}", path)
        if self._wanted.kind == "i" and _dtype(file) != self._wanted:
            raise FormatError(
                f"samples must be {self._wanted}; received {_dtype(file)}: give dtype='float32' to have all alike", path
            )
        wanted = file.frames * file.channels * self._wanted.itemsize
        check_expansion(wanted, os.path.getsize(path), "it", path, self._max_bytes)
        samples = _piped(path) if file.format == "WAV" else None
        if samples is None:
            samples = file.read(dtype=self._wanted.name)
            if len(samples) != file.frames:
                raise FormatError(f"truncated: {file.frames} frames must be there; received {len(samples)}", path)
            return samples
        samples = floats(samples) if self._wanted.kind == "f" and samples.dtype.kind == "i" else samples
        samples = samples.astype(self._wanted, copy=False)
        return samples if self._channels == 1 else samples.reshape(-1, self._channels)


def _dtype(file):
    return _DTYPES.get(file.subtype, "float32")


class _Opened:
    """A file of soundfile; what goes wrong inside is a `FormatError` with its name."""

    _file: Any

    def __init__(self, path):
        self._package, self._where, self._file = require("soundfile", "audio"), path, None

    def __enter__(self):
        try:
            self._file = self._package.SoundFile(self._where)
        except self._package.LibsndfileError as error:
            raise FormatError(f"it is no audio file, or damaged: {error.error_string}", self._where) from None
        return self._file

    def __exit__(self, kind, error, traceback):
        self._file.close()
        if isinstance(error, self._package.LibsndfileError):
            raise FormatError(f"it is damaged: {error.error_string}", self._where) from None


def _piped(path):
    """The samples of a WAV file whose writer did not know their number, or None.

    libsndfile takes what is missing for the end of the file: the header says if there should be more.

    Raises:
        FormatError: a truncated file.
    """
    with open(path, "rb") as file:
        try:
            header = read_header(file.read)
        except ValueError as error:
            raise FormatError(str(error), path) from None
        left = os.path.getsize(path) - file.tell()
        frame = header.width * header.channels
        known = (header.tag == PCM and header.width <= 4) or (header.tag == FLOAT and header.bits == 32)
        if header.size is not None:
            if header.size > left or (known and header.size % frame):
                raise FormatError(
                    f"truncated: whole frames, {header.size} bytes in all, must be there; received {left}", path
                )
            return None
        if not known:
            return None
        data = file.read(left // frame * frame)  # but for a frame that was being written
    return np.frombuffer(data, "<f4") if header.tag == FLOAT else integers(data, header.width)


FORMAT = Format("audio", (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3"), AudioSource, None, "soundfile")
