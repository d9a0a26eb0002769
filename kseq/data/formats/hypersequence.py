"""HyperSequence `.hsq` files: read as records `input_0..`, `output_0..`.

A file is an array of structs, each a whole batch, and then JSON: since version 2 compressed by gzip and followed by
its size and "HSQ2", before that after `@@FSEQ@@` in the last 1024 bytes.
"""

import json
import os
import struct
import zlib

import numpy as np

from ..errors import FormatError
from .base import Format, RecordSource
from .files import files_of
from .schemas import make_schema

_MAGIC, _LEGACY_MAGIC = b"HSQ2", b"@@FSEQ@@"
_LEGACY_BYTES = 1024
_MAX_META_BYTES = 1 << 26
_INTEGERS = ("records", "batch_size", "no_inputs", "no_outputs")


class HyperSequenceSource(RecordSource):
    """Records of `.hsq` files, as views of the memory-mapped files.

    Args:
        path: a file, a pattern, a folder, or a list of files of equal fields.

    Raises:
        FormatError: a damaged file, or files of different fields.
    """

    def __init__(self, path):
        self._files = [_open(file) for file in files_of(path, FORMAT.suffixes)]
        self.schema, self.metadata = self._files[0][1:]
        for batches, schema, _ in self._files:
            if dict(schema) != dict(self.schema):
                raise FormatError(f"files must have equal fields: {self.schema}; received {schema}", batches.filename)

    def __iter__(self):
        for batches, _, _ in self._files:
            for batch in batches if batches.size else ():
                columns = [batch[name] for name in batches.dtype.names]
                columns = [column.astype(column.dtype.newbyteorder("="), copy=False) for column in columns]
                for row in zip(*columns, strict=True):
                    # A 0-d value of a struct's column is a scalar already; arrays stay views of the file.
                    yield dict(zip(self.schema, map(np.asarray, row), strict=True))


def _open(path):
    """The batches of a file, the schema of their records and its metadata."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        data, text = _meta(file, size, path)
    try:
        meta = json.loads(text)
        counts = [meta[name] for name in _INTEGERS]
        dtype = np.dtype([_part(part) for part in meta["dtype"]])
    except (ValueError, TypeError, KeyError, IndexError, SyntaxError, RecursionError) as error:
        raise FormatError(f"its metadata is damaged: {type(error).__name__}: {error}", path) from None
    records, batch, inputs, outputs = counts
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
        raise FormatError(f"{', '.join(_INTEGERS)} must be integers from 0; received {counts}", path)
    if len(dtype) != inputs + outputs or not len(dtype):
        raise FormatError(
            f"its struct must have {inputs} inputs and {outputs} outputs; received {len(dtype)} parts", path
        )
    if dtype.hasobject or any(dtype[n].shape[:1] != (batch,) for n in dtype.names):
        raise FormatError(f"each part of its struct must be of batches of {batch}; received {dtype}", path)
    if records * dtype.itemsize > data:
        raise FormatError(
            f"truncated: {records} batches of {dtype.itemsize} bytes must be there; received {data} bytes", path
        )
    sides = [f"input_{n}" for n in range(inputs)] + [f"output_{n}" for n in range(outputs)]
    fields = {
        side: (dtype[name].base, dtype[name].shape[1:], False) for side, name in zip(sides, dtype.names, strict=True)
    }
    schema = make_schema(fields, path)
    user = meta.get("usermeta", {})
    if not isinstance(user, dict):
        raise FormatError(f"its user metadata must be an object; received {user!r:.100}", path)
    if not records * dtype.itemsize:
        return np.zeros(0, dtype), schema, user
    return np.memmap(path, dtype, "r", 0, (records,)), schema, user


def _meta(file, size, path):
    """How many bytes lie before the metadata, and its text."""
    file.seek(max(0, size - 8))
    tail = file.read(8)
    if tail[4:] == _MAGIC:
        (length,) = struct.unpack(">I", tail[:4])
        if length > size - 8:
            raise FormatError(f"its metadata must have at most {size - 8} bytes; received {length}", path)
        file.seek(size - 8 - length)
        unzip = zlib.decompressobj(31)
        try:
            text = unzip.decompress(file.read(length), _MAX_META_BYTES)
        except zlib.error as error:
            raise FormatError(f"its metadata is damaged: {error}", path) from None
        if not unzip.eof:
            raise FormatError(
                f"its metadata must be whole and of at most {_MAX_META_BYTES} bytes; received {len(text)}", path
            )
        return size - 8 - length, text
    start = max(0, size - _LEGACY_BYTES)
    file.seek(start)
    block = file.read()
    at = block.rfind(_LEGACY_MAGIC)
    if at < 0:
        raise FormatError(f"an hsq file must end in {_MAGIC} or have {_LEGACY_MAGIC}; received {tail!r}", path)
    return start + at, block[at + len(_LEGACY_MAGIC) :]


def _part(part):
    name, dtype, shape = part
    if isinstance(dtype, list):
        dtype = [(inner[0], inner[1], *map(tuple, inner[2:])) for inner in dtype]
    return name, dtype, tuple(shape)


FORMAT = Format("hypersequence", (".hsq",), HyperSequenceSource)
