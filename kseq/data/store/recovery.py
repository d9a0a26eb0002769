"""Recovering what a killed writer has left of a store."""

import dataclasses
import os
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from kseq.version import __version__

from ...annotations import AnyPath
from ..errors import ShardError, StoreNotFoundError
from .commits import commit_shards
from .conversion import Part
from .folder import RemoteFolder, open_folder
from .manifest import COMMITS, COMPACTING, NAME, read_manifest, shard_file
from .schema import Schema
from .shard import SCHEMA_KEY, ShardWriter, check_fields, decode, file_checksum, parse_schema, step_bytes
from .verification import OURS, SHARD, UNREADABLE, as_json, check_chunk, check_entry, known_files, scan


@dataclasses.dataclass(frozen=True)
class Recovered:
    """What `repair` took from one unsealed shard.

    Attributes:
        file: name of the file that was found.
        records: records that are part of the store now.
        dropped: bytes at its end that were no whole chunk.
    """

    file: str
    records: int
    dropped: int = 0

    def __str__(self) -> str:
        tail = f"; {self.dropped} bytes at its end were no whole chunk" if self.dropped else ""
        return f"{self.file}: {self.records} records recovered{tail}"


@dataclasses.dataclass(frozen=True)
class RepairReport:
    """What `repair` did.

    Attributes:
        path: folder or URL of the store.
        recovered: a `Recovered` for each unsealed shard.
        rebuilt: files of lengths that were computed again from their shards.
        removed: files that were removed.
        records: records of the store now.
    """

    path: str
    recovered: tuple[Recovered, ...] = ()
    rebuilt: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    records: int = 0

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return as_json(self)

    def __str__(self) -> str:
        lines = [*map(str, self.recovered)]
        lines += [f"{file}: computed again from its shard" for file in self.rebuilt]
        lines += [f"{file}: removed" for file in self.removed]
        first = f"{self.path}: {self.records} records now"
        return "\n".join([first, *(f"  {line}" for line in lines or ["no change"])])


def repair(path: AnyPath, *, discard: bool = False) -> RepairReport:
    """Make a store whole after a writer was killed: recover what it wrote, or remove it.

    The shard that was open is read up to its end or the first damage; its whole chunks become a shard of the store. A
    complete shard that was not committed is checked and adopted. Where it was `compact` that was killed, shards that
    are not committed hold records of the store, and are removed. Lengths are computed again where they are missing or
    damaged. Then the store is complete and can be appended to. If this is interrupted it can be run again.

    Args:
        path: folder or URL of the store.
        discard: remove what is not committed instead.

    Returns:
        A `RepairReport`.

    Raises:
        StoreNotFoundError: there is neither a store nor an unsealed shard.
        StoreLockedError: a writer is at work.
        ManifestError: the manifest is damaged.
        ShardError: a committed shard is damaged, which has to be restored or built again; or an unsealed shard has
            other fields than the store.
        StoreWriteError: the operating system refuses.

    Example:
        >>> import os, tempfile
        >>> from kseq.data import Writer
        >>> path = tempfile.mkdtemp() + "/store"
        >>> with Writer(path, {"label": "int64"}) as writer:
        ...     _ = writer.write({"label": 3})
        >>> os.remove(path + "/manifest.json")  # as if the writer had been killed just before its commit
        >>> print(str(repair(path)).replace(path, "store"))
        store: 1 records now
          shard-00000.arrow: 1 records recovered
    """
    folder = open_folder(path)
    if not any(name == NAME or SHARD.fullmatch(name) for name in folder.names()):
        raise StoreNotFoundError(f"there is nothing to repair here (no {NAME} and no unsealed shard)", folder)
    with folder.lock():
        return _repair(folder, discard)


def _repair(folder, discard):
    before = folder.names()
    manifest = read_manifest(folder) if NAME in before else None
    rebuilt = tuple(_mend(folder, manifest)) if manifest is not None else ()
    schema, committed = (manifest.schema, manifest.next_number) if manifest is not None else (None, 0)
    entries, recovered = [], []
    for number, files in {} if discard or COMPACTING in before else _unsealed(before, committed):
        schema = schema or _schema_of(folder, files[0])
        if schema is None:  # killed before the first chunk: no schema, no records
            recovered.append(Recovered(files[0], 0, _local(folder, files[0]).stat().st_size))
            continue
        entry, found = _recover(folder, number, files, committed + len(entries), schema)
        recovered.append(found)
        entries += [entry] if entry is not None else []
    if schema is not None and (entries or (manifest is not None and not manifest.complete)):
        records = sum(found.records for found in recovered)
        log = {"kseq": __version__, "repaired": [found.file for found in recovered], "records": records}
        manifest = commit_shards(folder, schema, entries, manifest, log=log)
    known = known_files(manifest) if manifest is not None else ()
    for name in sorted(folder.names(), key=lambda name: name == COMPACTING):  # last, since it says what the others are
        if OURS.fullmatch(name) and name not in known:
            folder.remove(name)
    kept = {*folder.names(), COMMITS, *(found.file for found in recovered if found.records)}
    removed = tuple(name for name in before if name not in kept)
    return RepairReport(str(folder), tuple(recovered), rebuilt, removed, manifest.records if manifest else 0)


