"""The header of WAV and its samples, as they come through a pipe: `audio.py` reads files."""

import dataclasses
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def read_header(read: Callable[[int], bytes]) -> WavHeader:
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


def integers(data: bytes, width: int) -> NDArray[Any]:
    """PCM samples of 1 to 4 bytes as int16 or int32: those of 8 and 24 bits as the upper bytes of 16 and 32."""
    if width == 1:
        return (np.frombuffer(data, "u1").astype("int16") - 128) << 8  # unsigned, alone of all widths
    if width == 3:
        wide = np.zeros((len(data) // 3, 4), "u1")
        wide[:, 1:] = np.frombuffer(data, "u1").reshape(-1, 3)
        return wide.view("<i4").reshape(-1)
    return np.frombuffer(data, f"<i{width}")


def floats(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples of int16 or int32 as float32 from -1 to 1."""
    return samples.astype("float32") * np.float32(2.0 ** (1 - 8 * samples.dtype.itemsize))
