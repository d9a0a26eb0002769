"""Values as they are stored: converted where nothing is lost, else refused."""

import numpy as np

from .errors import RecordError


def convert_record(schema, record, number=None):
    """A record as it is stored: every value in its field's stored dtype, C-contiguous.

    Raises:
        RecordError: a field that is missing, unknown, or of another dtype or shape.
    """
    if not isinstance(record, dict):
        raise RecordError(f"a record must be a dict of fields; received {type(record).__name__}", number)
    unknown = set(record) - set(schema)
    if unknown:
        raise RecordError(f"a record must have the fields {list(schema)}; received {sorted(map(str, unknown))}", number)
    return {name: _convert(field, record.get(name), number, name) for name, field in schema.items()}


def _convert(field, value, number, name):
    if value is None:
        if not field.optional:
            raise RecordError("the field is missing (Field(..., optional=True) would allow it)", number, name)
        return None
    if field.text:
        kinds = str if field.dtype == "string" else (bytes, bytearray, memoryview)
        if not isinstance(value, kinds):
            raise RecordError(f"the value must be {field.dtype}; received {type(value).__name__}", number, name)
        try:
            return str(value).encode().decode() if field.dtype == "string" else bytes(value)
        except UnicodeEncodeError as error:
            raise RecordError(f"the text must be encodable as UTF-8: {error}", number, name) from None
    return _convert_array(field, value, number, name)


def _convert_array(field, value, number, name):
    try:
        given = np.asarray(value)
    except ValueError as error:
        raise RecordError(f"the value is no array: {error}", number, name) from None
    if given.size == 0 and not hasattr(value, "dtype"):
        given = given.astype(field.dtype)  # an empty list says nothing about its type
    wanted = field.shape
    fits = given.ndim == len(wanted) and all(n in (None, m) for n, m in zip(wanted, given.shape, strict=True))
    if not fits and field.ragged and given.size == 0 and given.ndim == 1:
        given, fits = given.reshape(0, *field.inner_shape), True  # an empty list says nothing about its steps
    if not fits:
        raise RecordError(f"the value must have shape {_shape_text(wanted)}; received {given.shape}", number, name)
    source, text = given.dtype, f"the value must be {field.dtype.name}; received"
    exact = np.can_cast(source, field.dtype, "same_kind") or (source.kind in "iub" and field.dtype.kind in "iufc")
    exact = exact and source.kind != "O" and (source.kind in "SU" or field.dtype.kind not in "SU")
    exact = exact and source.names is None and field.dtype.names is None
    if source != field.dtype and not exact:
        raise RecordError(f"{text} {source.name}", number, name)
    wider = source.kind in "fc" and field.dtype.kind not in "iub" and source.itemsize > field.dtype.itemsize
    if wider and hasattr(value, "dtype"):  # Python's floats are always: only arrays say that they mean it
        raise RecordError(f"{text} {source.name}, which is wider", number, name)
    with np.errstate(all="ignore"):
        stored = np.ascontiguousarray(given.astype(field.store)).reshape(given.shape)
        held = _held(given, stored)
    if not np.all(held):
        bad = given[~held].flat[0]
        raise RecordError(f"the value must be one that {field.store.name} holds; received {bad}", number, name)
    return stored


def _held(given, stored):
    """Which values are stored as they were given; floats may be rounded to fewer digits."""
    if stored.dtype == given.dtype:
        return np.True_
    if given.dtype.kind in "fc" and stored.dtype.kind not in "iub":
        return np.isfinite(stored) | ~np.isfinite(given)
    if given.dtype.kind in "iu" and stored.dtype.kind in "iu":  # beyond the range numbers wrap, and would wrap back
        limits = np.iinfo(stored.dtype)
        return (given >= limits.min) & (given <= limits.max)
    # NaN and NaT, where they stay that, are not equal to themselves.
    return (stored.astype(given.dtype) == given) | (given != given) & (stored != stored)


def _shape_text(shape):
    return "(" + ", ".join("T" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
