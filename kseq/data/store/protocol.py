"""What the parts of `kseq.data` ask of a store, whatever it was made of: opened, selected, joined, or side by side."""

import typing
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .core import Core
from .schema import Schema


class Place(typing.NamedTuple):
    """Where a field of a store lies.

    Fields whose `core` and `rows` are the same objects lie together: one call of `core.chunks.table` reads them all.

    Attributes:
        core: the columns on disk.
        column: number of the field's column there.
        rows: for each record its row there, int64; None where the records are the rows, in order.
    """

    core: Core
    column: int
    rows: NDArray[np.int64] | None

    @property
    def group(self) -> tuple[int, int]:
        """What places have in common that lie together; a key of dicts."""
        return id(self.core), id(self.rows)


class Records(typing.Protocol):
    """Records of named fields, of which batches, other stores and writers are made; `Store` is one.

    Attributes:
        schema: the `Schema`.
        metadata: what was said of the data, a dict of JSON values.
        paths: the folders or URLs, for messages.
        complete: whether all that was to be written is there.
        content_hash: a checksum of schema, records and their order.
    """

    @property
    def schema(self) -> Schema: ...
    @property
    def metadata(self) -> dict[str, Any]: ...
    @property
    def paths(self) -> list[str]: ...
    @property
    def complete(self) -> bool: ...
    @property
    def content_hash(self) -> str: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...
    def __iter__(self) -> Iterator[dict[str, Any]]: ...

    def place(self, field: str) -> Place:
        """Where a field lies.

        Raises:
            SchemaError: there is no such field.
            StoreError: the store is closed.
        """
        ...

    def field_lengths(self, field: str, ids: NDArray[Any] | None = None) -> NDArray[np.int64]:
        """Lengths of a sequence of some records, or of all: int64, 0 where it is missing."""
        ...
