"""A store in the place of another, which stays until the new one is complete."""

import dataclasses

from .folder import LOCK, Folder
from .manifest import COMPACTING, NAME, StoreManifest, read_manifest
from .verification import OURS, known_files


def may_overwrite(names: set[str]) -> bool:
    """Whether a folder with these files may be overwritten: a store, or what a writer that was killed left of one."""
    return NAME in names or all(OURS.fullmatch(name) or name == LOCK for name in names)


class Overwriting:
    """Shards written beside those of a store, under numbers that it does not have; then one manifest replaces another.

    Args:
        folder: the `Folder`, locked.

    Attributes:
        manifest: the store's without its shards, from which a new store begins; None where there is none.
        next_number: of the first new shard.
    """

    manifest: StoreManifest | None
    next_number: int

    def __init__(self, folder: Folder) -> None:
        self._folder, self.manifest, self.next_number = folder, None, 0
        if NAME in folder.names():
            old = read_manifest(folder)
            # Whoever finds this knows that shards that are not committed are no part of the store that is there.
            folder.put(COMPACTING, b"")
            self.manifest = dataclasses.replace(old, shards=(), metadata={}, splits={}, log=(), complete=False)
            self.next_number = old.next_number
        else:
            self.end()

    def end(self) -> None:
        """Remove what the manifest does not name: the store before, or after an error the new one's shards."""
        folder, names = self._folder, self._folder.names()
        known = known_files(read_manifest(folder)) if NAME in names else set()
        for name in names:
            if OURS.fullmatch(name) and name not in known and name != COMPACTING:
                folder.remove(name)
        folder.remove(COMPACTING)
