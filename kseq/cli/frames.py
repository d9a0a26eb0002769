"""Frames from files and pipes, a block at a time."""

import dataclasses
import io
import math
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..sequence import SequenceSpec
from .arguments import CommandError

FORMATS = ("auto", "npy", "wav", "raw")
# Raw values by the names that tools for sound give them; integers become floats as those of WAV do.
RAW: dict[str, int | str] = {"u8": 1, "s16": 2, "s24": 3, "s32": 4, "f32": "<f4", "f64": "<f8"}
_MAGIC = {"npy": b"\x93NUMPY", "wav": b"RIFF"}
_READ_BYTES = 1 << 20  # at once: memory follows what arrives, not what a header or an option says
_MAX_HEADER_BYTES = 10_000  # as in NumPy


class FramesError(CommandError):
    """Frames that cannot be read, or do not fit the model; the text is one line."""


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How frames lie in the bytes that follow a header."""

    name: str
    dtype: np.dtype
    frame_bytes: int
    decode: Callable[[bytes], np.ndarray]  # bytes of whole frames -> values [n, *channels] of the dtype
    length: int | None = None  # frames in all, where the header says so
    rate: int | None = None  # frames a second, likewise


class Frames:
    """Frames of one input, read in order.

    Attributes:
        length: how many there are in all, or None where that is not known.
        rate: frames a second, or None.
    """

    length: int | None
    rate: int | None

    def __init__(self, file: Any, layout: _Layout, dtype: np.dtype[Any]) -> None:
        if layout.dtype.kind not in "biuf" or not np.can_cast(layout.dtype, dtype, "same_kind"):
            raise FramesError(
                f"the model takes {dtype}, to which {layout.name} input cannot be cast; received {_shown(layout.dtype)}"
            )
        self._file, self._layout, self._dtype = file, layout, dtype
        self._done, self.length, self.rate = 0, layout.length, layout.rate

    def read(self, count: int) -> np.ndarray:
        """The next frames [count, *channels] in the model's dtype: fewer only at the end, and then none.

        Raises:
            FramesError: input that ends within a frame, or before the length that its header gave.
        """
        left = None if self.length is None else self.length - self._done
        data = _read(self._file, (count if left is None else min(count, left)) * self._layout.frame_bytes)
        frames, rest = divmod(len(data), self._layout.frame_bytes)
        self._done += frames
        if rest:
            raise FramesError(
                f"the {self._layout.name} input is truncated: it ends {rest} bytes into frame {self._done + 1}, "
                f"which has {self._layout.frame_bytes} bytes"
            )
        if left is not None and frames < min(count, left):
            raise FramesError(
                f"the {self._layout.name} input is truncated: its header says {self.length} frames; "
                f"received {self._done}"
            )
        return self._layout.decode(data).astype(self._dtype, copy=False)


class _MappedFrames(Frames):
    """Frames of a file whose frames do not lie one after the other: memory-mapped."""

    def __init__(self, values, layout, dtype):
        super().__init__(None, layout, dtype)
        self._values = values

    def read(self, count):
        start, self._done = self._done, min(self._done + count, len(self._values))
        return np.ascontiguousarray(self._values[start : self._done], self._dtype)


def open_frames(
    file: Any, spec: SequenceSpec, kind: str = "auto", *, raw_if_unknown: bool = False, raw: str | None = None
) -> Frames:
    """Frames for a model's input from an open binary file or pipe.

    Nothing beyond what is needed is waited for, so that a slow pipe gives its first frame when that is there.

    Args:
        file: binary file; `read` may return less than it is asked for.
        spec: `SequenceSpec` of the model's input.
        kind: one of `FORMATS`; "auto" tells NPY and WAV by the first bytes.
        raw_if_unknown: whether what is neither NPY nor WAV is raw values in "auto".
        raw: one of `RAW`: what raw values are; by default little-endian, of the model's dtype.

    Raises:
        FramesError: a malformed header, or frames of another shape or dtype than the model takes.
    """
    dtype = np.dtype("float32" if spec.dtype == "bfloat16" else spec.dtype)
    shape = tuple(spec.shape)
    if kind == "auto":
        found, head = _recognize(file)
        if found is None and not raw_if_unknown:
            raise FramesError(f"the input must be NPY or WAV, or given with --format raw; it starts with {head!r}")
        kind, file = found or "raw", _Pushed(head, file)
    if kind == "npy":
        return _open_npy(file, shape, dtype)
    if kind == "wav":
        return Frames(file, _wav_layout(file, shape), dtype)
    what = RAW[raw] if raw else dtype.newbyteorder("<")
    if isinstance(what, int):
        return Frames(file, _samples_layout("raw", what, shape, dtype.kind == "f"), dtype)
    return Frames(file, _array_layout("raw", np.dtype(what), shape), dtype)


def _recognize(file: Any) -> tuple[str | None, bytes]:
    """The format by the fewest bytes that tell, or `None`, and those bytes."""
    head = b""
    while any(magic.startswith(head) for magic in _MAGIC.values()):
        byte = _read(file, 1)
        head += byte
        for kind, magic in _MAGIC.items():
            if head == magic:
                return kind, head
        if not byte:
            break
    return None, head


class _Pushed:
    """A file with bytes that were read from it put back in front."""

    def __init__(self, head, file):
        self._head, self.file = head, file

    def read(self, size):
        if self._head:
            part, self._head = self._head[:size], self._head[size:]
            return part
        return self.file.read(size)


def _read(file, size):
    """As many bytes as asked for; fewer only at the end."""
    data = bytearray()
    while len(data) < size:
        part = file.read(min(size - len(data), _READ_BYTES))
        if part is None:
            raise BlockingIOError("the input is a non-blocking file; one that blocks is needed")
        if not part:
            break
        data += part
    return bytes(data)


def _read_whole(file, size, what):
    data = _read(file, size)
    if len(data) < size:
        raise FramesError(f"the input is truncated: {what} has {size} bytes; received {len(data)}")
    return data


def _array_layout(name, dtype, shape, length=None):
    def decode(data):
        return np.frombuffer(data, dtype).reshape(-1, *shape)

    return _Layout(name, dtype, math.prod(shape) * dtype.itemsize, decode, length)


def _open_npy(file, channels, dtype):
    shape, fortran, wire, header_bytes = _npy_header(file)
    if len(shape) == len(channels) + 2 and shape[0] == 1:
        length, frame = shape[1], shape[2:]
    else:
        length, frame = (shape or (0,))[0], shape[1:]
    if not shape or frame != channels:
        wanted = ", ".join(map(str, ("T", *channels)))
        raise FramesError(f"the model takes frames of an array [{wanted}] or [1, {wanted}]; received {_shown(shape)}")
    layout = _array_layout("NPY", wire, channels, length)
    if not fortran or len(shape) == 1:
        return Frames(file, layout, dtype)
    path = _regular_path(file)
    if path is None:
        raise FramesError(
            f"an NPY array in Fortran order cannot be read frame by frame from a pipe; received shape {shape}: "
            "give it as a file, or save np.ascontiguousarray of it"
        )
    values = np.zeros((0, *channels), dtype)  # where there is nothing to map
    if length and wire.kind in "biuf":
        size, wanted = os.path.getsize(path), header_bytes + length * layout.frame_bytes
        if size < wanted:
            raise FramesError(f"the NPY input is truncated: by its header it has {wanted} bytes; received {size}")
        values = np.memmap(path, wire, "r", header_bytes, shape, "F")
        values = values if len(shape) == len(channels) + 1 else values[0]
    return _MappedFrames(values, layout, dtype)


def _npy_header(file):
    """Shape, whether the order is Fortran's, dtype, and where the data starts."""
    start = _read_whole(file, 8, "the start of an NPY header")
    if start[:6] != _MAGIC["npy"] or start[6] not in (1, 2, 3) or start[7]:
        raise FramesError(
            f"an NPY input must start with {_MAGIC['npy']!r} and version 1.0, 2.0 or 3.0; received {start!r}"
        )
    length_bytes = _read_whole(file, 2 if start[6] == 1 else 4, "the length of an NPY header")
    size = int.from_bytes(length_bytes, "little")
    if size > _MAX_HEADER_BYTES:
        raise FramesError(f"an NPY header must have at most {_MAX_HEADER_BYTES} bytes; received {size}")
    text = _read_whole(file, size, "the NPY header")
    read = np.lib.format.read_array_header_1_0 if start[6] == 1 else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the literals in the header, and that Python 2 wrote it
            shape, fortran, dtype = read(io.BytesIO(length_bytes + text))
    except Exception as error:  # it is parsed as Python, which fails on malformed text in many ways
        raise FramesError(f"malformed NPY header: {type(error).__name__}: {_shown(error)}") from error
    if not all(0 <= size < 1 << 63 for size in shape):
        raise FramesError("malformed NPY header: an axis must have from 0 to 2**63 - 1 steps; one has not")
    return shape, fortran, dtype, 8 + len(length_bytes) + size


