"""Fields of records: what each holds, how it is stored, and how a schema is inferred and written as JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from ..errors import RecordError, SchemaError

TEXT, BINARY = "string", "bytes"
_MAX_FIELDS = 4096


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a record.

    Args:
        dtype: a NumPy dtype (those of `ml_dtypes` included), or "string" or "bytes".
        shape: shape of the field in each record: `()` a scalar, `(None, ...)` a sequence whose length differs from
            record to record, anything else an array of that shape. Strings and bytes have none.
        optional: whether a record may leave the field out, or hold None.
        store: a narrower dtype to keep the values in; they are widened when they are read.

    Raises:
        SchemaError: a dtype that is none or holds Python objects, a shape that is none, a `store` that cannot be
            widened to `dtype`.

    Example:
        >>> Field("float32", (None, 80))
        Field('float32', (None, 80))
        >>> Field(int, (None,), store="uint16").ragged
        True
    """

    dtype: np.dtype[Any] | Any
    shape: tuple[int | None, ...] = ()
    optional: bool = False
    store: np.dtype[Any] | Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.optional, bool):
            raise SchemaError(f"optional must be true or false; received {self.optional!r}")
        text = self.dtype in (TEXT, BINARY)
        dtype = self.dtype if text else as_dtype(self.dtype)
        try:
            shape = tuple(None if n is None else _size(n) for n in self.shape)
        except TypeError:
            raise SchemaError(f"shape must be a tuple of sizes; received {self.shape!r}") from None
        if None in shape[1:]:
            raise SchemaError(f"only the first axis of a field may be None; received shape {shape}")
        if text and (shape or self.store is not None):
            raise SchemaError(f"a field of dtype {dtype!r} has neither shape nor store; received {shape}, {self.store}")
        store = dtype if self.store is None else as_dtype(self.store)
        if store != dtype and not (_numeric(store) and _numeric(dtype) and np.can_cast(store, dtype, "safe")):
            raise SchemaError(f"store must be a dtype that widens to {dtype.name} without loss; received {store.name}")
        for name, value in (("dtype", dtype), ("shape", shape), ("store", store)):
            object.__setattr__(self, name, value)

    @property
    def ragged(self) -> bool:
        """Whether the field is a sequence whose length differs from record to record."""
        return self.shape[:1] == (None,)

    @property
    def text(self) -> bool:
        """Whether the field holds a string or bytes."""
        return isinstance(self.dtype, str)

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """The shape of one step of a sequence, or of the whole array."""
        return tuple(n for n in self.shape if n is not None)

    def __repr__(self) -> str:
        parts = [repr(dtype_name(self.dtype)), *([repr(self.shape)] if self.shape else [])]
        parts += ["optional=True"] if self.optional else []
        parts += [f"store={dtype_name(self.store)!r}"] if self.store != self.dtype else []
        return f"Field({', '.join(parts)})"

    def to_json(self) -> dict[str, Any]:
        """The field as JSON, from which `from_json` makes it again."""
        data: dict[str, Any] = {"dtype": dtype_name(self.dtype)}
        if self.shape:
            data["shape"] = list(self.shape)
        if self.optional:
            data["optional"] = True
        if self.store != self.dtype:
            data["store"] = dtype_name(self.store)
        return data

    @classmethod
    def from_json(cls, data: Any) -> "Field":
        """The field that `to_json` wrote.

        Raises:
            SchemaError: anything that `to_json` does not write.
        """
        if not isinstance(data, dict) or "dtype" not in data or set(data) - {"dtype", "shape", "optional", "store"}:
            raise SchemaError(f"a field must be an object of dtype, shape, optional and store; received {data!r}")
        shape = data.get("shape", [])
        if not isinstance(shape, list):
            raise SchemaError(f"the shape of a field must be a list; received {shape!r}")
        return cls(_from_name(data["dtype"]), tuple(shape), data.get("optional", False), _from_name(data.get("store")))


