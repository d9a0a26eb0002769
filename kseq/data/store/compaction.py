"""Joining small shards, of which many commits make many."""

import dataclasses

import pyarrow as pa

from kseq.arguments import as_integer
from kseq.version import __version__

from ..errors import ShardError
from .commits import check_no_leftovers, commit_shards
from .folder import open_folder
from .manifest import COMPACTING, lengths_file, read_manifest, shard_file
from .recovery import batch_columns
from .shard import ShardWriter
from .verification import check_entry, known_files
from .writer import CHUNK_BYTES, SHARD_BYTES


def compact(path, *, shard_bytes=SHARD_BYTES) -> int:
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
                group[0] if len(group) == 1 else _join(folder, manifest.schema, group, number)
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


def _join(folder, schema, group, number):
    """The entry of a new shard with the records of several."""
    writer = ShardWriter(folder, number, schema)
    try:
        held, size = [], 0
        for entry in group:
            for file, message in check_entry(folder, entry, schema):  # else damage would get a checksum
                raise ShardError(f"{message}; a shard that is damaged is not joined", folder.where(file))
            with pa.memory_map(str(folder.fetch(entry.file, entry.bytes, entry.xxh3))) as file:
                reader = pa.ipc.open_file(file)
                for place in range(reader.num_record_batches):
                    batch = reader.get_batch(place)
                    if held and size + batch.nbytes > CHUNK_BYTES:
                        _write(writer, held, schema)
                        held, size = [], 0
                    held.append(batch.replace_schema_metadata(None))
                    size += batch.nbytes
        _write(writer, held, schema)
        return writer.seal()
    except BaseException:
        writer.abort()
        raise


def _write(writer, batches, schema):
    for batch in pa.Table.from_batches(batches).combine_chunks().to_batches() if batches else ():
        writer.write(batch_columns(batch, schema), batch.num_rows)
