"""Classes of records: annotated fields that say what is stored, and how a record is loaded and divided."""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

import numpy as np

from ..errors import RecordError, SchemaError
from ..formats.cells import format_cell, parse_cell
from ..store.schema import Field, Schema

_INFO = "__kseq_record__"
_SOURCE = "kseq source"
_SCALARS = {int: "int64", float: "float64", bool: "bool", str: "string", bytes: "bytes"}


class SkipRecord(Exception):
    """Raised by `load` or `split` of a record to leave it out: a build counts it and goes on."""


@dataclasses.dataclass(frozen=True)
class RecordInfo:
    """What a class of records declares.

    Attributes:
        schema: of the fields that are stored.
        fields: a `Field` for every field, those included that are not stored.
        main: the main sequence as it was declared, or None.
    """

    schema: Schema
    fields: dict[str, Field]
    main: str | None

    @property
    def source_fields(self) -> list[str]:
        """Names of the fields that are not stored."""
        return [name for name in self.fields if name not in self.schema]


def source(**options: Any) -> Any:
    """A field of a record that is not stored: it says where the rest comes from, like the path of an audio file.

    Args:
        **options: of `dataclasses.field`, such as `default`.

    Example:
        >>> @record
        ... class Utterance:
        ...     path: str = source()
        ...     speaker: int
        >>> schema_of(Utterance)
        {'speaker': Field('int64')}
    """
    metadata = {**options.pop("metadata", {}), _SOURCE: True}
    return dataclasses.field(metadata=metadata, **options)


_Class = TypeVar("_Class", bound=type[Any])


@overload
def record(cls: _Class, *, main: str | None = None) -> _Class: ...
@overload
def record(cls: None = None, *, main: str | None = None) -> Callable[[_Class], _Class]: ...
@typing.dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field, source))
def record(cls: Any = None, *, main: str | None = None) -> Any:
    """Make a class with annotated fields a record: a dataclass, made by keywords, whose annotations give the schema.

    `int`, `float`, `bool`, `str`, `bytes` and NumPy's scalar types are single values, `list[int]` and the like are
    sequences; a `Field`, as the annotation itself or within `typing.Annotated`, is any other. `X | None` may be
    missing. Fields with the default `source()` are not stored. A subclass, decorated too, has its own fields after
    those of its bases.

    The class may define

    - `load(self, **kw)`: set the fields that are costly to load, or return them, as a dict or, where one field is
      stored, as its bare value. It works on a copy, which is dropped once it is written; fields that it sets need the
      default None only if records are made without them by hand.
    - `split(self, **kw)`: yield the records that this one becomes, or dicts or bare values; called after `load`.
    - `from_csv_row(cls, row, **kw)`, a classmethod, and `to_csv_row(self)`: dicts of text by column. By default columns
      are named as the fields; sequences are JSON, bytes base64, and an empty cell is a value that is not there. A row
      without names is a list, by default of the fields in their order; where there is one field, an array is that.

    They get those keyword arguments of `kseq.data.build` that they name and that are not its own. Where a field has the
    name of one of these methods, it is a field, and the records have the method that does nothing.

    Args:
        cls: the class.
        main: name of the main sequence; by default that of the base, or the first sequence.

    Raises:
        SchemaError: an annotation of which no field can be made, a field that is also a method.

    Example:
        >>> @record
        ... class Sentence:
        ...     text: str = source()
        ...     tokens: Field("int32", (None,)) = None
        ...     label: int | None = None
        ...
        ...     def load(self, offset=0):
        ...         self.tokens = [ord(letter) - offset for letter in self.text]
        >>> schema_of(Sentence)
        {'tokens': Field('int32', (None,)), 'label': Field('int64', optional=True)}
    """
    if cls is None:
        return lambda cls: record(cls, main=main)
    for name in _METHODS.keys() & inspect.get_annotations(cls):
        if name not in vars(cls):
            setattr(cls, name, dataclasses.field())  # else the base's method were its default
    made = dataclasses.dataclass(kw_only=True, eq=False)(cls)
    annotations = {}
    for base in reversed(made.__mro__):
        annotations |= inspect.get_annotations(base, eval_str=True)
    members = dataclasses.fields(made)
    fields = {member.name: _field(made, member.name, annotations[member.name]) for member in members}
    stored = {member.name: fields[member.name] for member in members if not member.metadata.get(_SOURCE)}
    if main is None:
        main = getattr(made, _INFO).main if hasattr(made, _INFO) else None
    try:
        setattr(made, _INFO, RecordInfo(Schema(stored, main), fields, main))
    except SchemaError as error:
        raise SchemaError(f"{made.__qualname__}: {error}") from None
    for name, default in _METHODS.items():
        own = vars(made).get(name)
        if name in fields and (callable(own) or isinstance(own, (classmethod, staticmethod))):
            raise SchemaError(f"{made.__qualname__}.{name} must be a field or a method, not both")
        if name not in fields and not hasattr(made, name):
            setattr(made, name, classmethod(default) if default is from_csv_row else default)
    if "__eq__" not in vars(made):
        made.__eq__ = _equal
        made.__hash__ = None
    return made