class Schema(dict[str, Field]):
    """Names of fields to `Field`s, in order, one of which may be the main sequence.

    Args:
        fields: a dict of `Field`s, or of what makes one: a dtype, or a pair (dtype, shape).
        main: name of the main sequence, whose lengths are those of the records; by default the first sequence.

    Raises:
        SchemaError: no fields, names that are not text or empty, a main sequence that is none.

    Example:
        >>> schema = Schema({"tokens": ("int32", (None,)), "label": "int64"})
        >>> schema.main, schema["label"]
        ('tokens', Field('int64'))
    """

    def __init__(self, fields: Mapping[str, Any], main: str | None = None) -> None:
        if not isinstance(fields, dict) or not 0 < len(fields) <= _MAX_FIELDS:
            raise SchemaError(f"a schema must be a dict of 1 to {_MAX_FIELDS} fields; received {fields!r:.200}")
        for name in fields:
            if not isinstance(name, str) or not name or not name.isprintable():
                raise SchemaError(f"names of fields must be printable text; received {name!r}")
        super().__init__({name: _as_field(name, field) for name, field in fields.items()})
        sequences = [name for name, field in self.items() if field.ragged]
        if main is None and sequences:
            main = sequences[0]
        if main is not None and main not in sequences:
            raise SchemaError(f"the main sequence must be one of {sequences}; received {main!r}")
        self.main: str | None = main

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.main == other.main and list(self.items()) == list(other.items())

    def __ne__(self, other: object) -> bool:  # that of dicts knows neither order nor main sequence
        return not self == other

    __hash__ = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Schema, (dict(self), self.main)

    def to_json(self) -> dict[str, Any]:
        """The schema as JSON, from which `from_json` makes it again."""
        return {"fields": {name: field.to_json() for name, field in self.items()}, "main": self.main}

    @classmethod
    def from_json(cls, data: Any) -> "Schema":
        """The schema that `to_json` wrote.

        Raises:
            SchemaError: anything that `to_json` does not write.
        """
        if not isinstance(data, dict) or set(data) != {"fields", "main"} or not isinstance(data["fields"], dict):
            raise SchemaError(f"a schema must be an object of fields and main; received {data!r:.200}")
        return cls({name: Field.from_json(field) for name, field in data["fields"].items()}, data["main"])

    @classmethod
    def infer(cls, record: Any, main: str | None = None) -> "Schema":
        """The schema of a record: arrays and lists are sequences, other numbers scalars, beside strings and bytes.

        A record that is an array is that of one field, `values`.

        Raises:
            RecordError: a record that is neither a dict nor an array, a value of which no field can be made.

        Example:
            >>> Schema.infer({"tokens": [1, 2], "text": "a b"})
            {'tokens': Field('int64', (None,)), 'text': Field('string')}
        """
        if isinstance(record, np.ndarray):
            record = {"values": record}
        if not isinstance(record, dict):
            raise RecordError(f"a record must be a dict of fields, or an array; received {type(record).__name__}")
        return cls({name: _infer(name, value) for name, value in record.items()}, main)


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """The NumPy dtype, in this machine's byte order.

    Raises:
        SchemaError: what is no dtype, or one of Python objects.

    Example:
        >>> as_dtype("bfloat16").name, as_dtype(">i4").str
        ('bfloat16', '<i4')
    """
    try:
        if isinstance(dtype, str) and hasattr(ml_dtypes, dtype):
            dtype = getattr(ml_dtypes, dtype)
        if dtype is None:
            raise TypeError
        found = np.dtype(dtype)
    except (TypeError, ValueError, OverflowError, SyntaxError):  # all of which NumPy raises, given the wrong text
        raise SchemaError(f"dtype must be a NumPy dtype, 'string' or 'bytes'; received {dtype!r}") from None
    if found.hasobject or found.itemsize == 0 or found.subdtype is not None:
        raise SchemaError(f"dtype must be one of values of a fixed size, without a shape; received {found}")
    if not found.isnative:
        found = found.newbyteorder("=")
        found = found if found.names is not None else np.dtype(found.str)  # the one that kernels know, not a copy of it
    if found.names is not None and _renamed(found) != found:
        raise SchemaError(f"a dtype of parts must be one that NumPy can describe, parts in order; received {found}")
    return found


def dtype_name(dtype: np.dtype[Any] | str) -> str | list[Any]:
    """How JSON names a dtype: by NumPy's name where that is enough, else by its description."""
    if isinstance(dtype, str):
        return dtype
    if dtype.names is not None:
        return [list(part) for part in np.lib.format.dtype_to_descr(dtype)]
    try:
        if as_dtype(dtype.name) == dtype:
            return dtype.name
    except SchemaError:
        pass
    return dtype.str


def _from_name(name):
    if name is None or isinstance(name, str):
        return name
    try:
        return np.lib.format.descr_to_dtype(_parts(name))
    except (TypeError, ValueError, IndexError, KeyError, OverflowError, SyntaxError):
        raise SchemaError(f"a dtype must be a name or a list of parts; received {name!r}") from None


def _parts(name: Any) -> Any:
    """A description of a dtype with tuples for JSON's lists."""
    if isinstance(name, str):
        return name
    return [(part[0], _parts(part[1]), *map(tuple, part[2:])) for part in name]


def _renamed(dtype):
    """The dtype that a manifest gives back, or None if it cannot say this one."""
    try:
        return _from_name(dtype_name(dtype))
    except ValueError:
        return None


def _numeric(dtype):
    return not isinstance(dtype, str) and dtype.kind in "biufc"


def _size(n):
    if isinstance(n, bool) or not 1 <= n < 1 << 31 or int(n) != n:  # as many as Arrow holds
        raise SchemaError(f"sizes must be integers from 1 to 2**31 - 1; received {n!r:.50}")
    return int(n)


def _as_field(name, field):
    if isinstance(field, Field):
        return field
    try:
        if isinstance(field, tuple) and len(field) == 2 and isinstance(field[1], (tuple, list)):
            return Field(field[0], tuple(field[1]))
        return Field(field)
    except SchemaError as error:
        raise SchemaError(f"field {name!r}: {error}") from None


def _infer(name, value):
    if isinstance(value, str):
        return Field(TEXT)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Field(BINARY)
    try:
        array = np.asarray(value)
        return Field(array.dtype, (None, *array.shape[1:]) if array.ndim else ())
    except (ValueError, SchemaError):
        raise RecordError(f"no field can be made of {value!r:.100}; give the schema", field=name) from None
