"""Files of other formats: read as records, and written from them."""

import functools
import glob
import importlib
import os
import pathlib
import uuid

import numpy as np

from ..errors import FormatError, SchemaError, StoreError, StoreExistsError, StoreNotFoundError, StoreWriteError
from ..schema import BINARY, TEXT, Field, Schema
from .base import Format as Format
from .base import Sink as Sink
from .base import Source as Source

# Names to modules: each module ends in `FORMAT`, and imports the package that it needs only when it is used.
_MODULES = {
    "array_record": "array_record",
    "csv": "csv_files",
    "huggingface": "huggingface",
    "hypersequence": "hypersequence",
    "jsonl": "jsonl",
    "numpy": "numpy_files",
    "parquet": "parquet",
    "seqp": "seqp_hdf5",
    "text": "text_lines",
    "tfrecord": "tfrecord",
    "wav": "wav",
}


@functools.cache
def _format(name) -> Format:
    return importlib.import_module(f".{_MODULES[name]}", __name__).FORMAT


def formats() -> dict[str, Format]:
    """Every format by its name.

    Example:
        >>> sorted(name for name, format in formats().items() if format.write is None)
        ['huggingface', 'hypersequence', 'text', 'wav']
    """
    return {name: _format(name) for name in _MODULES}


def detect(path) -> Format:
    """The format of files, by their suffix, or by what lies in a folder.

    Args:
        path: a file, a folder, a pattern with `*`, or a list of files; they need not be there, but for folders. Or a
            data set of Hugging Face.

    Raises:
        FormatError: a suffix that is of no format, a folder with files of no format or of several.

    Example:
        >>> detect("train-*.parquet").name
        'parquet'
    """
    if hasattr(path, "with_format"):
        return _format("huggingface")
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    found = {_detect_one(os.fspath(part)) for part in paths}
    if len(found) != 1:
        raise FormatError(f"files must be of one format; received {sorted(found)} in {paths!r:.200}: {_known()}")
    return _format(found.pop())


def read(path, format=None, **options) -> Source:
    """The records of files of another format.

    Args:
        path: what the format reads: a file, mostly also a folder, a pattern or a list of files.
        format: name of the format; by default as `detect` finds it.
        options: of the format.

    Raises:
        FormatError: a format that is not known, files that are not of it or damaged.
        StoreNotFoundError: no file there.

    Example:
        >>> for record in read("train.jsonl"):  # doctest: +SKIP
        ...     print(record["text"])
    """
    return _call(detect(path) if format is None else _named(format), "read", path, **options)


def write(path, schema, metadata=None, format=None, **options) -> Sink:
    """A sink that writes records to files of another format.

    Args:
        path: file to write.
        schema: `Schema` of the records.
        metadata: JSON values to keep beside the records, where the format has a place for them.
        format: name of the format; by default by the suffix of the path.
        options: of the format.

    Raises:
        FormatError: a format that is not known or not written, or cannot hold the schema or the metadata.

    Example:
        >>> with write("train.parquet", Schema({"tokens": (int, (None,))})) as sink:  # doctest: +SKIP
        ...     sink.write({"tokens": [1, 2, 3]})
    """
    format = detect(path) if format is None else _named(format)
    return _call(format, "write", path, as_schema(schema), metadata or {}, **options)


def _named(name):
    if name not in _MODULES:
        raise FormatError(f"there is no format {name!r}: {_known()}")
    return _format(name)


def _call(format, verb, path, *args, **options):
    function = getattr(format, verb)
    if function is None:
        raise FormatError(f"kseq does not {verb} the format {format.name!r}", path)
    return function(path, *args, **options)


def _known():
    return "known are " + "; ".join(
        f"{name} ({' '.join(format.suffixes) or 'folders and objects'})" for name, format in formats().items()
    )


@functools.cache
def _suffixes():
    return {suffix: name for name, format in formats().items() for suffix in format.suffixes}


def _detect_one(path):
    if os.path.isdir(path):
        return _detect_folder(path)
    for suffix, name in _suffixes().items():
        if path.lower().endswith(suffix):
            return name
    raise FormatError(f"no format is known by the name of this file: {_known()}", path)


