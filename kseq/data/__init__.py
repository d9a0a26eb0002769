"""Sequence data on disk: a record store, and padded batches from it."""

import typing

from ..lazy import lazy_names

# Every public name and the module that it is taken from, on first use: `Batches` and `BackupAndRestore` alone load
# Keras.
_PUBLIC = {
    "errors": "errors",
    "formats": "formats",
    "BackupAndRestore": "batches.backup",
    "Batches": "batches.batches",
    "shift": "batches.structure",
    "build": "builds.build",
    "rebuild": "builds.build",
    "BuildError": "errors",
    "BuildWorkerError": "errors",
    "DataError": "errors",
    "open_fold": "builds.folds",
    "parallel": "store.joining",
    "RayExecutor": "builds.executors",
    "SkipRecord": "builds.records",
    "record": "builds.records",
    "schema_of": "builds.records",
    "source": "builds.records",
    "Field": "store.schema",
    "Schema": "store.schema",
    "Store": "store.store",
    "concatenate": "store.joining",
    "open": "store.store",
    "TextCodec": "text",
    "Vocabulary": "text",
    "clear_cache": "store.cache",
    "compact": "store.compaction",
    "repair": "store.recovery",
    "verify": "store.verification",
    "Writer": "store.writer",
    "set_metadata": "store.commits",
}

if typing.TYPE_CHECKING:
    from . import errors as errors
    from . import formats as formats
    from .batches.backup import BackupAndRestore as BackupAndRestore
    from .batches.batches import Batches as Batches
    from .batches.structure import shift as shift
    from .builds.build import build as build
    from .builds.build import rebuild as rebuild
    from .builds.executors import RayExecutor as RayExecutor
    from .builds.folds import open_fold as open_fold
    from .builds.records import SkipRecord as SkipRecord
    from .builds.records import record as record
    from .builds.records import schema_of as schema_of
    from .builds.records import source as source
    from .errors import BuildError as BuildError
    from .errors import BuildWorkerError as BuildWorkerError
    from .errors import DataError as DataError
    from .store.cache import clear_cache as clear_cache
    from .store.commits import set_metadata as set_metadata
    from .store.compaction import compact as compact
    from .store.joining import concatenate as concatenate
    from .store.joining import parallel as parallel
    from .store.recovery import repair as repair
    from .store.schema import Field as Field
    from .store.schema import Schema as Schema
    from .store.store import Store as Store
    from .store.store import open as open
    from .store.verification import verify as verify
    from .store.writer import Writer as Writer
    from .text import TextCodec as TextCodec
    from .text import Vocabulary as Vocabulary
else:
    __getattr__, __dir__ = lazy_names(__name__, _PUBLIC)
