"""Values of fields as JSON and as the text of table cells (CSV), and back."""

import base64
import json
from typing import Any

import numpy as np

from ..errors import SchemaError
from ..store.conversion import convert_record
from ..store.schema import BINARY, TEXT, Field, Schema
from .schemas import json_array

_BOOLS = {"true": True, "false": False, "True": True, "False": False, "1": True, "0": False}


def parse_cell(cell: Any, field: Field) -> Any:
    """The value of a field from a cell, or None for one that is empty.

    Text stands for the value: JSON for sequences and arrays, base64 for bytes. Lists become arrays; anything else is
    the value itself.

    Raises:
        ValueError, TypeError, OverflowError: the cell holds no value of the field.

    Example:
        >>> from kseq.data import Field
        >>> parse_cell("7", Field("int64")), parse_cell("[1, 2]", Field("int32", (None,)))
        (7, array([1, 2], dtype=int32))
    """
    if isinstance(cell, str):
        if not cell and (field.optional or not (field.text or field.dtype.kind == "U")):
            return None
        if field.dtype == "string":
            return cell
        cell = _read(cell, field)
    elif not isinstance(cell, (list, tuple)):
        return cell  # its dtype and shape are checked when it is written
    if _is_python(cell, field):
        return cell
    if field.text:
        return convert_record({"value": field}, {"value": cell})["value"]
    value = from_json(cell, field)
    return value if field.shape else value[()]


def _is_python(value, field):
    """Whether a value stays one of Python's own numbers, as the annotations of records say."""
    if field.text or field.shape or field.store != field.dtype:
        return False
    if field.dtype == np.int64:
        return type(value) is int and -(1 << 63) <= value < 1 << 63
    return (field.dtype == np.float64 and type(value) is float) or (field.dtype == np.bool_ and type(value) is bool)


def _read(cell, field):
    if field.text:
        return base64.b64decode(cell, validate=True) if field.dtype == BINARY else cell
    if field.shape:
        value = json.loads(cell)
        if not isinstance(value, list):
            raise ValueError("a JSON list must be there")
        return value
    if field.dtype.kind == "U":
        return cell
    if field.dtype.kind == "b":
        if cell not in _BOOLS:
            raise ValueError(f"one of {list(_BOOLS)} must be there")
        return _BOOLS[cell]
    if field.dtype.kind in "iu":
        return int(cell)
    # bfloat16 and its like are of kind V.
    if field.dtype.kind == "f" or field.dtype.isbuiltin == 2:
        return float(cell)
    raise ValueError(f"a value of {field.dtype} has no text")


def format_cell(value: Any, field: Field) -> str:
    """The text from which `parse_cell` makes the value again.

    Raises:
        ValueError: a dtype whose values have no text.

    Example:
        >>> from kseq.data import Field
        >>> format_cell([1, 2], Field("int32", (None,))), format_cell(None, Field(int, optional=True))
        ('[1, 2]', '')
    """
    if value is None:
        return ""
    if field.text:
        return base64.b64encode(value).decode() if field.dtype == BINARY else value
    if field.dtype.kind not in "biufU" and field.dtype.isbuiltin != 2:
        raise ValueError(f"a value of {field.dtype} has no text")
    value = np.asarray(value)
    value = value.astype("float64") if value.dtype.isbuiltin == 2 else value
    value = value.tolist()
    return json.dumps(value) if isinstance(value, (list, bool)) else str(value)


def check(schema: Schema, name: str) -> Schema:
    """The schema, if text can hold its fields.

    Raises:
        SchemaError: a dtype that it cannot.
    """
    for key, field in schema.items():
        if not field.text and not (field.dtype.kind in "biufU" or field.dtype.isbuiltin == 2):
            raise SchemaError(f"{name} holds bool, integers, floats, strings and bytes; received {key!r}: {field}")
        if not field.text and field.dtype.kind == "f" and field.dtype.itemsize > 8:
            raise SchemaError(f"{name} holds floats of up to 64 bits; received {key!r}: {field}")
    return schema


def from_json(value: Any, field: Field) -> Any:
    """A JSON value as a field's value.

    Raises:
        ValueError, TypeError, OverflowError: it is none (`RecordError` is a ValueError).
    """
    if value is None:
        if not field.optional:
            raise ValueError("a value must be there")
        return None
    if field.text:
        if not isinstance(value, str):
            raise TypeError(f"a string must be there; received {type(value).__name__}")
        return value if field.dtype == TEXT else base64.b64decode(value, validate=True)
    if isinstance(value, list) and value and (field.dtype == "uint64" or field.dtype.kind == "U"):
        value = json_array(value)
    return convert_record({"value": field}, {"value": value})["value"].astype(field.dtype, copy=False)


def to_json(value: Any, field: Field) -> Any:
    """A field's value as a JSON value."""
    if value is None or field.dtype == TEXT:
        return value
    if field.text:
        return base64.b64encode(value).decode()
    return (value.astype("float64") if field.dtype.isbuiltin == 2 else value).tolist()