def _detect_folder(folder):
    names = os.listdir(folder)
    if "dataset_info.json" in names and "state.json" in names:
        return "huggingface"
    found = set()
    for _, _, files in os.walk(folder):
        found |= {name for file in files for suffix, name in _suffixes().items() if file.lower().endswith(suffix)}
    found = found - {"text"} or found  # notes lie beside data
    if len(found) != 1:
        raise FormatError(f"a folder must hold files of one format; received {sorted(found)}: {_known()}", folder)
    return found.pop()


# What the formats share.


@functools.cache
def require(package, extra=None):
    """An optional package.

    Raises:
        ImportError: it is not installed; the text says what to install.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        what = f"'kseq[{extra}]'" if extra else package.split(".")[0]
        raise ImportError(f"this format needs {package.split('.')[0]}: pip install {what}") from error


def files_of(path, suffixes=()) -> list[str]:
    """The files that are meant: of a file, a list of files, a pattern with `*`, or a folder with files of a suffix.

    Args:
        path: a path or pattern, or a list of them; those of a pattern or a folder come sorted by name.
        suffixes: of the files in folders, at any depth; none: folders are not taken.

    Raises:
        StoreNotFoundError: a file is not there, or nothing is found.
    """
    if not isinstance(path, (str, os.PathLike)):
        files = [file for part in path for file in files_of(part, suffixes)]
        if not files:
            raise StoreNotFoundError(f"a list of files must not be empty; received {path!r}")
        return files
    path = os.fspath(path)
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        found = sorted(
            os.path.join(folder, file)
            for folder, _, files in os.walk(path)
            for file in files
            if file.lower().endswith(tuple(suffixes) or ("\0",))
        )
        what = f"the folder has no file ending in {' or '.join(suffixes)}" if suffixes else "it is a folder, not a file"
    else:
        found = sorted(file for file in glob.glob(path, recursive=True) if os.path.isfile(file))
        what = "no such file"
    if not found:
        raise StoreNotFoundError(what, path)
    return found


def no_metadata(metadata, name, path):
    """Refuse metadata where a format has no place for it.

    Raises:
        FormatError: there is metadata.
    """
    if metadata:
        raise FormatError(f"{name} files have no place for metadata; received {sorted(metadata)}: leave it out", path)


class Aside:
    """A file that is written beside its place, and takes it when it is complete.

    Raises:
        StoreExistsError: there is something at its place already.
        StoreWriteError: there is no folder for it.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:12]}.tmp")
        if not self.path.parent.is_dir():
            raise StoreWriteError("there is no such folder to write to", self.path.parent)
        if os.path.lexists(self.path):
            raise StoreExistsError("there is something already; delete it first", self.path)

    def commit(self):
        """Put the file in its place, on disk first."""
        with open(self.temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.temporary, self.path)

    def discard(self):
        """Remove the file."""
        self.temporary.unlink(missing_ok=True)


class FileSink(Sink):
    """A sink to one file, written aside; formats give `_put`, `_finish` and `_drop`.

    `_put` gets records as stores keep them: arrays of their fields' `store` dtypes, strings, bytes and None.
    """

    def __init__(self, path, schema):
        self.path, self.schema = path, schema
        self._aside, self._count, self._open = Aside(path), 0, True

    def write(self, record):
        if not self._open:
            raise StoreError("the sink is closed", self.path)
        from ..writer import convert_record

        record = convert_record(self.schema, record, self._count)
        try:
            self._put(record)
        except OSError as error:
            raise StoreWriteError(f"cannot write: {error}", self.path) from error
        self._count += 1

    def close(self):
        if not self._open:
            return
        try:
            self._finish()
            self._commit()
        except OSError as error:
            self.abort()
            raise StoreWriteError(f"cannot write: {error}", self.path) from error
        except BaseException:
            self.abort()
            raise
        self._open = False

    def abort(self):
        if self._open:
            self._open = False
            try:
                self._drop()
            finally:
                self._discard()

    def _commit(self):
        self._aside.commit()

    def _discard(self):
        self._aside.discard()

    def _put(self, record):
        """Write a record."""
        raise NotImplementedError

    def _finish(self):
        """Write what is left and close the file."""
        raise NotImplementedError

    def _drop(self):
        """Close the file whatever its state."""
        raise NotImplementedError


