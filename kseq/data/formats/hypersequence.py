"""HyperSequence `.hsq` files, read and written.

A file is an array of structs, each a whole batch, and then JSON: since version 2 compressed by gzip and followed by
its size and "HSQ2", before that after `@@FSEQ@@` in the last 1024 bytes. Names are not kept: fields are `input_0..` and
`output_0..`. What kseq writes keeps its schema in the user's metadata, under "kseq".
"""

import gzip
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...annotations import AnyPath, AnyPaths
from ..errors import FormatError, SchemaError, StoreError
from ..store.schema import Schema
from .base import Format, RecordSource
from .files import FileSink, files_of
from .schemas import kept_schema, make_schema

_MAGIC, _LEGACY_MAGIC = b"HSQ2", b"@@FSEQ@@"
_KSEQ = "kseq"
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

    metadata: Mapping[str, Any]

    schema: Schema | None

    def __init__(self, path: AnyPaths) -> None:
        paths = files_of(path, FORMAT.suffixes)
        self._files = [_open(file) for file in paths]
        self.schema, self.metadata = self._files[0][1:]
        for file, (_, schema, _) in zip(paths, self._files, strict=True):
            if dict(schema) != dict(self.schema):
                raise FormatError(f"files must have equal fields: {self.schema}; received {schema}", file)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        schema = self._known()
        for batches, _, _ in self._files:
            for batch in batches if batches.size else ():
                names = _names(batches.dtype)
                names = schema if schema.keys() == set(names) else names
                columns = [batch[name] for name in names]
                columns = [
                    column.astype(field.dtype, copy=False)
                    for column, field in zip(columns, schema.values(), strict=True)
                ]
                for row in zip(*columns, strict=True):
                    # A 0-d value of a struct's column is a scalar already; arrays stay views of the file.
                    yield dict(zip(schema, map(np.asarray, row), strict=True))