def _shown(value):
    """What a file says, as one short line."""
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else f"{text[:200]}..."


def _regular_path(file):
    """The path of a file on disk that was opened by name, or `None`."""
    file = file.file if isinstance(file, _Pushed) else file
    name = getattr(file, "name", None)
    return name if isinstance(name, str) and os.path.isfile(name) else None


def _wav_layout(file, channels):
    from kseq.data.formats import wav  # only where there is WAV: `kseq stream` starts without `kseq.data`

    try:
        header = wav.read_header(lambda size: _read(file, size))
    except ValueError as error:
        raise FramesError(str(error)) from None
    width, count = header.width, header.channels
    if header.tag != wav.PCM or width not in (1, 2, 3, 4):
        raise FramesError(
            f"a WAV input must be PCM (format 1) of 8, 16, 24 or 32 bits; received format {header.tag} of {header.bits}"
        )
    if channels != (count,):
        raise FramesError(f"the model takes frames of shape {channels}; received WAV of shape ({count},)")
    length, rest = (None, 0) if header.size is None else divmod(header.size, width * count)
    if rest:
        raise FramesError(
            f"the data of a WAV input must be whole frames of {width * count} bytes; received {header.size}"
        )

    return _samples_layout("WAV", width, (count,), True, length, header.rate)


def _samples_layout(name, width, shape, scaled, length=None, rate=None):
    """Integers as sound has them: of 8 bits without a sign, of more with one; as floats from -1 to 1 if `scaled`."""
    from kseq.data.formats import wav

    def decode(data):
        if scaled:
            values = wav.floats(wav.integers(data, width))
        elif width == 1:
            values = np.frombuffer(data, "u1")
        else:
            values = wav.integers(data, width) >> (8 if width == 3 else 0)
        return values.reshape(-1, *shape)

    return _Layout(name, decode(b"").dtype, width * math.prod(shape), decode, length, rate)
