"""Sequence data on disk: a record store, and padded batches from it."""

from . import formats as formats
from .backup import BackupAndRestore as BackupAndRestore
from .batches import Batches as Batches
from .build import build as build
from .build import rebuild as rebuild
from .errors import BuildError as BuildError
from .errors import BuildWorkerError as BuildWorkerError
from .errors import DataError as DataError
from .folds import open_fold as open_fold
from .parallel import parallel as parallel
from .ray_executor import RayExecutor as RayExecutor
from .records import SkipRecord as SkipRecord
from .records import record as record
from .records import schema_of as schema_of
from .records import source as source
from .schema import Field as Field
from .schema import Schema as Schema
from .store import Store as Store
from .store import concatenate as concatenate
from .store import open as open
from .text import Vocabulary as Vocabulary
from .verify import repair as repair
from .verify import verify as verify
from .writer import Writer as Writer
from .writer import set_metadata as set_metadata