def _open(path: AnyPath) -> tuple[NDArray[Any], Schema, dict[str, Any]]:
    """The batches of a file, the schema of their records and its metadata."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        data, text = _meta(file, size, path)
    try:
        meta = json.loads(text)
        counts = [meta[name] for name in _INTEGERS]
        dtype: np.dtype[Any] = np.dtype([_part(part) for part in meta["dtype"]])
    except (ValueError, TypeError, KeyError, IndexError, SyntaxError, RecursionError) as error:
        raise FormatError(f"its metadata is damaged: {type(error).__name__}: {error}", path) from None
    records, batch, inputs, outputs = counts
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
        raise FormatError(f"{', '.join(_INTEGERS)} must be integers from 0; received {counts}", path)
    parts = _names(dtype)
    if len(parts) != inputs + outputs or not parts:
        raise FormatError(
            f"its struct must have {inputs} inputs and {outputs} outputs; received {len(parts)} parts", path
        )
    if dtype.hasobject or any(dtype[n].shape[:1] != (batch,) for n in parts):
        raise FormatError(f"each part of its struct must be of batches of {batch}; received {dtype}", path)
    if records * dtype.itemsize > data:
        raise FormatError(
            f"truncated: {records} batches of {dtype.itemsize} bytes must be there; received {data} bytes", path
        )
    sides = [f"input_{n}" for n in range(inputs)] + [f"output_{n}" for n in range(outputs)]
    fields = {side: (dtype[name].base, dtype[name].shape[1:], False) for side, name in zip(sides, parts, strict=True)}
    schema = make_schema(fields, path)
    user = meta.get("usermeta", {})
    if not isinstance(user, dict):
        raise FormatError(f"its user metadata must be an object; received {user!r:.100}", path)
    if _KSEQ in user:
        user = dict(user)
        schema, dtype = _kept(user.pop(_KSEQ), dtype, path)
    if not records * dtype.itemsize:
        return np.zeros(0, dtype), schema, user
    return np.memmap(path, dtype, "r", 0, (records,)), schema, user


def _kept(kept, dtype, path):
    """The schema that kseq wrote, and the struct of its dtypes and names.

    Raises:
        FormatError: they are not those of the file.
    """
    if not isinstance(kept, dict) or set(kept) != {"schema", "parts"} or not isinstance(kept["parts"], list):
        raise FormatError(f"what kseq keeps in it must be a schema and parts; received {kept!r:.100}", path)
    schema, parts = kept_schema(kept["schema"], path), kept["parts"]
    made = [(dtype[part].base.itemsize, dtype[part].shape[1:]) for part in _names(dtype)]
    if sorted(map(str, parts)) != sorted(schema) or made != [
        (0 if schema[name].text else schema[name].store.itemsize, schema[name].shape) for name in parts
    ]:
        raise FormatError(f"its schema must be of its parts {dtype}; received {schema}", path)
    batch = dtype[_names(dtype)[0]].shape[0]
    return schema, np.dtype([(name, schema[name].store, (batch, *schema[name].shape)) for name in parts])


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


def _names(dtype: np.dtype[Any]) -> tuple[str, ...]:
    """The parts of a struct."""
    return dtype.names or ()


def _part(part):
    name, dtype, shape = part
    if isinstance(dtype, list):
        dtype = [(inner[0], inner[1], *map(tuple, inner[2:])) for inner in dtype]
    return name, dtype, tuple(shape)


class HyperSequenceSink(FileSink):
    """Records to an `.hsq` file, which has batches of inputs and outputs of fixed shapes.

    Args:
        path: the file.
        schema: `Schema` without sequences, texts and optional fields; it is kept in the file's metadata.
        metadata: JSON values.
        batch_size: records of a batch. A file has whole batches only.
        outputs: names of the fields that are outputs; by default those that begin with "output".
        drop_remainder: leave out what fills no batch at the end; else such records are refused.

    Raises:
        SchemaError: fields that such files do not hold, or no outputs.
    """

    _batch: NDArray[Any]

    def __init__(
        self,
        path: AnyPath,
        schema: Schema,
        metadata: Mapping[str, Any] | None = None,
        batch_size: int = 16,
        outputs: Sequence[str] | None = None,
        drop_remainder: bool = False,
    ) -> None:
        self._metadata, self._drop_remainder = dict(metadata or {}), drop_remainder
        if _KSEQ in self._metadata:
            raise FormatError(f"metadata must not be named {_KSEQ!r}, which kseq keeps its own in", path)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be an integer from 1; received {batch_size!r}")
        for name, field in schema.items():
            if field.text or field.ragged or field.optional:
                raise SchemaError(f"hsq files hold arrays of one shape in every record; received {name!r}: {field}")
        outputs = [name for name in schema if name.startswith("output")] if outputs is None else list(outputs)
        if not outputs or not schema.keys() >= set(outputs) or len(set(outputs)) < len(outputs):
            raise SchemaError(f"outputs must name some of the fields {list(schema)}; received {outputs}")
        self._inputs, self._outputs = [name for name in schema if name not in outputs], outputs
        sides = [f"i{n}" for n in range(len(self._inputs))] + [f"o{n}" for n in range(len(outputs))]
        self._names = dict(zip(sides, [*self._inputs, *outputs], strict=True))
        parts = [
            (side, _plain(schema[name].store), (batch_size, *schema[name].shape)) for side, name in self._names.items()
        ]
        self._batch, self._batches = np.zeros((), parts), 0
        json.dumps(self._metadata)  # which says what is no JSON
        super().__init__(path, schema)
        self._file = self._aside.open("xb", buffering=1 << 18)

    def _put(self, record):
        size = len(self._batch["i0" if self._inputs else "o0"])
        place = self._count % size
        for side, name in self._names.items():
            self._batch[side][place] = record[name].view(self._batch[side].dtype)
        if place + 1 == size:
            self._file.write(self._batch.tobytes())
            self._batches += 1

    def _finish(self):
        size = len(self._batch[next(iter(self._names))])
        if self._count % size and not self._drop_remainder:
            raise StoreError(
                f"{self._count} records do not fill batches of {size}: {self._count % size} are left; choose another "
                "batch_size, or leave them out (drop_remainder=True)",
                self.path,
            )
        kept = {"schema": self.schema.to_json(), "parts": list(self._names.values())}
        meta = {
            "version": "0.10.0",
            "records": self._batches,
            "batch_size": size,
            "no_inputs": len(self._inputs),
            "usermeta": self._metadata | {_KSEQ: kept},
            "no_outputs": len(self._outputs),
            "dtype": self._batch.dtype.descr,
        }
        text = gzip.compress(json.dumps(meta).encode(), mtime=0)
        self._file.write(text + struct.pack(">I", len(text)) + _MAGIC)
        self._file.close()

    def _drop(self):
        self._file.close()


def _plain(dtype):
    """A dtype that NumPy alone knows."""
    return np.dtype(f"V{dtype.itemsize}") if dtype.isbuiltin == 2 else dtype


FORMAT = Format("hypersequence", (".hsq",), HyperSequenceSource, HyperSequenceSink)
