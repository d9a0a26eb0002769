"""Joining small shards, of which many commits make many."""

import dataclasses

from kseq.arguments import as_integer
from kseq.version import __version__

from ...annotations import AnyPath
from ..errors import ShardError
from .columns import stored_rows, stretches
from .commits import check_no_leftovers, commit_shards
from .core import Core, Snapshot
from .folder import open_folder
from .manifest import COMPACTING, lengths_file, read_manifest, shard_file
from .shard import ShardWriter
from .store import whole
from .verification import check_entry, known_files
from .writer import CHUNK_BYTES, SHARD_BYTES


def compact(path: AnyPath, *, shard_bytes: int = SHARD_BYTES) -> int:
    """Join shards that follow one another into shards of up to `shard_bytes`, and return how many there are then.

    Records, metadata and splits stay as they are. The shards that are joined are checked before, and removed once the
    manifest names the new ones; whenever this is killed, the store opens, and `repair` removes what was left over.
    The content hash changes with the shards: stores that are open elsewhere must be opened again, and a state of
    batches of the store before is that of another.

    Args:
        path: folder or URL of the store.
        shard_bytes: bytes of a shard, at most.

    Raises:
        StoreNotFoundError: there is no store.
        StoreLockedError: a writer has the store open.
        UnsealedShardError: a writer was killed; `repair` first.
        ShardError: a shard that is damaged.
        StoreWriteError: the operating system refuses.

    Example:
        >>> import tempfile
        >>> from kseq.data import Writer
        >>> path = tempfile.mkdtemp() + "/store"
        >>> with Writer(path, {"label": "int64"}) as writer:
        ...     for label in range(5):
        ...         _ = writer.write({"label": label})
        ...         writer.commit()
        >>> compact(path)
        1
    """
    shard_bytes = as_integer("shard_bytes", shard_bytes, 1)
    folder = open_folder(path)
    read_manifest(folder)
    with folder.lock():
        manifest = read_manifest(folder)
        check_no_leftovers(folder, manifest)
        groups = _groups(manifest.shards, shard_bytes)
        joined = [entry for group in groups if len(group) > 1 for entry in group]
        if not joined:
            return len(groups)
        # Whoever finds this knows that shards that are not committed hold records that are in the store already.
        folder.put(COMPACTING, b"")
        numbers = range(manifest.next_number, manifest.next_number + len(groups))
        try:
            entries = [
                group[0] if len(group) == 1 else _join(folder, manifest, group, number)
                for number, group in zip(numbers, groups, strict=True)
            ]
            log = {"kseq": __version__, "compacted": len(joined), "shards": len(groups)}
            before = dataclasses.replace(manifest, shards=())
            commit_shards(folder, manifest.schema, entries, before, complete=manifest.complete, log=log)
        finally:
            known = known_files(read_manifest(folder))
            for number in (*numbers, *(entry.number for entry in joined)):
                for name in {shard_file(number), lengths_file(number)} - known:
                    folder.remove(name)
            folder.remove(COMPACTING)
        return len(entries)


def _groups(shards, most):
    """Shards that follow one another, in groups of up to `most` bytes."""
    groups, size = [], most
    for entry in shards:
        if size + entry.bytes > most:
            groups, size = [*groups, []], 0
        groups[-1].append(entry)
        size += entry.bytes
    return groups


def _join(folder, manifest, group, number):
    """The entry of a new shard with the records of several."""
    for entry in group:
        for file, message in check_entry(folder, entry, manifest.schema):  # else damage would get a checksum
            raise ShardError(f"{message}; a shard that is damaged is not joined", folder.where(file))
    source = Snapshot(folder, dataclasses.replace(manifest, shards=tuple(group)))
    store, writer = whole(Core([source], manifest.schema)), ShardWriter(folder, number, manifest.schema)
    try:
        for start, end in stretches(store, CHUNK_BYTES):
            parts = [stored_rows(store, name, start, end) for name in store.schema]
            writer.write([part.part(0, end - start) for part in parts], end - start)
        return writer.seal()
    except BaseException:
        writer.abort()
        raise
