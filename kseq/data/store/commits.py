"""Commits: shards, metadata and splits become part of a store."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kseq.version import __version__

from ...annotations import AnyPath
from ..errors import StoreChangedError, StoreExistsError, UnsealedShardError
from .folder import Folder, RemoteFolder, open_folder
from .manifest import COMMITS, COMPACTING, NAME, ShardEntry, StoreManifest, check_splits, commit_line, read_manifest
from .schema import Schema


def commit_shards(
    folder: Folder,
    schema: Schema,
    entries: Sequence[ShardEntry],
    manifest: StoreManifest | None = None,
    metadata: dict[str, Any] | None = None,
    *,
    complete: bool = True,
    splits: dict[str, list[list[int]]] | None = None,
    log: dict[str, Any] | None = None,
) -> StoreManifest:
    """Add complete shards to a store by replacing its manifest, and return the new one.

    Args:
        folder: the `Folder`.
        schema: the `Schema`.
        entries: a `ShardEntry` each, whose numbers follow those of the manifest.
        manifest: the manifest that is replaced, or None for a new store.
        metadata: dict of JSON values, by default those of the manifest.
        complete: whether the store is.
        splits: named ranges, by default those of the manifest.
        log: a dict to add to the log; by default one that counts the shards and records.

    Raises:
        StoreChangedError: another writer has committed meanwhile.
    """
    old = manifest or StoreManifest(schema)
    if manifest is not None and read_manifest(folder).generation != old.generation:
        raise StoreChangedError("another writer has committed to the store meanwhile", folder)
    if manifest is None and NAME in folder.names():
        raise StoreExistsError("another writer has committed a store here meanwhile", folder)
    if log is None and entries:
        log = _log(entries)
    new = StoreManifest(
        schema,
        (*old.shards, *entries),
        old.metadata if metadata is None else metadata,
        old.splits if splits is None else splits,
        (*old.log, *([log] if log else [])),
        old.generation + 1,
        complete,
    )
    folder.put(NAME, new.to_bytes())
    folder.remove(COMMITS)  # the manifest has them
    return new


def _log(entries: Sequence[ShardEntry]) -> dict[str, Any]:
    return {"kseq": __version__, "shards": len(entries), "records": sum(entry.records for entry in entries)}


class CommitLines:
    """Commits after a manifest that this process has just put into a folder.

    Args:
        folder: the local `Folder`.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder, self._stamp, self._size = folder, folder.stamp(NAME), 0

    @classmethod
    def of(cls, folder: Folder) -> "CommitLines | None":
        """Those of a folder, or None of one that cannot append to files."""
        return None if isinstance(folder, RemoteFolder) else cls(folder)

    def commit(self, manifest: StoreManifest, entries: Sequence[ShardEntry]) -> StoreManifest:
        """Add complete shards to what a manifest says, which is returned.

        Raises:
            StoreChangedError: another writer has committed meanwhile.
            StoreWriteError: the operating system refuses.
        """
        if self._folder.stamp(NAME) != self._stamp:
            raise StoreChangedError("another writer has committed to the store meanwhile", self._folder)
        generation, log = manifest.generation + 1, [_log(entries)] if entries else []
        line = commit_line(generation, entries, log)
        self._folder.append(COMMITS, line, self._size)
        self._size += len(line)
        shards = (*manifest.shards, *entries)
        return dataclasses.replace(manifest, shards=shards, log=(*manifest.log, *log), generation=generation)


def set_metadata(
    path: AnyPath,
    metadata: Mapping[str, Any] | None = None,
    splits: Mapping[str, Sequence[Sequence[int]] | None] | None = None,
) -> None:
    """Add metadata or named splits to a store that is there.

    Args:
        path: folder or URL of the store.
        metadata: dict of JSON values; a value of None removes a key.
        splits: `{name: [[first record, end], ...]}`; None removes a name.

    Raises:
        StoreLockedError: a writer has the store open.
        ValueError: metadata that are no JSON, splits beyond the records.
    """
    folder = open_folder(path)
    read_manifest(folder)
    with folder.lock():
        manifest = read_manifest(folder)
        merged = {key: value for key, value in {**manifest.metadata, **(metadata or {})}.items() if value is not None}
        check_json("metadata", merged)
        named = {name: ranges for name, ranges in {**manifest.splits, **(splits or {})}.items() if ranges is not None}
        ranges = check_splits(json.loads(json.dumps(named)), manifest.records)
        commit_shards(folder, manifest.schema, (), manifest, merged, complete=manifest.complete, splits=ranges)


def check_no_leftovers(folder: Folder, manifest: StoreManifest) -> None:
    """Refuse a folder in which a killed writer, or `compact`, has left a shard.

    Raises:
        UnsealedShardError: it has.
    """
    known = {shard.file for shard in manifest.shards}
    for name in folder.names():
        if name.startswith("shard-") and name not in known:
            raise UnsealedShardError(
                "a writer was killed before it committed this shard: repair the store first", folder.where(name)
            )
    if COMPACTING in folder.names():
        raise UnsealedShardError("the store was being compacted when that was killed: repair it first", folder)


def check_json(what: str, value: Any) -> None:
    """Refuse what JSON does not hold.

    Raises:
        ValueError: it does not.
    """
    try:
        same = json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be JSON values with text as keys: {error}") from None
    if not same:
        raise ValueError(f"{what} must be JSON values with text as keys; received {value!r:.200}")
