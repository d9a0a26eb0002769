"""Checking a store against its manifest: every checksum, offset and length."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kseq import _ext

from ...annotations import AnyPath
from ..errors import DataError, ManifestError, ShardError, StoreError
from .folder import LOCK, Folder, open_folder
from .manifest import COMMITS, COMPACTING, NAME, ShardEntry, StoreManifest, read_manifest
from .schema import Schema
from .shard import check_fields, decode, file_checksum, step_bytes

# What a damaged Arrow file makes pyarrow, NumPy and the table raise.
UNREADABLE: tuple[type[Exception], ...] = (
    pa.ArrowException,
    OSError,
    ValueError,
    IndexError,
    TypeError,
    OverflowError,
    MemoryError,
)
SHARD = re.compile(r"shard-(\d{5,})\.arrow(\.tmp|\.old)?")
OURS = re.compile(
    rf"{SHARD.pattern}|lengths-\d{{5,}}\.u32(\.tmp)?|{re.escape(NAME)}\.tmp|{re.escape(COMMITS)}|{COMPACTING}"
)


@dataclasses.dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        path: folder or URL of the store.
        problems: a pair (file, message) for each thing that is wrong with the store.
        leftovers: a pair (file, message) for each file that is no part of the store; the store is whole without them.
        records: records of the store, as the manifest says.
        bytes: bytes of its shards and lengths that were compared.
    """

    path: str
    problems: tuple[tuple[str, str], ...] = ()
    leftovers: tuple[tuple[str, str], ...] = ()
    records: int = 0
    bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with the store."""
        return not self.problems

    def raise_first(self) -> None:
        """Raise the first problem, if there is one.

        Raises:
            ManifestError: the manifest is damaged.
            ShardError: a shard or its lengths are missing or damaged.
        """
        for file, message in self.problems:
            raise (ManifestError if file in (NAME, COMMITS) else ShardError)(message, f"{self.path}/{file}")

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {**as_json(self), "ok": self.ok}

    def __str__(self) -> str:
        what = "whole" if self.ok else f"{len(self.problems)} problem{'s' * (len(self.problems) > 1)}"
        lines = [f"{self.path}: {what}; {self.records} records, {self.bytes} bytes compared"]
        return "\n".join(lines + [f"  {file}: {message}" for file, message in (*self.problems, *self.leftovers)])


def verify(
    path: AnyPath,
    *,
    deep: bool = False,
    against: Any = None,
    progress: Callable[[int, int, str], Any] | None = None,
    cache: AnyPath | None = None,
) -> VerifyReport:
    """Compare every file of a store with the manifest, and every shard's fields and offsets with the schema.

    Any single bit that has changed is found: all files have checksums, the manifest its own. Nothing is changed, and a
    writer may be at work meanwhile (its open shard is then one of the leftovers).

    Args:
        path: folder or URL of a store; of a URL, the files in the local cache are compared.
        deep: also read every record, one by one, as `store[i]` gives it.
        against: also compare every record with these, as they were given to the writer, in their order: an iterable of
            records, a `Store`, or the path of one. Floats are compared once they are rounded to those of their field.
        progress: called as `progress(done, total, file)` with the bytes that are done, after every shard.
        cache: local folder for the files of remote stores.

    Returns:
        A `VerifyReport`. A damaged manifest is one of its problems; the shards cannot be compared then.

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
        file = COMMITS if error.path == folder.where(COMMITS) else NAME
        return VerifyReport(str(folder), ((file, _message(error)),))
    problems, done, total = [], 0, sum(_size(entry, manifest.schema) for entry in manifest.shards)
    for entry in manifest.shards:
        problems += check_entry(folder, entry, manifest.schema)
        done += _size(entry, manifest.schema)
        if progress is not None:
            progress(done, total, entry.file)
    if (deep or against is not None) and not problems:  # what is damaged need not be read
        from .readback import compare

        problems += compare(folder, manifest, against)
    return VerifyReport(str(folder), tuple(problems), tuple(_leftovers(folder, manifest)), manifest.records, total)


def check_entry(folder: Folder, entry: ShardEntry, schema: Schema) -> Iterator[tuple[str, str]]:
    """What is wrong with a shard and its lengths: pairs (file, message)."""
    lengths = None
    try:
        path = _whole(folder, entry.file, entry.bytes, entry.xxh3)
        # Only now that the bytes are those that were written are they looked into.
        lengths = scan(path, folder.where(entry.file), schema)
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


def scan(path: AnyPath, where: str, schema: Schema) -> NDArray[np.uint32]:
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
            lengths.append(check_chunk(batch, schema, records))
            records += batch.num_rows
    except UNREADABLE as error:
        raise ShardError(f"the file is no readable shard: {error}", where) from None
    return np.concatenate(lengths)


def check_chunk(batch: pa.RecordBatch, schema: Schema, first: int = 0) -> NDArray[np.uint32]:
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
    offsets = columns[list(schema).index(schema.main)][1]
    assert offsets is not None  # of a sequence
    return np.diff(offsets[: rows + 1]).astype("<u4")


def known_files(manifest: StoreManifest) -> set[str]:
    """Files of a store."""
    shards = manifest.shards
    lengths = [shard.lengths_file for shard in shards] if manifest.schema.main is not None else []
    commits = () if manifest.complete else (COMMITS,)
    return {NAME, *commits, *(shard.file for shard in shards), *lengths}


def _leftovers(folder, manifest):
    """Files that are no part of the store, with what they are."""
    known = known_files(manifest)
    for name in folder.names():
        if name in known or name == LOCK:
            continue
        if SHARD.fullmatch(name):
            yield name, "a shard that is not committed: a writer is at work, or was killed (then repair recovers it)"
        elif OURS.fullmatch(name):
            yield name, "what a killed writer left, unless one is at work (repair removes it)"
        else:
            yield name, "an unknown file, which is no part of the store"


def _size(entry, schema):
    return entry.bytes + (4 * entry.records if schema.main is not None else 0)


def _message(error):
    """What an error says, without the file, which the report names."""
    path = getattr(error, "path", None)
    return str(error).removeprefix(f"{path}: ") if isinstance(error, StoreError) else str(error)


def as_json(report: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(report)))
