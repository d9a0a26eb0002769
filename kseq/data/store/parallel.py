"""Parallel corpora: several stores whose records belong together, batched as one."""

import numpy as np
import xxhash

from kseq.arguments import as_integer

from ..errors import SchemaError, StoreError
from .schema import Schema
from .store import Store


def parallel(leader=None, **stores) -> "ParallelStore":
    """Several stores of which record `i` of one belongs to record `i` of the others.

    Fields are named `<store>_<field>`. Batches are made by the length of the leader's main sequence if it is an input;
    the others' padded lengths are a ratio of its (see `length_ratios` of `Batches`), so that there are no more shapes
    than with one.

    Args:
        leader: name of the store that leads; by default the first.
        **stores: stores or views by name.

    Raises:
        StoreError: stores of different numbers of records.
        SchemaError: no store, a leader that is none or has no sequence.

    Example:
        >>> pairs = parallel(english=english, german=german)  # doctest: +SKIP
        >>> pairs.batches(max_tokens=4096, inputs="english_tokens", targets="german_tokens")  # doctest: +SKIP
    """
    if not stores or leader not in (None, *stores):
        raise SchemaError(f"the leader must be one of the stores {list(stores)}; received {leader!r}")
    return ParallelStore(stores, leader or next(iter(stores)))


class ParallelStore(Store):
    """Several stores as one; see `parallel`."""

    def __init__(self, stores, leader):
        counts = {name: len(store) for name, store in stores.items()}
        if len(set(counts.values())) != 1:
            raise StoreError(f"parallel stores must have the same number of records; received {counts}")
        self._stores, self._leader, self._ids = stores, leader, None
        self._parts = {f"{name}_{field}": (store, field) for name, store in stores.items() for field in store.schema}
        main = stores[leader].schema.main
        if main is None:
            raise SchemaError(f"the leading store must have a sequence; {leader!r} has {stores[leader].schema}")
        self.schema = Schema(
            {name: store.schema[field] for name, (store, field) in self._parts.items()}, f"{leader}_{main}"
        )
        self.metadata = {name: store.metadata for name, store in stores.items()}

    def __reduce__(self):
        return ParallelStore, (self._stores, self._leader)

    @property
    def paths(self):
        """The folders or URLs."""
        return [path for store in self._stores.values() for path in store.paths]

    @property
    def content_hash(self):
        """A checksum of the stores' contents."""
        hashes = [f"{name}:{store.content_hash}" for name, store in self._stores.items()]
        return xxhash.xxh3_128_hexdigest("\n".join([*hashes, self._leader]).encode())

    @property
    def complete(self):
        """Whether the writer of every store came to its end."""
        return all(store.complete for store in self._stores.values())

    @property
    def lengths(self):
        """Lengths of the leader's main sequence: int32 [N]."""
        return self._stores[self._leader].lengths

    @property
    def splits(self):
        """The named splits of the leader, as parts of all."""
        return {name: self._view(part._ids) for name, part in self._stores[self._leader].splits.items()}

    def part_of(self, field):
        """The store that a field lies in, and its name there."""
        return self._parts[field]

    def field_lengths(self, field, ids=None):
        """Lengths of a sequence of some records, or of all: int64."""
        store, name = self._parts[field] if field in self._parts else (None, self._number(field))
        return store.field_lengths(name, ids)

    def column(self, field):
        """All values of a field."""
        self._number(field)
        store, name = self._parts[field]
        return store.column(name)

    def close(self):
        """Let go of the files of all stores."""
        for store in self._stores.values():
            store.close()

    def __len__(self):
        return len(next(iter(self._stores.values())))

    def __getitem__(self, index):
        if isinstance(index, (slice, list, tuple, np.ndarray)):
            return self._select(index)
        row = as_integer("a record number", index)
        return {f"{name}_{field}": value for name, store in self._stores.items() for field, value in store[row].items()}

    def __repr__(self):
        return f"ParallelStore({', '.join(self._stores)}: {len(self)} records of {dict(self.schema)})"

    def _values_of(self, field):
        store, name = self._parts[field]
        return store._values_of(name)

    def _view(self, ids):
        return ParallelStore({name: store._select(ids) for name, store in self._stores.items()}, self._leader)
