"""Checking a store against its manifest, and recovering what a killed writer has left."""

import dataclasses
import json
import os
import re

import numpy as np
import pyarrow as pa
import xxhash

from kseq import _ext

from .errors import DataError, ManifestError, ShardError, StoreError, StoreNotFoundError
from .folder import RemoteFolder, open_folder
from .manifest import NAME, read_manifest, shard_file
from .shard import SCHEMA_KEY, ShardWriter, check_fields, decode, file_checksum, parse_schema, step_bytes
from .writer import commit_shards

# What a damaged Arrow file makes pyarrow, NumPy and the table raise.
_UNREADABLE = (pa.ArrowException, OSError, ValueError, IndexError, TypeError, OverflowError, MemoryError)
_SHARD = re.compile(r"shard-(\d{5,})\.arrow(\.tmp|\.old)?")
_OURS = re.compile(rf"{_SHARD.pattern}|lengths-\d{{5,}}\.u32(\.tmp)?|{re.escape(NAME)}\.tmp")


@dataclasses.dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes:
        path: folder or URL of the store.
        problems: a pair (file, message) for each thing that is wrong with the store.
        leftovers: a pair (file, message) for each file that is no part of the store; the store is whole without them.
        records: records of the store, as the manifest says.
        bytes: bytes of its shards and lengths that were compared.
    """

    path: str
    problems: tuple = ()
    leftovers: tuple = ()
    records: int = 0
    bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with the store."""
        return not self.problems

    def raise_first(self):
        """Raise the first problem, if there is one.

        Raises:
            ManifestError: the manifest is damaged.
            ShardError: a shard or its lengths are missing or damaged.
        """
        for file, message in self.problems:
            raise (ManifestError if file == NAME else ShardError)(message, f"{self.path}/{file}")

    def to_json(self) -> dict:
        """The report as JSON values."""
        return {**_as_json(self), "ok": self.ok}

    def __str__(self):
        what = "whole" if self.ok else f"{len(self.problems)} problem{'s' * (len(self.problems) > 1)}"
        lines = [f"{self.path}: {what}; {self.records} records, {self.bytes} bytes compared"]
        return "\n".join(lines + [f"  {file}: {message}" for file, message in (*self.problems, *self.leftovers)])


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

    def __str__(self):
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
    recovered: tuple = ()
    rebuilt: tuple = ()
    removed: tuple = ()
    records: int = 0

    def to_json(self) -> dict:
        """The report as JSON values."""
        return _as_json(self)

    def __str__(self):
        lines = [*map(str, self.recovered)]
        lines += [f"{file}: computed again from its shard" for file in self.rebuilt]
        lines += [f"{file}: removed" for file in self.removed]
        first = f"{self.path}: {self.records} records now"
        return "\n".join([first, *(f"  {line}" for line in lines or ["no change"])])


def verify(path, *, progress=None, cache=None) -> Report:
    """Compare every file of a store with the manifest, and every shard's fields and offsets with the schema.

    Any single bit that has changed is found: all files have checksums, the manifest its own. Nothing is changed, and a
    writer may be at work meanwhile (its open shard is then one of the leftovers).

    Args:
        path: folder or URL of a store; of a URL, the files in the local cache are compared.
        progress: called as `progress(done, total, file)` with the bytes that are done, after every shard.
        cache: local folder for the files of remote stores.

    Returns:
        A `Report`. A damaged manifest is one of its problems; the shards cannot be compared then.

    Raises:
        StoreNotFoundError: there is no store.

    Example:
        >>> import tempfile
        >>> from kseq.data import Writer
        >>> path = tempfile.mkdtemp() + "/store"
        >>> with Writer(path, {"tokens": ("int32", (None,))}) as writer:
        ...     _ = writer.write({"tokens": [3, 1, 2]})
        >>> verify(path).ok
        True
        >>> with open(path + "/lengths-00000.u32", "wb") as file:
        ...     _ = file.write(bytes(4))
        >>> [file for file, message in verify(path).problems]
        ['lengths-00000.u32']
    """
    folder = open_folder(path, cache)
    try:
        manifest = read_manifest(folder)
    except ManifestError as error:
        return Report(str(folder), ((NAME, _message(error)),))
    problems, done, total = [], 0, sum(_size(entry, manifest.schema) for entry in manifest.shards)
    for entry in manifest.shards:
        problems += _check_entry(folder, entry, manifest.schema)
        done += _size(entry, manifest.schema)
        if progress is not None:
            progress(done, total, entry.file)
    return Report(str(folder), tuple(problems), tuple(_leftovers(folder, manifest)), manifest.records, total)