def record_info(cls: Any) -> RecordInfo:
    """What a class of records declares.

    Raises:
        SchemaError: a class that is not decorated with `record`, were it derived from one that is.
    """
    if not isinstance(cls, type) or _INFO not in vars(cls):
        name = getattr(cls, "__qualname__", repr(cls))
        raise SchemaError(f"the class of the records must be decorated with @kseq.data.record; received {name}")
    return vars(cls)[_INFO]


def schema_of(cls: type[Any]) -> Schema:
    """The schema of the fields that records of a class store.

    Raises:
        SchemaError: a class that is not decorated with `record`.

    Example:
        >>> @record
        ... class Step:
        ...     frames: Field("float32", (None, 80))
        >>> schema_of(Step)
        {'frames': Field('float32', (None, 80))}
    """
    return record_info(cls).schema


def fills_in(cls: type[Any]) -> bool:
    """Whether a class loads or divides its records itself, so that rows need not have all fields."""
    return method(cls, "load") is not load or method(cls, "split") is not split


def method(cls: type[Any], name: str) -> Callable[..., Any]:
    """A method as a class of records has it; the default where the name is that of a field."""
    if name not in record_info(cls).fields:
        return getattr(cls, name)
    return functools.partial(from_csv_row, cls) if name == "from_csv_row" else _METHODS[name]


def bound(owner: Any, name: str, info: RecordInfo) -> Callable[..., Any]:
    """A method of a record, or of a class of records; the default where the name is that of a field."""
    return functools.partial(_METHODS[name], owner) if name in info.fields else getattr(owner, name)


# The methods of a record that does not define its own.


def load(self: Any) -> Any:
    """Nothing is left to load."""


def split(self: Any) -> Iterator[Any]:
    """One record stays one."""
    yield self


def from_csv_row(cls: type[Any], row: Any) -> Any:
    """A record from text, or values: a dict by column, or a list in the order of the fields.

    Columns that are no fields are left out; where there is one field, an array is that.

    Raises:
        RecordError: a column that is missing, or holds no value of its field; more cells than fields.
    """
    values, members = {}, dataclasses.fields(cls)
    if isinstance(row, np.ndarray) and len(members) == 1:
        row = [row]
    if not isinstance(row, dict):
        if len(row) > len(members):
            names = [member.name for member in members]
            raise RecordError(f"a row must have cells for the fields {names}; received {len(row)} cells")
        row = {member.name: cell for member, cell in zip(members, row, strict=False)}
    for member in members:
        field = record_info(cls).fields[member.name]
        try:
            value = parse_cell(row.get(member.name), field)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            have = f"{row[member.name]!r:.100}"
            raise RecordError(f"the column must be {field}; received {have} ({error})", field=member.name) from None
        if value is not None:
            values[member.name] = value
        elif member.default is dataclasses.MISSING and member.default_factory is dataclasses.MISSING:
            if not field.optional and not (member.name in schema_of(cls) and fills_in(cls)):
                what = "the cell is empty" if member.name in row else f"there is no such column in {list(row)}"
                raise RecordError(what, field=member.name)
            values[member.name] = None
    return cls(**values)


def to_csv_row(self: Any) -> dict[str, str]:
    """Text for every field, by name."""
    fields = record_info(type(self)).fields
    return {name: format_cell(getattr(self, name), field) for name, field in fields.items()}


def csv_cells(record: Any, info: RecordInfo, names: list[str]) -> tuple[str, ...]:
    """The text of some fields of a record, as it gives them itself or by default."""
    own = bound(record, "to_csv_row", info)
    if isinstance(own, functools.partial) or getattr(own, "__func__", own) is to_csv_row:
        return tuple([format_cell(getattr(record, name), info.fields[name]) for name in names])
    texts = own()
    return tuple([str(texts.get(name, "")) for name in names])


_METHODS = {"load": load, "split": split, "from_csv_row": from_csv_row, "to_csv_row": to_csv_row}


def _equal(self, other):
    if type(other) is not type(self):
        return NotImplemented
    names = [member.name for member in dataclasses.fields(self) if member.compare]
    return all(_same(getattr(self, name), getattr(other, name)) for name in names)


def _same(one, other):
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return one is not None and other is not None and np.array_equal(one, other)
    return one == other


def _field(cls, name, annotation) -> Field:
    if isinstance(annotation, Field):
        return annotation
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *extra = typing.get_args(annotation)
        found = next((part for part in extra if isinstance(part, Field)), None)
        return _field(cls, name, inner) if found is None else found
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
        if len(kinds) == 1:
            field = _field(cls, name, kinds[0])
            return Field(field.dtype, field.shape, True, None if field.store == field.dtype else field.store)
    if typing.get_origin(annotation) is list:
        (item,) = typing.get_args(annotation)
        item = _field(cls, name, item)
        if not item.shape and not item.text:
            return Field(item.dtype, (None,))
    if isinstance(annotation, type) and annotation in _SCALARS:
        return Field(_SCALARS[annotation])
    if isinstance(annotation, type) and issubclass(annotation, np.generic):
        return Field(annotation)
    raise SchemaError(
        f"{cls.__qualname__}.{name} must be annotated with int, float, bool, str, bytes, a list of numbers, "
        f"X | None, or a Field, like typing.Annotated[np.ndarray, Field('float32', (None, 80))]; "
        f"received {annotation!r}"
    )
