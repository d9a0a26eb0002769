"""Files that are being written: a process that is forked meanwhile must leave them to its parent."""

import os
import shutil
import weakref
from collections.abc import Iterable
from typing import IO, Any, Protocol

from ...annotations import AnyPath


class LetsGo(Protocol):
    """What writes files, and leaves them to the parent in a process that is forked."""

    def let_go(self) -> None: ...


_HELD: weakref.WeakSet[LetsGo] = weakref.WeakSet()


def held_from_forks(owner: LetsGo) -> None:
    """Have `owner.let_go()` called in every process that is forked while `owner` lives."""
    _HELD.add(owner)


def muted(files: Iterable[IO[Any]]) -> None:
    """Have what is left in the buffers of open files go nowhere: their descriptors are those of the parent's files."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for file in files:
        if not file.closed:
            os.dup2(nowhere, file.fileno())
    os.close(nowhere)


def remove_own(path: AnyPath, process: int) -> None:
    """Remove a folder that a process made, if this is that process."""
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)


def _let_go():
    for owner in list(_HELD):
        owner.let_go()


if hasattr(os, "register_at_fork"):  # else there are no forks
    os.register_at_fork(after_in_child=_let_go)
