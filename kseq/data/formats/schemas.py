"""The schemas of files: inferred from their records, kept in them by kseq, or made of the dtypes that they state."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...annotations import AnyPath
from ..errors import FormatError, SchemaError
from ..store.schema import TEXT, Field, Schema


class Inferred:
    """The schema of records that a format does not state: a pass over all of them, without keeping any.

    Ints become int64 (uint64 where they must), a field of ints and floats float64, lists of strings those of
    the longest of them; a field that some records leave out is optional.

    Attributes:
        count: records that were looked at.
        seen: what was found, by field.
    """

    count: int
    seen: dict[str, dict[str, Any]]

    def __init__(self) -> None:
        self.count, self.seen = 0, {}

    def add(self, record: Mapping[str, Any], where: AnyPath) -> None:
        """Learn from a record of JSON values.

        Raises:
            FormatError: what no field can hold; `where` is its file and line.
        """
        self.count += 1
        for name, value in record.items():
            seen = self.seen.setdefault(
                name, {"count": 0, "kinds": set(), "shape": None, "negative": False, "longest": 1}
            )
            if value is None:
                continue
            seen["count"] += 1
            if isinstance(value, str):
                kind, shape = TEXT, ()
            else:
                try:
                    array = json_array(value)
                    if array.dtype.kind not in "biufU":
                        raise ValueError
                except (ValueError, OverflowError):
                    raise FormatError(
                        f"field {name!r} must be a number, a string or lists of equal lengths of either; "
                        f"received {value!r:.100}",
                        where,
                    ) from None
                kind = array.dtype.kind if array.size or not array.ndim else None
                seen["negative"] |= kind == "i" and bool(array.min() < 0)
                if kind == "U":
                    seen["longest"] = max(seen["longest"], array.dtype.itemsize // 4)
                shape = (None, *array.shape[1:]) if array.ndim else ()
            if kind is None and shape == (None,):
                shape = seen["shape"] if seen["shape"] not in (None, ()) else (None,)
            if seen["shape"] == (None,) and seen["kinds"] <= {None} and len(shape) > 1:
                seen["shape"] = shape  # only empty lists so far
            if seen["shape"] not in (None, shape):
                raise FormatError(f"field {name!r} had shape {seen['shape']}; received {shape}", where)
            seen["shape"] = shape
            seen["kinds"].add(kind)

    def schema(self, path: AnyPath | None) -> Schema:
        """What was learnt.

        Raises:
            FormatError: fields of mixed kinds, no records.
        """
        fields = {}
        for name, seen in self.seen.items():
            kinds = seen["kinds"] - {None}
            if kinds <= {"i", "u"}:
                dtype = "uint64" if "u" in kinds else "int64"
                wrong = "u" in kinds and seen["negative"]
            else:
                dtype = {"b": "bool", "U": f"U{seen['longest']}", TEXT: TEXT}.get(next(iter(kinds)), "float64")
                wrong = len(kinds) > 1 and not kinds <= {"i", "u", "f"}
            if wrong:
                raise FormatError(f"field {name!r} must be of one kind; received {sorted(kinds)}: give a schema", path)
            if not seen["count"]:
                dtype, seen["shape"] = TEXT, ()  # never there: any dtype does
            fields[name] = (dtype, seen["shape"], seen["count"] < self.count)
        return make_schema(fields, path)


def json_array(value: Any) -> NDArray[Any]:
    """Numbers or strings of JSON as an array: ints of which some need 64 bits without a sign do not become floats.

    Raises:
        ValueError, OverflowError: lists of different lengths, ints of more than 64 bits, strings beside others.
    """
    array = np.asarray(value)
    if array.dtype.kind == "U" and not all(type(one) is str for one in np.asarray(value, object).flat):
        raise ValueError("strings must not lie beside others")
    if array.dtype.kind in "fO" and isinstance(value, list):
        objects = np.asarray(value, object)
        if all(type(number) is int for number in objects.flat):
            return objects.astype("uint64")
    return array


def make_schema(fields: Mapping[str, tuple[Any, ...]], path: AnyPath | None, main: str | None = None) -> Schema:
    """A schema of (dtype, shape, optional) by name.

    Raises:
        FormatError: the file says what no schema can be made of.
    """
    try:
        return Schema({name: Field(*parts) for name, parts in fields.items()}, main)
    except SchemaError as error:
        raise FormatError(f"no schema can be made of it: {error}", path) from None


def kept_parts(kept: Any, path: AnyPath) -> tuple[Any, dict[str, Any]]:
    """The schema, as JSON, and the metadata that kseq wrote into a file as JSON.

    Raises:
        FormatError: it is something else.
    """
    if not isinstance(kept, dict) or set(kept) != {"schema", "metadata"} or not isinstance(kept["metadata"], dict):
        raise FormatError(f"what kseq keeps in it must be a schema and metadata; received {kept!r:.100}", path)
    return kept["schema"], kept["metadata"]


def kept_schema(data: Any, path: AnyPath) -> Schema:
    """The schema that kseq wrote into a file.

    Raises:
        FormatError: it is none.
    """
    try:
        return Schema.from_json(data)
    except SchemaError as error:
        raise FormatError(f"its schema is damaged: {error}", path) from None