def repair(path, *, discard=False) -> RepairReport:
    """Make a store whole after a writer was killed: recover what it wrote, or remove it.

    The shard that was open is read up to its end or the first damage; its whole chunks become a shard of the store. A
    complete shard that was not committed is checked and adopted. Lengths are computed again where they are missing or
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
    if not any(name == NAME or _SHARD.fullmatch(name) for name in folder.names()):
        raise StoreNotFoundError(f"there is nothing to repair here (no {NAME} and no unsealed shard)", folder)
    with folder.lock():
        return _repair(folder, discard)


def _repair(folder, discard):
    before = folder.names()
    manifest = read_manifest(folder) if NAME in before else None
    rebuilt = tuple(_mend(folder, manifest)) if manifest is not None else ()
    schema, committed = (manifest.schema, len(manifest.shards)) if manifest is not None else (None, 0)
    entries, recovered = [], []
    for number, files in {} if discard else _unsealed(before, committed):
        schema = schema or _schema_of(folder, files[0])
        if schema is None:  # killed before the first chunk: no schema, no records
            recovered.append(Recovered(files[0], 0, _local(folder, files[0]).stat().st_size))
            continue
        entry, found = _recover(folder, number, files, committed + len(entries), schema)
        recovered.append(found)
        entries += [entry] if entry is not None else []
    if entries or (manifest is not None and not manifest.complete):
        from kseq.version import __version__

        records = sum(found.records for found in recovered)
        log = {"kseq": __version__, "repaired": [found.file for found in recovered], "records": records}
        manifest = commit_shards(folder, schema, entries, manifest, log=log)
    known = _known(manifest) if manifest is not None else ()
    for name in folder.names():
        if _OURS.fullmatch(name) and name not in known:
            folder.remove(name)
    kept = {*folder.names(), *(found.file for found in recovered if found.records)}
    removed = tuple(name for name in before if name not in kept)
    return RepairReport(str(folder), tuple(recovered), rebuilt, removed, manifest.records if manifest else 0)


def _unsealed(names, committed):
    """Numbers of the shards that are not committed, each with its files, the one to recover from first."""
    files = {}
    for name in names:
        match = _SHARD.fullmatch(name)
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
                writer.write(_columns(batch, schema), batch.num_rows)
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
        except _UNREADABLE:
            reader = None
        if reader is not None:
            check_fields(reader.schema, schema, where)
        while reader is not None:
            try:
                batch = reader.read_next_batch()
                _check_chunk(batch, schema)
            except StopIteration:
                left = 0
                break
            except _UNREADABLE:
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
    except _UNREADABLE:
        return None
    if SCHEMA_KEY not in (found.metadata or {}):
        raise ShardError("the shard does not say its schema, and there is no manifest that does", folder.where(name))
    return parse_schema(found, folder.where(name))


def _adopt(folder, number, target, schema):
    """Take a complete shard as number `target`, with lengths computed from it."""
    name = shard_file(number)
    path = _local(folder, name)
    lengths = _scan(path, folder.where(name), schema)
    size, checksum = path.stat().st_size, file_checksum(path)
    if target != number:  # an earlier one is lost
        if isinstance(folder, RemoteFolder):
            message = f"the shard must have number {target}: repair a copy of the store in a local folder"
            raise ShardError(message, folder.where(name))
        folder.publish(path, shard_file(target))
    entry = ShardWriter.entry(folder, target, schema, lengths, size, checksum)
    return entry, Recovered(name, entry.records)


def _columns(batch, schema):
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
        for file, message in _check_entry(folder, entry, manifest.schema):
            if file == entry.lengths_file:
                path = folder.fetch(entry.file, entry.bytes, entry.xxh3)
                data = _scan(path, folder.where(entry.file), manifest.schema).tobytes()
                if xxhash.xxh3_64_hexdigest(data) == entry.lengths_xxh3:
                    folder.put(file, data)
                    yield file
                    continue
            raise ShardError(
                f"{message}; a committed shard cannot be repaired: restore it from a copy or build the store again",
                folder.where(file),
            )


def _check_entry(folder, entry, schema):
    """What is wrong with a shard and its lengths: pairs (file, message)."""
    lengths = None
    try:
        path = _whole(folder, entry.file, entry.bytes, entry.xxh3)
        # Only now that the bytes are those that were written are they looked into.
        lengths = _scan(path, folder.where(entry.file), schema)
        if len(lengths) != entry.records:
            yield entry.file, f"the shard must hold {entry.records} records; received {len(lengths)}"
    except (DataError, OSError) as error:
        yield entry.file, _message(error)
    if schema.main is None:
        return
    try:
        path = _whole(folder, entry.lengths_file, 4 * entry.records, entry.lengths_xxh3)
        found = np.frombuffer(path.read_bytes(), "<u4")
    except (DataError, OSError) as error:
        yield entry.lengths_file, _message(error)
        return
    if lengths is not None and not np.array_equal(found, lengths):
        yield entry.lengths_file, "the lengths must be those of the shard's main sequence"
    facts, longest = (entry.steps, entry.shortest, entry.longest), int(found.max(initial=0))
    wanted = (int(found.sum(dtype=np.int64)), int(found.min(initial=longest)), longest)
    if facts != wanted:
        yield NAME, f"steps, shortest and longest of shard {entry.number} must be {wanted}; received {facts}"


def _whole(folder, name, size, checksum):
    """The local path of a file that has the size and checksum of the manifest."""
    path = folder.fetch(name, size, checksum)
    found = file_checksum(path)
    if found != checksum:
        raise ShardError(f"the file is damaged: its checksum must be {checksum}; received {found}", folder.where(name))
    return path


def _scan(path, where, schema):
    """Check everything in a sealed shard; returns a number for each record, the length of its main sequence or 0.

    Raises:
        ShardError: a file that is no shard of the schema, offsets or texts that are damaged.
    """
    lengths, records = [np.empty(0, "<u4")], 0
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        check_fields(reader.schema, schema, where)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            lengths.append(_check_chunk(batch, schema, records))
            records += batch.num_rows
    except _UNREADABLE as error:
        raise ShardError(f"the file is no readable shard: {error}", where) from None
    return np.concatenate(lengths)


def _check_chunk(batch, schema, first=0):
    """Check a chunk whose first record has number `first`, and return the lengths of its main sequence, or zeros.

    Raises:
        ValueError: offsets, texts or missing values that cannot be.
    """
    columns, rows = decode(batch, schema), batch.num_rows
    # The table looks at the offsets alone; only then may Arrow look at what they point to.
    sizes = [step_bytes(field) for field in schema.values()]
    table = _ext.Table(np.array([0, rows]), [(size, [column]) for size, column in zip(sizes, columns, strict=True)])
    for number, name in enumerate(schema):
        bad = table.check(number)
        if bad >= 0:
            raise ValueError(f"offsets of field {name!r} lie at its record {first + bad}")
    batch.validate(full=True)
    for (name, field), array, (_, _, valid) in zip(schema.items(), batch.columns, columns, strict=True):
        if valid is not None and not field.optional and array.null_count:
            missing = np.flatnonzero(np.unpackbits(valid, count=rows, bitorder="little") == 0)[0]
            raise ValueError(f"field {name!r} is missing at its record {first + missing}, and is not optional")
    if schema.main is None:
        return np.zeros(rows, "<u4")
    return np.diff(columns[list(schema).index(schema.main)][1][: rows + 1]).astype("<u4")


def _known(manifest):
    """Files of a store."""
    shards = manifest.shards
    lengths = [shard.lengths_file for shard in shards] if manifest.schema.main is not None else []
    return {NAME, *(shard.file for shard in shards), *lengths}


def _leftovers(folder, manifest):
    """Files that are no part of the store, with what they are."""
    known = _known(manifest)
    for name in folder.names():
        if name in known or name == "writer.lock":
            continue
        if _SHARD.fullmatch(name):
            yield name, "a shard that is not committed: a writer is at work, or was killed (then repair recovers it)"
        elif _OURS.fullmatch(name):
            yield name, "what a killed writer left, unless one is at work (repair removes it)"
        else:
            yield name, "an unknown file, which is no part of the store"


def _size(entry, schema):
    return entry.bytes + (4 * entry.records if schema.main is not None else 0)


def _local(folder, name):
    """The local path of a file that no manifest names."""
    if isinstance(folder, RemoteFolder):
        return folder.fetch(name, folder.system.size(f"{folder.root}/{name}"))
    return folder.path / name


def _message(error):
    """What an error says, without the file, which the report names."""
    path = getattr(error, "path", None)
    return str(error).removeprefix(f"{path}: ") if isinstance(error, StoreError) else str(error)


def _as_json(report):
    return json.loads(json.dumps(dataclasses.asdict(report)))
