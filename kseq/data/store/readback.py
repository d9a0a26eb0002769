"""Whether records read back as they were written."""

import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import DataError, IncompleteStoreWarning
from .conversion import convert_record
from .folder import Folder
from .manifest import NAME, StoreManifest
from .store import open as open_store

_END = object()


def compare(folder: Folder, manifest: StoreManifest, against: Any = None) -> Iterator[tuple[str, str]]:
    """Read every record of a store as its users do, and compare it with what was to be written.

    Args:
        folder: the `Folder` of the store.
        manifest: its `StoreManifest`.
        against: the records, as a `Writer` takes them, in their order; a store or its path; or None.

    Yields:
        A pair (file, message) for each shard with records that cannot be read or differ, and one where there are more
        or fewer than there must be.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IncompleteStoreWarning)  # a writer may be at work
        store = open_store(folder)
    if isinstance(against, (str, os.PathLike)):
        against = open_store(against)
    wanted = None if against is None else iter(against)
    lengths, first = store.lengths if manifest.schema.main is not None else None, 0
    for entry in manifest.shards:
        found, bad = None, 0
        for number in range(first, first + entry.records):
            expected = None if wanted is None else next(wanted, _END)
            if expected is _END:
                yield NAME, f"{number} records were to be written; the store holds {len(store)}"
                return
            message = _difference(store, number, lengths, expected)
            found, bad = found or message, bad + (message is not None)
        if bad:
            yield entry.file, f"record {found}" + (f" (and {bad - 1} more)" if bad > 1 else "")
        first += entry.records
    more = 0 if wanted is None else sum(1 for _ in wanted)
    if more:
        yield NAME, f"{first + more} records were to be written; the store holds {first}"


def _difference(store, number, lengths, expected):
    """What is wrong with a record, or None."""
    schema = store.schema
    try:
        found = store[number]
        if lengths is not None:
            length = 0 if found[schema.main] is None else len(found[schema.main])
            if length != lengths[number]:
                return f"{number}: its length must be {lengths[number]}; received {length}"
        if expected is None:
            return None
        wanted = convert_record(schema, expected, number, cast=True)
    except DataError as error:
        return f"{number}: {str(error).removeprefix(f'record {number}, ')}"
    for name, field in schema.items():
        if not _same(found[name], wanted[name], field):
            return f"{number}, field {name!r}: {wanted[name]!r:.100} was to be written; received {found[name]!r:.100}"
    return None


def _same(found, wanted, field):
    if found is None or wanted is None or field.text:
        return found == wanted
    wanted = wanted.astype(field.dtype)
    # Byte by byte: so NaN is itself, and -0.0 is not 0.0.
    return np.shape(found) == wanted.shape and np.asarray(found).tobytes() == wanted.tobytes()
