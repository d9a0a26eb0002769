"""What a file cannot say itself, the schema and metadata, in a JSON file beside it: `<path>.schema.json`."""

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ...annotations import AnyPath
from ..errors import FormatError, SchemaError
from ..store.aside import Aside
from ..store.schema import Schema
from .files import FileSink

SIDECAR = ".schema.json"


def read_sidecar(path: AnyPath, format: str, kinds: Collection[str]) -> dict[str, Any] | None:
    """What `<path>.schema.json` says, as a dict, or None where there is no such file.

    Args:
        path: of the file beside it.
        format: what it must say that it is.
        kinds: of records that there may be.

    Raises:
        FormatError: a file that kseq did not write.
    """
    path = os.fspath(path) + SIDECAR
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"it cannot be read: {error}", path) from None
    if not isinstance(data, dict) or data.get("format") != format:
        raise FormatError(f'it must say "format": {json.dumps(format)}; move it away if kseq did not write it', path)
    kind, records, metadata = (data.get(key) for key in ("kind", "records", "metadata"))
    if kind not in kinds or not isinstance(metadata, dict) or type(records) is not int or records < 0:
        raise FormatError(f"its kind, records or metadata are damaged; received {data!r:.200}", path)
    try:
        return {**data, "schema": Schema.from_json(data.get("schema"))}
    except SchemaError as error:
        raise FormatError(str(error), path) from None


def agreed(paths: Iterable[str], sidecars: Iterable[dict[str, Any] | None], key: str) -> Any:
    """What the files say that say something, all the same, or None.

    Raises:
        FormatError: they differ.
    """
    said = [(path, sidecar[key]) for path, sidecar in zip(paths, sidecars, strict=True) if sidecar is not None]
    for path, value in said[1:]:
        if value != said[0][1]:
            raise FormatError(f"its {key} must be that of {said[0][0]}, {said[0][1]}; received {value}", path)
    return said[0][1] if said else None


def kept_beside(paths: Sequence[str], format: str) -> Schema | None:
    """The schema that all of some files of text have beside them, or None if one has none.

    Raises:
        FormatError: schemas that differ, or a file that kseq did not write.
    """
    sidecars = [read_sidecar(path, format, ("record",)) for path in paths]
    return None if None in sidecars else agreed(paths, sidecars, "schema")


def check_names(names: Iterable[str], schema: Schema, where: AnyPath, all_of_them: bool = False) -> None:
    """Refuse fields that are not those of the schema beside a file: it is that of another.

    Raises:
        FormatError: there are others.
    """
    if not schema.keys() >= set(names) or (all_of_them and schema.keys() != set(names)):
        raise FormatError(
            f"there must be the fields {list(schema)}, as the {SIDECAR} beside it says; received {list(names)}: "
            "move that away if the file was written anew",
            where,
        )


def check_count(path: AnyPath, count: int, sidecar: dict[str, Any] | None) -> None:
    """Refuse a file that has not the records that are said of it.

    Raises:
        FormatError: it has others.
    """
    if sidecar is not None and sidecar["records"] != count:
        raise FormatError(
            f"it has {count} records, but {path}{SIDECAR} says {sidecar['records']}: "
            "the end is missing, or something other than kseq wrote the file anew",
            path,
        )


class SidecarSink(FileSink):
    """A sink to one file, with a second that says what is in it.

    Args:
        path: the file.
        schema: the `Schema`.
        format: what the second says that it is.
        kind: of the records.
        metadata: JSON values.
    """

    def __init__(
        self,
        path: AnyPath,
        schema: Schema,
        format: str,
        kind: str = "record",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._about = {"format": format, "kind": kind, "schema": schema.to_json(), "metadata": metadata or {}}
        try:
            json.dumps(self._about)
        except (TypeError, ValueError) as error:
            raise ValueError(f"metadata must be a dict of JSON values: {error}") from None
        super().__init__(path, schema)
        self._sidecar = Aside(os.fspath(path) + SIDECAR, replace=True)

    def _commit(self):
        with self._sidecar.open("x", encoding="utf-8") as file:
            file.write(json.dumps({**self._about, "records": self._count}, indent=1) + "\n")
        # First the schema: a file without it would be read as one that kseq did not write.
        self._sidecar.commit()
        super()._commit()

    def _discard(self):
        self._sidecar.discard()
        super()._discard()
