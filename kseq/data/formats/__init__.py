"""Files of other formats: read as records, and written from them."""

import functools
import importlib
import os
from collections.abc import Mapping
from typing import Any

from ...annotations import AnyPath, AnyPaths
from ..errors import FormatError
from ..store.writer import as_schema
from .base import Format as Format
from .base import RecordSink as RecordSink
from .base import RecordSource as RecordSource

# Names to modules: each module ends in `FORMAT`, and imports the package that it needs only when it is used.
_MODULES = {
    "array_record": "array_record",
    "audio": "audio",
    "csv": "csv_files",
    "huggingface": "huggingface",
    "hypersequence": "hypersequence",
    "jsonl": "jsonl",
    "numpy": "numpy_files",
    "parquet": "parquet",
    "seqp": "seqp.writing",
    "text": "text_lines",
    "tfrecord": "tf.tfrecord",
}


@functools.cache
def _format(name) -> Format:
    return importlib.import_module(f".{_MODULES[name]}", __name__).FORMAT


def formats() -> dict[str, Format]:
    """Every format by its name.

    Example:
        >>> sorted(name for name, format in formats().items() if format.write is None)
        ['audio', 'huggingface', 'text']
    """
    return {name: _format(name) for name in _MODULES}


def detect(path: Any) -> Format:
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


def read(path: Any, format: str | None = None, **options: Any) -> RecordSource:
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


def write(
    path: AnyPath,
    schema: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    format: str | None = None,
    **options: Any,
) -> RecordSink:
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
    found = detect(path) if format is None else _named(format)
    return _call(found, "write", path, as_schema(schema), metadata or {}, **options)


def _named(name):
    if name not in _MODULES:
        raise FormatError(f"there is no format {name!r}: {_known()}")
    return _format(name)


def _call(format: Format, verb: str, path: Any, *args: Any, **options: Any) -> Any:
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


__all__ = ["Format", "RecordSink", "RecordSource", "detect", "formats", "read", "write"]
