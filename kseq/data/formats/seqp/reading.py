"""The HDF5 files of seqp, read by another process, within limits; `writing.py` says what is in them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....annotations import AnyPaths
from ...errors import FormatError
from ...store.schema import Schema
from ..base import RecordSource
from ..child import limited
from ..files import files_of
from ..schemas import kept_schema
from . import shards
from .layout import SUFFIXES


class SeqpSource(RecordSource):
    """Records of HDF5 files of seqp.

    Args:
        path: a file, a pattern such as "train-*.hdf5", a folder, or a list of files (shards); their records come in
            the order of the numbers that the files give them.
        field: name for the arrays of files without fields.
        max_bytes: what a compressed array may take in memory; by default 64 MB, or 64 times what is stored.

    Attributes:
        lengths: length of each record, as the files say; each is checked when its record is read.

    Raises:
        FormatError: a damaged file, or files that do not belong together.
    """

    metadata: Mapping[str, Any]

    schema: Schema | None = None

    def __init__(self, path: AnyPaths, field: str = "values", max_bytes: int | None = None) -> None:
        self._max_bytes = max_bytes
        found = [self._ask(shards.open_shard, file, field) for file in files_of(path, SUFFIXES)]
        found.sort(key=lambda shard: shard.start)  # stable: files that all start at 0 stay in their order
        first = next((shard for shard in found if shard.lengths), found[0])
        for shard in found:
            if shard.lengths and (shard.fields, shard.main) != (first.fields, first.main):
                raise FormatError(
                    f"shards must have equal fields: {first.fields} with the sequence {first.main!r}; "
                    f"received {shard.fields} with {shard.main!r}",
                    shard.path,
                )
        self._shards = found
        self.lengths: NDArray[np.int64] = np.asarray([length for shard in found for length in shard.lengths], "int64")
        self.metadata = {name: value for shard in found for name, value in shard.metadata.items()}
        missing = set().union(*(shard.missing for shard in found))
        if first.kept is not None:
            self.schema = kept_schema(first.kept, first.path)
            if list(self.schema) != (first.fields or [*self.schema][:1]):
                raise FormatError(f"its schema must have the fields {first.fields}", first.path)
        elif first.lengths:
            self.schema = self._ask(shards.infer, first.path, first, missing, max_bytes)
        self._kept = first.kept is not None

    def _ask(self, function: Any, path: str, *arguments: Any) -> Any:
        return limited(function, path, *arguments, max_bytes=self._max_bytes)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for shard in self._shards:
            at = 0
            while at < len(shard.lengths):
                how = shard.part(at), self.schema, self._kept, self._max_bytes
                part = self._ask(shards.records, shard.path, *how)
                yield from part
                at += len(part)
