"""The manifest of a store: its schema, shards, metadata and splits, in one JSON file that is replaced whole.

While a writer is at work, what it commits further is in a second file, a line each, so that a commit costs the same
however many there were. A line is the checksum of its JSON, its length, and the JSON: the number of the commit, its
shards and its log. One that is cut off at the end is a commit that did not happen. In the end the manifest has it all.
"""

import dataclasses
import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, get_type_hints

import xxhash

from ..errors import ManifestError, SchemaError, StoreError, StoreNotFoundError
from .schema import Schema

if TYPE_CHECKING:
    from .folder import Folder

NAME = "manifest.json"
COMMITS = "commits.jsonl"
COMPACTING = "compacting"
VERSION = 1
_ZEROS = "0" * 16


@dataclasses.dataclass(frozen=True)
class ShardEntry:
    """What the manifest says of a shard.

    Attributes:
        number: its place among the shards, from which its files are named.
        records: records in it.
        bytes: size of its file.
        xxh3: checksum of its file.
        steps: steps of the main sequence, or 0.
        shortest: least length of the main sequence, or 0.
        longest: greatest length of the main sequence, or 0.
        lengths_xxh3: checksum of its file of lengths, or "".
    """

    number: int
    records: int
    bytes: int
    xxh3: str
    steps: int = 0
    shortest: int = 0
    longest: int = 0
    lengths_xxh3: str = ""

    @property
    def file(self) -> str:
        """Name of the shard."""
        return shard_file(self.number)

    @property
    def lengths_file(self) -> str:
        """Name of the file of lengths of the main sequence."""
        return lengths_file(self.number)


_KINDS = get_type_hints(ShardEntry)


@dataclasses.dataclass(frozen=True)
class StoreManifest:
    """The state of a store after a commit.

    Attributes:
        schema: fields of the records.
        shards: a `ShardEntry` each.
        metadata: what the user says of the data, a dict of JSON values.
        splits: for each named split a list of pairs [first record, end].
        log: what was done, a list of dicts.
        generation: number of the commit.
        complete: whether the writer came to its end.
    """

    schema: Schema
    shards: tuple[ShardEntry, ...] = ()
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    splits: dict[str, list[list[int]]] = dataclasses.field(default_factory=dict)
    log: tuple[dict[str, Any], ...] = ()
    generation: int = 0
    complete: bool = False

    @property
    def records(self) -> int:
        """Records of the store."""
        return sum(shard.records for shard in self.shards)

    @property
    def next_number(self) -> int:
        """Number of the next shard."""
        return max((shard.number for shard in self.shards), default=-1) + 1

    @property
    def content_hash(self) -> str:
        """A checksum of schema and records, whatever else is said of them: 32 hexadecimal digits."""
        return content_hash(self.schema, self.shards)

    def to_bytes(self) -> bytes:
        """The file."""
        data = {
            "kseq_store": VERSION,
            "checksum": _ZEROS,
            "generation": self.generation,
            "complete": self.complete,
            "content_hash": self.content_hash,
            "schema": self.schema.to_json(),
            "shards": [dataclasses.asdict(shard) for shard in self.shards],
            "splits": self.splits,
            "metadata": self.metadata,
            "log": list(self.log),
        }
        # As json.loads decodes it: metadata may hold half a surrogate pair.
        text = json.dumps(data, indent=1, ensure_ascii=False).encode(errors="surrogatepass") + b"\n"
        return text.replace(_ZEROS.encode(), xxhash.xxh3_64_hexdigest(text).encode(), 1)


def shard_file(number: int) -> str:
    """Name of a shard."""
    return f"shard-{number:05d}.arrow"


def lengths_file(number: int) -> str:
    """Name of a shard's file of lengths."""
    return f"lengths-{number:05d}.u32"


def content_hash(schema: Schema, shards: Iterable[ShardEntry]) -> str:
    """A checksum of a schema and the first shards of a store."""
    text = json.dumps([schema.to_json(), [[shard.records, shard.xxh3] for shard in shards]], sort_keys=True)
    return xxhash.xxh3_128_hexdigest(text.encode())


def read_manifest(folder: "Folder") -> StoreManifest:
    """The manifest of a folder, with the commits after it.

    Raises:
        StoreNotFoundError: a folder without one.
        ManifestError: a manifest that is damaged, or of another version.
        StoreError: the operating system refuses.
    """
    data = _read(folder)
    while True:
        manifest = parse_manifest(data, folder.where(NAME))
        if manifest.complete:
            return manifest
        try:
            lines = folder.read(COMMITS)
        except FileNotFoundError:
            return manifest
        before, data = data, _read(folder)
        if data == before:  # else the lines may be those of another manifest
            return _with_commits(manifest, lines, folder.where(COMMITS))


