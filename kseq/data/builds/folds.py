"""Cross-validation: the folds of a build are stores, opened as one to train on and one to test on."""

import json

from ...annotations import AnyPath
from ..errors import StoreNotFoundError
from ..store.folder import Folder, open_folder
from ..store.store import Store
from ..store.store import open as open_store

FOLDS = "folds.json"


def write_folds(folder: Folder, names: list[str]) -> None:
    """Write which stores train and test in each fold."""
    lists = [{"train": [name for name in names if name != test], "test": [test]} for test in names]
    folder.put(FOLDS, json.dumps(lists, indent=1).encode() + b"\n")


def open_fold(path: AnyPath, number: int) -> tuple[Store, Store]:
    """The stores of one fold of a build with `folds`: all others to train, and this one to test.

    Args:
        path: folder or URL of the build.
        number: of the fold, from 0.

    Raises:
        StoreNotFoundError: a build without folds.
        IndexError: there is no such fold.

    Example:
        >>> for number in range(5):  # doctest: +SKIP
        ...     train, test = kseq.data.open_fold("corpus", number)
    """
    folder = open_folder(path)
    try:
        lists = json.loads(folder.read(FOLDS))
    except FileNotFoundError:
        raise StoreNotFoundError(f"there is no build with folds here (no {FOLDS})", folder) from None
    if not 0 <= number < len(lists):
        raise IndexError(f"the fold must be in [0, {len(lists)}); received {number}")
    fold = lists[number]
    train, test = (open_store([folder.where(name) for name in fold[part]]) for part in ("train", "test"))
    return train, test
