"""WAV files: a folder of them read as records, and the header, which `kseq stream` reads too."""

import dataclasses
import os
import struct

import numpy as np

from ..errors import FormatError
from ..store.schema import TEXT, Field, Schema
from .base import Format, RecordSource
from .files import files_of

PCM, FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# Tools that write to a pipe cannot know the length: ffmpeg writes -1, GStreamer 0, SoX and arecord just below 2**31.
_UNKNOWN_BYTES = 0x7FFF0000
_READ_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class WavHeader:
    """What a WAV file says before its samples.

    Args:
        tag: `PCM`, `FLOAT` or another number of an encoding.
        channels: how many.
        rate: frames a second.
        bits: of a sample.
        size: bytes of all samples, or None where the writer did not know.
    """

    tag: int
    channels: int
    rate: int
    bits: int
    size: int | None

    @property
    def width(self) -> int:
        """Bytes of a sample."""
        return -(-self.bits // 8)


def read_header(read) -> WavHeader:
    """The header of a WAV file, up to its first sample.

    Not the `wave` module: it refuses the RIFF length 0 of streaming tools and, before Python 3.12, the extensible
    header in which most tools write 24 and 32 bits.

    Args:
        read: `read(size) -> bytes`, fewer only at the end of the file.

    Raises:
        ValueError: no header of WAV, or a truncated one.
    """

    def whole(size, what):
        data = read(size)
        if len(data) < size:
            raise ValueError(f"the input is truncated: {what} has {size} bytes; received {len(data)}")
        return data

    start = whole(12, "the start of a WAV header")
    if start[:4] != b"RIFF" or start[8:] != b"WAVE":
        raise ValueError(f"a WAV input must start with RIFF, a length and WAVE; received {start!r}")
    form = None
    while True:
        name, size = struct.unpack("<4sI", whole(8, "the head of a WAV chunk"))
        if name == b"data":
            break
        if name == b"fmt ":
            form = whole(min(size, 40), "the format chunk of WAV")
            size -= len(form)
        size += size % 2
        while size:
            part = read(min(size, _READ_BYTES))
            if not part:
                raise ValueError(f"the input is truncated: {size} bytes of a WAV chunk are missing")
            size -= len(part)
    if form is None or len(form) < 16:
        raise ValueError(
            f"a WAV input must have a format chunk of at least 16 bytes before its data; received {form!r}"
        )
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
    if tag == _EXTENSIBLE and len(form) == 40:
        (tag,) = struct.unpack_from("<H", form, 24)
    return WavHeader(tag, channels, rate, bits, size if 0 < size < _UNKNOWN_BYTES else None)


def integers(data, width) -> np.ndarray:
    """PCM samples of 1 to 4 bytes as int16 or int32: those of 8 and 24 bits as the upper bytes of 16 and 32."""
    if width == 1:
        return (np.frombuffer(data, "u1").astype("int16") - 128) << 8  # unsigned, alone of all widths
    if width == 3:
        wide = np.zeros((len(data) // 3, 4), "u1")
        wide[:, 1:] = np.frombuffer(data, "u1").reshape(-1, 3)
        return wide.view("<i4").reshape(-1)
    return np.frombuffer(data, f"<i{width}")


def floats(samples) -> np.ndarray:
    """Samples of int16 or int32 as float32 from -1 to 1."""
    return samples.astype("float32") * np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))


class WavSource(RecordSource):
    """WAV files, each a record: `samples` [T], or [T, channels], `sample_rate`, and `path`.

    Args:
        path: a folder, searched at any depth, a file, a pattern, or a list of files; in the order of their paths.
        dtype: of the samples: "int16", "int32" or "float32"; by default that of the first file. Samples of 8 bits
            count as 16, those of 24 as 32. Integers become float32 from -1 to 1; nothing else is converted.

    Raises:
        FormatError: a damaged file, an encoding other than PCM and 32-bit floats, files that differ in dtype or
            channels.
    """

    def __init__(self, path, dtype=None):
        if dtype not in (None, "int16", "int32", "float32"):
            raise ValueError(f"dtype must be 'int16', 'int32' or 'float32'; received {dtype!r}")
        self._root = os.fspath(path) if isinstance(path, (str, os.PathLike)) and os.path.isdir(path) else None
        self._files = files_of(path, FORMAT.suffixes)
        header, _ = _load(self._files[0], header_only=True)
        self._channels, self._dtype = header.channels, np.dtype(dtype or _dtype(header))
        inner = () if self._channels == 1 else (self._channels,)
        self.schema = Schema(
            {"samples": Field(self._dtype, (None, *inner)), "sample_rate": Field("int64"), "path": Field(TEXT)}
        )

    def __len__(self):
        return len(self._files)

    def __iter__(self):
        for path in self._files:
            header, samples = _load(path)
            if header.channels != self._channels:
                raise FormatError(f"files must have {self._channels} channels; received {header.channels}", path)
            if self._dtype == np.float32 and samples.dtype != np.float32:
                samples = floats(samples)
            if samples.dtype != self._dtype:
                raise FormatError(
                    f"samples must be {self._dtype}; received {samples.dtype}: give dtype='float32' to have all alike",
                    path,
                )
            samples = samples if self._channels == 1 else samples.reshape(-1, self._channels)
            name = path if self._root is None else os.path.relpath(path, self._root)
            yield {"samples": samples, "sample_rate": header.rate, "path": name}


def _dtype(header):
    if header.tag == FLOAT:
        return "float32"
    return "int16" if header.width <= 2 else "int32"


def _load(path, header_only=False):
    with open(path, "rb") as file:
        try:
            header = read_header(file.read)
        except ValueError as error:
            raise FormatError(str(error), path) from None
        if not ((header.tag == PCM and header.width in (1, 2, 3, 4)) or (header.tag == FLOAT and header.bits == 32)):
            raise FormatError(
                "samples must be PCM (format 1) of 8, 16, 24 or 32 bits, or floats (format 3) of 32; "
                f"received format {header.tag} of {header.bits}",
                path,
            )
        if not header.channels:
            raise FormatError("channels must be from 1; received 0", path)
        if header_only:
            return header, None
        at, left = file.tell(), os.path.getsize(path)
        frame = header.width * header.channels
        size = header.size
        if size is None:
            # The writer did not know: what is there is all, but for a frame that it was writing.
            size = (left - at) // frame * frame
        if size % frame or at + size > left:
            raise FormatError(
                f"truncated: whole frames of {frame} bytes, {size} bytes in all, must be there; received {left - at}",
                path,
            )
        data = file.read(size)
    return header, np.frombuffer(data, "<f4") if header.tag == FLOAT else integers(data, header.width)


FORMAT = Format("wav", (".wav", ".wave"), WavSource)