class Inferred:
    """The schema of records that a format does not state: a pass over all of them, without keeping any.

    Ints become int64 (uint64 where they must), a field of ints and floats float64; a field that some records leave
    out is optional.
    """

    def __init__(self):
        self._count, self._seen = 0, {}

    def add(self, record, where):
        """Learn from a record of JSON values.

        Raises:
            FormatError: what no field can hold; `where` is its file and line.
        """
        self._count += 1
        for name, value in record.items():
            seen = self._seen.setdefault(name, {"count": 0, "kinds": set(), "shape": None, "negative": False})
            if value is None:
                continue
            seen["count"] += 1
            if isinstance(value, str):
                kind, shape = TEXT, ()
            else:
                try:
                    array = json_array(value)
                    if array.dtype.kind not in "biuf":
                        raise ValueError
                except (ValueError, OverflowError):
                    raise FormatError(
                        f"field {name!r} must be a number, a string or lists of equal lengths of numbers; "
                        f"received {value!r:.100}",
                        where,
                    ) from None
                kind = array.dtype.kind if array.size or not array.ndim else None
                seen["negative"] |= kind == "i" and bool(array.min() < 0)
                shape = (None, *array.shape[1:]) if array.ndim else ()
            if kind is None and shape == (None,):
                shape = seen["shape"] if seen["shape"] not in (None, ()) else (None,)
            if seen["shape"] == (None,) and seen["kinds"] <= {None} and len(shape) > 1:
                seen["shape"] = shape  # only empty lists so far
            if seen["shape"] not in (None, shape):
                raise FormatError(f"field {name!r} had shape {seen['shape']}; received {shape}", where)
            seen["shape"] = shape
            seen["kinds"].add(kind)

    def schema(self, path) -> Schema:
        """What was learnt.

        Raises:
            FormatError: fields of mixed kinds, no records.
        """
        fields = {}
        for name, seen in self._seen.items():
            kinds = seen["kinds"] - {None}
            if kinds <= {"i", "u"}:
                dtype = "uint64" if "u" in kinds else "int64"
                wrong = "u" in kinds and seen["negative"]
            else:
                dtype = {"b": "bool", TEXT: TEXT}.get(next(iter(kinds)), "float64")
                wrong = len(kinds) > 1 and not kinds <= {"i", "u", "f"}
            if wrong:
                raise FormatError(f"field {name!r} must be of one kind; received {sorted(kinds)}: give a schema", path)
            if not seen["count"]:
                dtype, seen["shape"] = TEXT, ()  # never there: any dtype does
            fields[name] = (dtype, seen["shape"], seen["count"] < self._count)
        return make_schema(fields, path)


def json_array(value) -> np.ndarray:
    """Numbers of JSON as an array: ints of which some need 64 bits without a sign do not become floats.

    Raises:
        ValueError, OverflowError: lists of different lengths, ints of more than 64 bits.
    """
    array = np.asarray(value)
    if array.dtype.kind in "fO" and isinstance(value, list):
        objects = np.asarray(value, object)
        if all(type(number) is int for number in objects.flat):
            return objects.astype("uint64")
    return array


def as_schema(schema) -> Schema:
    """A schema, of a dict of fields where it is none yet."""
    return schema if isinstance(schema, Schema) else Schema(schema)


def make_schema(fields, path, main=None) -> Schema:
    """A schema of (dtype, shape, optional) by name.

    Raises:
        FormatError: the file says what no schema can be made of.
    """
    try:
        return Schema({name: Field(*parts) for name, parts in fields.items()}, main)
    except SchemaError as error:
        raise FormatError(f"no schema can be made of it: {error}", path) from None


def kept_parts(kept, path) -> tuple:
    """The schema, as JSON, and the metadata that kseq wrote into a file as JSON.

    Raises:
        FormatError: it is something else.
    """
    if not isinstance(kept, dict) or set(kept) != {"schema", "metadata"} or not isinstance(kept["metadata"], dict):
        raise FormatError(f"what kseq keeps in it must be a schema and metadata; received {kept!r:.100}", path)
    return kept["schema"], kept["metadata"]


def kept_schema(data, path) -> Schema:
    """The schema that kseq wrote into a file.

    Raises:
        FormatError: it is none.
    """
    try:
        return Schema.from_json(data)
    except SchemaError as error:
        raise FormatError(f"its schema is damaged: {error}", path) from None


__all__ = ["Format", "Sink", "Source", "detect", "formats", "read", "write"]
