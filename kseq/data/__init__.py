"""Sequence data on disk: a record store, and padded batches from it."""

import typing

from ..lazy import lazy_names

# Every public name and the module that it is taken from, on first use: `Batches` and `BackupAndRestore` alone load
# Keras.
_PUBLIC = {
    "errors": "errors",
    "formats": "formats",
    "BackupAndRestore": "backup",
    "Batches": "batches",
    "build": "build_stores",
    "rebuild": "build_stores",
    "BuildError": "errors",
    "BuildWorkerError": "errors",
    "DataError": "errors",
    "open_fold": "folds",
    "parallel": "parallel_stores",
    "RayExecutor": "ray_executor",
    "SkipRecord": "records",
    "record": "records",
    "schema_of": "records",
    "source": "records",
    "Field": "schema",
    "Schema": "schema",
    "Store": "store",
    "concatenate": "store",
    "open": "store",
    "Vocabulary": "text",
    "clear_cache": "cache",
    "compact": "compaction",
    "repair": "recovery",
    "verify": "verification",
    "Writer": "writer",
    "set_metadata": "commits",
}

if typing.TYPE_CHECKING:
    from . import errors as errors
    from . import formats as formats
    from .backup import BackupAndRestore as BackupAndRestore
    from .batches import Batches as Batches
    from .build_stores import build as build
    from .build_stores import rebuild as rebuild
    from .cache import clear_cache as clear_cache
    from .commits import set_metadata as set_metadata
    from .compaction import compact as compact
    from .errors import BuildError as BuildError
    from .errors import BuildWorkerError as BuildWorkerError
    from .errors import DataError as DataError
    from .folds import open_fold as open_fold
    from .parallel_stores import parallel as parallel
    from .ray_executor import RayExecutor as RayExecutor
    from .records import SkipRecord as SkipRecord
    from .records import record as record
    from .records import schema_of as schema_of
    from .records import source as source
    from .recovery import repair as repair
    from .schema import Field as Field
    from .schema import Schema as Schema
    from .store import Store as Store
    from .store import concatenate as concatenate
    from .store import open as open
    from .text import Vocabulary as Vocabulary
    from .verification import verify as verify
    from .writer import Writer as Writer
else:
    __getattr__, __dir__ = lazy_names(__name__, _PUBLIC)