def _read(folder):
    try:
        return folder.read(NAME)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreNotFoundError(f"there is no kseq store here (no {NAME})", folder) from None
    except OSError as error:
        raise StoreError(f"the file cannot be read: {error.strerror or error}", folder.where(NAME)) from error


def commit_line(generation: int, entries: Iterable[ShardEntry], log: list[dict[str, Any]]) -> bytes:
    """The line of a commit, which adds shards."""
    data = {"generation": generation, "shards": [dataclasses.asdict(entry) for entry in entries], "log": log}
    text = json.dumps(data).encode()
    return b"%s %d %s\n" % (xxhash.xxh3_64_hexdigest(text).encode(), len(text), text)


def _with_commits(manifest, data, where):
    """The manifest with the commits that come after it."""
    *lines, rest = data.split(b"\n")
    shards, log, generation = list(manifest.shards), list(manifest.log), manifest.generation
    try:
        start = rest.split(b" ", 2)
        if len(start) == 3 and len(start[2]) >= int(start[1]):
            raise ValueError("the end of a line is missing")
        for line in lines:
            checksum, size, text = line.split(b" ", 2)
            if len(text) != int(size) or xxhash.xxh3_64_hexdigest(text).encode() != checksum:
                raise ValueError("a checksum is wrong")
            found = json.loads(text)
            if found["generation"] <= manifest.generation:
                continue  # the manifest has it
            if found["generation"] != generation + 1:
                raise ValueError(f"commit {generation + 1} is missing")
            generation += 1
            shards += _shards(found["shards"])
            log += found["log"]
        _check_numbers(shards)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ManifestError(f"the file is damaged: {error}", where) from None
    return dataclasses.replace(manifest, shards=tuple(shards), log=tuple(log), generation=generation)


def parse_manifest(data: bytes, where: str) -> StoreManifest:
    """The manifest in a file's bytes.

    Raises:
        ManifestError: bytes that `to_bytes` does not write.
    """
    try:
        found = json.loads(data)
        version, checksum = found["kseq_store"], found["checksum"]
        if version != VERSION:
            raise ManifestError(f"this kseq reads stores of version {VERSION}; received {version!r}", where)
        if not isinstance(checksum, str) or not re.fullmatch("[0-9a-f]{16}", checksum):
            raise ManifestError(f"the checksum must be 16 hexadecimal digits; received {checksum!r:.50}", where)
        written = xxhash.xxh3_64_hexdigest(data.replace(checksum.encode(), _ZEROS.encode(), 1))
        if written != checksum:
            raise ManifestError(f"the file is damaged: it says checksum {checksum} and has {written}", where)
        manifest = StoreManifest(
            Schema.from_json(found["schema"]),
            tuple(_shards(found["shards"])),
            _typed(found["metadata"], dict),
            check_splits(found["splits"], sum(entry["records"] for entry in found["shards"])),
            tuple(_typed(found["log"], list)),
            _typed(found["generation"], int),
            _typed(found["complete"], bool),
        )
        _check_numbers(manifest.shards)
        if manifest.content_hash != found["content_hash"]:
            raise ValueError(f"content_hash must be {manifest.content_hash}; received {found['content_hash']!r}")
        return manifest
    except RecursionError:
        raise ManifestError("the file nests too deeply to be a manifest", where) from None
    except (ValueError, TypeError, KeyError, AttributeError, SchemaError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ManifestError(f"the file is no manifest of a kseq store: {reason}", where) from None


def check_splits(splits: Any, records: int) -> dict[str, list[list[int]]]:
    """Named splits as `{name: [[first, end], ...]}`, within a number of records.

    Raises:
        ValueError: splits of another form, or beyond the records.
    """
    _typed(splits, dict)
    for name, ranges in splits.items():
        for pair in _typed(ranges, list):
            first, end = pair
            if not (isinstance(first, int) and isinstance(end, int) and 0 <= first <= end <= records):
                raise ValueError(f"split {name!r} must lie in the {records} records; received {pair!r}")
    return splits


def _shards(entries):
    """The shards of JSON."""
    for place, entry in enumerate(entries):
        shard = ShardEntry(**entry)
        for name, kind in _KINDS.items():
            value = getattr(shard, name)
            if not isinstance(value, kind) or (kind is int and (isinstance(value, bool) or value < 0)):
                raise ValueError(f"{name} of shard {place} must be a {kind.__name__}; received {value!r:.50}")
        yield shard


def _check_numbers(shards):
    if len({shard.number for shard in shards}) != len(shards):
        raise ValueError("numbers of shards must differ")


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"expected {kind.__name__}; received {value!r:.50}")
    return value
