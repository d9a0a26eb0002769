"""Records to the HDF5 files of seqp; `layout.py` says what is in them."""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ....annotations import AnyPath
from ...errors import FormatError, SchemaError
from ...store.aside import Aside
from ...store.schema import TEXT, Schema
from ..base import Format, require
from ..files import FileSink
from .layout import KSEQ, RECORD, RESERVED, SUFFIXES, is_plain
from .reading import SeqpSource

_SHARD = re.compile(r"\{(:\d*d)?\}")  # where its number comes in the path of a shard


class SeqpSink(FileSink):
    """Records to HDF5 files that seqp reads.

    Scalars are written as arrays of one value, strings and bytes as their bytes, and dtypes that HDF5 lacks as bytes
    on a last axis: reading through kseq restores them by the schema that is kept in the file.

    Args:
        path: the file; with `{}` or `{:03d}` in it, and `max_records_per_shard`, that of each shard, counted from 1.
        schema: `Schema` with a main sequence.
        metadata: JSON values; texts are what seqp's `metadata(key)` gives.
        max_records_per_shard: start another file after so many records.
        fields: whether records are dicts of fields to seqp; False: the schema has one field, written as bare arrays.
    """

    _file: Any

    def __init__(
        self,
        path: AnyPath,
        schema: Schema,
        metadata: Mapping[str, Any] | None = None,
        max_records_per_shard: int | None = None,
        fields: bool = True,
    ) -> None:
        h5py = require("h5py", "hdf5")
        path, self._fields, self._most = str(path), fields, max_records_per_shard
        if schema.main is None or schema[schema.main].optional:
            raise SchemaError(f"seqp's records need a sequence that each record has; received {schema}")
        self._main = schema.main
        if not fields and len(schema) != 1:
            raise SchemaError(f"records of bare arrays have one field; received {list(schema)}")
        wrong = max_records_per_shard is not None and max_records_per_shard < 1
        if wrong or (max_records_per_shard is None) == bool(_SHARD.search(path)):
            raise ValueError(
                "shards need both {} in the path and max_records_per_shard from 1; "
                f"received {path!r} and {max_records_per_shard!r}"
            )
        self._metadata = dict(metadata or {})
        for name in self._metadata:
            if not isinstance(name, str) or name in RESERVED or RECORD.fullmatch(name) or set(name) & set("/\0"):
                raise FormatError(
                    f"names of metadata must be no numbers, not of {sorted(RESERVED)}, without '/'; received {name!r}",
                    path,
                )
        for name in schema if fields else ():
            if "/" in name:
                raise SchemaError(f"names of fields in HDF5 must not have '/'; received {name!r}")
        kept = {name: value for name, value in self._metadata.items() if not _is_text(value)}
        self._kept = json.dumps({"schema": schema.to_json(), "metadata": kept})
        self._h5py, self._shards, self._file, self._lengths, self._kinds = h5py, [], None, [], {}
        self._how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        self._how.set_obj_track_times(False)
        super().__init__(_shard_path(path, 1), schema)
        self._template = path
        self._next_shard()

    def _next_shard(self):
        self._end_shard()
        number = len(self._shards) + 1
        self._shards.append(Aside(_shard_path(self._template, number)))
        self._file, self._lengths, self._start = self._h5py.File(self._shards[-1].temporary, "w"), [], self._count

    def _end_shard(self):
        if self._file is None:
            return
        texts = {name: value for name, value in self._metadata.items() if _is_text(value)}
        texts |= {"lengths": json.dumps(self._lengths), KSEQ: self._kept}
        texts |= {"initial_index": str(self._start), "final_index": str(self._count - 1)}
        if self._fields:
            texts |= {"fields": json.dumps(list(self.schema)), "sequence_field": self._main}
        kind = self._h5py.string_dtype()
        for name, text in texts.items():
            self._file.create_dataset(name, (1,), kind, track_times=False)[0] = text
        self._file.close()
        self._file = None

    def _put(self, record):
        if self._most and len(self._lengths) == self._most:
            self._next_shard()
        for name, value in record.items():
            if value is None:
                continue
            key = f"{self._count}:{name}" if self._fields else str(self._count)
            self._create(key, _encode(value, self.schema[name]))
        self._lengths.append(len(record[self._main]))

    def _create(self, key, array):
        """A dataset as `create_dataset` makes it, by h5py's lower level, which is several times faster."""
        h5py = self._h5py
        kind = self._kinds.get(array.dtype)
        if kind is None:
            kind = self._kinds[array.dtype] = h5py.h5t.py_create(array.dtype, logical=True)
        space = h5py.h5s.create_simple(array.shape)
        made = h5py.h5d.create(self._file.id, key.encode(), kind, space, self._how)
        if array.size:
            made.write(h5py.h5s.ALL, h5py.h5s.ALL, array)

    def _finish(self):
        self._end_shard()

    def _commit(self):
        for shard in self._shards:
            shard.commit()

    def _drop(self):
        if self._file is not None:
            self._file.close()
            self._file = None

    def _written(self):
        return self._shards[-1].temporary

    def _discard(self):
        for shard in self._shards:
            shard.discard()


def _shard_path(template, number):
    return _SHARD.sub(lambda place: place.group().format(number), template)


def _is_text(value):
    return isinstance(value, str) and "\0" not in value


def _encode(value, field):
    """A value as an array with a first axis, as seqp reads them."""
    if field.text:
        return np.frombuffer(value.encode("utf-8") if field.dtype == TEXT else value, "u1")
    array = value.reshape(value.shape or (1,))
    if is_plain(array.dtype):
        return array
    return array[..., None].view("u1").reshape(*array.shape, array.dtype.itemsize)


FORMAT = Format("seqp", SUFFIXES, SeqpSource, SeqpSink, "h5py")
