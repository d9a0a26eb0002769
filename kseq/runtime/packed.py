"""Named arrays as bytes that hold no code: a header in JSON, the arrays, and a checksum.

Any machine and backend can read them: numbers are little-endian, and dtypes are named.
"""

import contextlib
import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import xxhash

from ..dtypes import numpy_dtype
from ..sequence import Sequence

_CHECKSUM = 16


class ByteFormat(NamedTuple):
    """What bytes hold: how they begin, which version they are of, and what errors call it."""

    magic: bytes
    version: int
    what: str


def pack(form: ByteFormat, header: dict[str, Any], arrays: dict[str, Any]) -> bytes:
    """Bytes of what JSON can say, and of arrays of NumPy by name."""
    kept = [np.asarray(array) for array in arrays.values()]
    leaves = [[name, array.shape, array.dtype.name] for name, array in zip(arrays, kept, strict=True)]
    head = json.dumps({"version": form.version, **header, "leaves": leaves}).encode()
    data = [np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes() for array in kept]
    body = b"".join([form.magic, len(head).to_bytes(4, "little"), head, *data])
    return body + xxhash.xxh3_128_digest(body)


def unpack(form: ByteFormat, data: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `pack` was given.

    Raises:
        TypeError: no bytes.
        ValueError: bytes of something else, damaged, or of another version.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"a {form.what} is loaded from bytes; received {type(data).__name__}")
    data = bytes(data)
    body, checksum = data[:-_CHECKSUM], data[-_CHECKSUM:]
    if not data.startswith(form.magic):
        raise ValueError(f"the bytes are not a {form.what} that kseq has written")
    if xxhash.xxh3_128_digest(body) != checksum:
        raise ValueError(f"the bytes of the {form.what} are damaged or cut off: their checksum differs")
    start = len(form.magic) + 4
    at = start + int.from_bytes(body[len(form.magic) : start], "little")
    with reading(form):
        header, arrays = json.loads(body[start:at]), {}
        if header["version"] != form.version:
            raise ValueError(f"the {form.what} must be of version {form.version}; received version {header['version']}")
        for name, shape, dtype in header["leaves"]:
            dtype = plain_dtype(dtype)
            if not is_shape(shape):
                raise ValueError(f"the {form.what} has an array of shape {shape}, which is none")
            size = math.prod(shape) * dtype.itemsize
            array = np.frombuffer(body[at : at + size], dtype.newbyteorder("<")).reshape(shape)
            arrays[name] = array.astype(dtype)  # in the order of bytes of this machine, and writable
            at += size
    return header, arrays


@contextlib.contextmanager
def reading(form: ByteFormat) -> Iterator[None]:
    """Let what bytes say be wrong in any way: a checksum is soon made, of nonsense too. It is a ValueError."""
    try:
        yield
    except (json.JSONDecodeError, UnicodeDecodeError, ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"the {form.what} says what none does: {type(error).__name__}: {error}") from error
    except RecursionError as error:
        raise ValueError(f"the {form.what} says what none does: it is nested too deeply") from error


def is_shape(found: Any) -> bool:
    """Whether it is sizes of axes."""
    return isinstance(found, (list, tuple)) and all(type(n) is int and n >= 0 for n in found)


def plain_dtype(name: Any) -> np.dtype:
    """The dtype of numbers that a name says, and of nothing else: no text, no objects, no structures.

    Raises:
        ValueError: another.
    """
    try:
        dtype = numpy_dtype(name)
    except (TypeError, ValueError, AttributeError, SyntaxError):
        dtype = None
    if dtype is None or dtype.name != name or dtype.kind not in "biufcV" or dtype.fields or not dtype.itemsize:
        raise ValueError(f"a dtype must be one of numbers, by its name; received {name!r}")
    return dtype


def of_kind(arrays: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a kind and a slash, by the rest of their names."""
    return {name.removeprefix(f"{kind}/"): a for name, a in arrays.items() if name.startswith(f"{kind}/")}


def named(kind: str, sequences: dict[Any, Sequence]) -> dict[str, Any]:
    """The arrays of sequences, by names of this kind."""
    found = {}
    for name, (values, mask) in sequences.items():
        found[f"{kind}/{name}/values"] = values
        if mask is not None:
            found[f"{kind}/{name}/mask"] = mask
    return found


def sequences_of(arrays: dict[str, np.ndarray], kind: str) -> dict[str, Sequence]:
    """The sequences that `named` was given, by name."""
    found = of_kind(arrays, kind)
    names = dict.fromkeys(name.rpartition("/")[0] for name in found)
    return {name: Sequence(found[f"{name}/values"], found.get(f"{name}/mask")) for name in names}