def _unsealed(names, committed):
    """Numbers of the shards that are not committed, each with its files, the one to recover from first."""
    files = {}
    for name in names:
        match = SHARD.fullmatch(name)
        if match and int(match[1]) >= committed:
            # A sealed shard is complete. What `repair` has set aside (.old) is what its own .tmp is made from.
            files.setdefault(int(match[1]), []).append((("", ".old", ".tmp").index(match[2] or ""), name))
    return [(number, [name for _, name in sorted(found)]) for number, found in sorted(files.items())]


def _recover(folder, number, files, target, schema):
    """Make shard `target` from what was left of shard `number`: its `ShardEntry` or None, and a `Recovered`."""
    name = files[0]
    if name == shard_file(number):
        try:
            return _adopt(folder, number, target, schema)
        except ShardError:
            # Not what a killed writer leaves; what can be read of it is recovered as of one that is not sealed.
            name = files[-1] if files[-1].endswith(".old") else name
    if isinstance(folder, RemoteFolder):
        raise ShardError("the shard is damaged: repair a copy of the store in a local folder", folder.where(name))
    # Set aside under a name from which a second repair knows what this is, should the first be killed.
    source = folder.path / f"{shard_file(target)}.old"
    with folder.writing(name):
        os.replace(folder.path / name, source)
    writer, records, dropped = None, 0, source.stat().st_size
    try:
        for batch, dropped in _salvaged(source, schema, folder.where(name)):  # noqa: B007 (used below)
            if batch is not None and batch.num_rows:
                writer = writer or ShardWriter(folder, target, schema)
                writer.write(batch_columns(batch, schema), batch.num_rows)
                records += batch.num_rows
        entry = writer.seal() if writer is not None else None
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    return entry, Recovered(name, records, dropped)


def _salvaged(path, schema, where):
    """The chunks of a shard without an end, each with the number of bytes after it; last a None with what is lost."""
    size = path.stat().st_size
    left = size
    if size > 8:
        source = pa.BufferReader(pa.memory_map(str(path)).read_buffer())
        source.seek(8)  # the magic bytes; a stream follows
        try:
            reader = pa.ipc.open_stream(source)
        except UNREADABLE:
            reader = None
        if reader is not None:
            check_fields(reader.schema, schema, where)
        while reader is not None:
            try:
                batch = reader.read_next_batch()
                check_chunk(batch, schema)
            except StopIteration:
                left = 0
                break
            except UNREADABLE:
                break
            left = size - source.tell()
            yield batch, left
    yield None, left


def _schema_of(folder, name):
    """The `Schema` that a shard holds, or None if there is nothing readable in it."""
    path = _local(folder, name)
    if path.stat().st_size <= 8:
        return None
    source = pa.BufferReader(pa.memory_map(str(path)).read_buffer())
    source.seek(8)
    try:
        found = pa.ipc.open_stream(source).schema
    except UNREADABLE:
        return None
    if SCHEMA_KEY not in (found.metadata or {}):
        raise ShardError("the shard does not say its schema, and there is no manifest that does", folder.where(name))
    return parse_schema(found, folder.where(name))


def _adopt(folder, number, target, schema):
    """Take a complete shard as number `target`, with lengths computed from it."""
    name = shard_file(number)
    path = _local(folder, name)
    lengths = scan(path, folder.where(name), schema)
    size, checksum = path.stat().st_size, file_checksum(path)
    if target != number:  # an earlier one is lost
        if isinstance(folder, RemoteFolder):
            message = f"the shard must have number {target}: repair a copy of the store in a local folder"
            raise ShardError(message, folder.where(name))
        folder.publish(path, shard_file(target))
    entry = ShardWriter.entry(folder, target, schema, lengths, size, checksum)
    return entry, Recovered(name, entry.records)


def batch_columns(batch: pa.RecordBatch, schema: Schema) -> list[Part]:
    """A chunk as `ShardWriter.write` takes it."""
    columns, rows = [], batch.num_rows
    for (data, offsets, valid), field in zip(decode(batch, schema), schema.values(), strict=True):
        steps = rows
        if offsets is not None:
            offsets = offsets[: rows + 1]
            steps = int(offsets[-1])
        if valid is not None:
            valid = np.unpackbits(valid, count=rows, bitorder="little")
        columns.append((data[: steps * step_bytes(field)], offsets, valid))
    return columns


def _mend(folder, manifest):
    """Check the committed shards, and compute lengths that are damaged again: yields their files."""
    for entry in manifest.shards:
        for file, message in check_entry(folder, entry, manifest.schema):
            if file == entry.lengths_file:
                path = folder.fetch(entry.file, entry.bytes, entry.xxh3)
                data = scan(path, folder.where(entry.file), manifest.schema).tobytes()
                if xxhash.xxh3_64_hexdigest(data) == entry.lengths_xxh3:
                    folder.put(file, data)
                    yield file
                    continue
            raise ShardError(
                f"{message}; a committed shard cannot be repaired: restore it from a copy or build the store again",
                folder.where(file),
            )


def _local(folder, name):
    """The local path of a file that no manifest names."""
    if isinstance(folder, RemoteFolder):
        return folder.fetch(name, folder.system.size(f"{folder.root}/{name}"))
    return folder.path / name
