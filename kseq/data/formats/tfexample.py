"""Records from `tf.train.Example` and `tf.train.SequenceExample`, by a schema or as they are."""

import math

import numpy as np

from kseq import _ext

from .tf_features import BYTES, FLOAT, INT64, KINDS, Malformed, parse_example, parse_sequence_example

# ---- the values of features


def _numbers(kind, data, at, stop):
    if kind == INT64:
        return _ext.unpack_varints(data, at, stop)
    return np.frombuffer(data, "<f4", (stop - at) // 4, at).astype(np.float32)


def _values(data, feature):
    """What a feature holds: an array [T] of numbers, a list of bytes."""
    kind, spans = feature
    if kind in (BYTES, None):
        return [data[at:stop] for at, stop in spans]
    return _numbers(kind, data, *spans[0]) if len(spans) == 1 else _joined(kind, data, spans)[0]


def _joined(kind, data, spans):
    """The numbers of several spans, and which are whose: those of span `i` begin at `starts[i]`."""
    packed = b"".join([data[at:stop] for at, stop in spans])
    try:
        values = _numbers(kind, packed, 0, len(packed))
    except Malformed:
        for span in spans:  # one of them is it, and says where it lies in the record
            _numbers(kind, data, *span)
        raise
    starts = np.cumsum([0, *[stop - at for at, stop in spans]], dtype=np.int64)  # in bytes
    if kind == FLOAT:
        starts //= 4
    elif len(values) < len(packed):
        ended = np.cumsum(np.frombuffer(packed, np.uint8) < 0x80)
        starts[1:] = ended[starts[1:] - 1] * (starts[1:] > 0)
    return values, starts


def _stack(data, steps):
    """The kind of all steps of a feature list, their values one after the other, and how many each step has."""
    kinds = {kind for kind, _ in steps}
    if len(kinds) > 1:
        raise Malformed("the steps of a feature list hold " + " and ".join(sorted(KINDS[kind] for kind in kinds)))
    kind = kinds.pop() if kinds else None
    spans = [span for _, spans in steps for span in spans]
    counts = [len(spans) for _, spans in steps]
    if kind in (BYTES, None):
        values = [data[at:stop] for at, stop in spans]
    else:
        values, starts = _joined(kind, data, spans)
        counts = np.diff(starts[np.cumsum([0, *counts])])
    counts = np.asarray(counts, np.int64)
    if len(counts) and (odd := np.flatnonzero(counts != counts[0])).size:
        raise Malformed(f"step 0 of a feature list holds {counts[0]} values, and step {odd[0]} holds {counts[odd[0]]}")
    return kind, values, int(counts[0]) if len(counts) else 0


# ---- records as they are


def example_record(data):
    """The record of an Example of which no schema is known: every feature under its name.

    Numbers are an array [T] of int64 or float32; one byte string is bytes, none or several are a list of them; a
    feature that holds nothing is None.
    """
    return {name: _within(name, _unpack, data, feature) for name, feature in parse_example(data).items()}


def sequence_example_record(data):
    """As `example_record` for a SequenceExample: one number in the context is a scalar, feature lists are sequences.

    A feature list is an array [T] where every step holds one number, else [T, D]; a list of bytes, or of lists of
    them. One without steps, whose kind nobody knows, is an empty list.
    """
    context, lists = parse_sequence_example(data)
    record = {}
    for name, feature in context.items():
        value = _within(name, _unpack, data, feature)
        record[name] = value[0] if isinstance(value, np.ndarray) and len(value) == 1 else value
    for name, steps in lists.items():
        if name in record:
            raise Malformed(f"feature {name!r} is in the context and in the feature lists: give a schema")
        record[name] = _within(name, _unpack_steps, data, steps)
    return record


def _unpack(data, feature):
    values = _values(data, feature)
    if feature[0] == BYTES:
        return values[0] if len(values) == 1 else values
    return None if feature[0] is None else values


def _unpack_steps(data, steps):
    kind, values, width = _stack(data, steps)
    if width == 1 or not steps:
        return values
    if kind in (FLOAT, INT64):
        return values.reshape(len(steps), width)
    return [values[i * width : (i + 1) * width] for i in range(len(steps))]


def _within(name, function, *arguments):
    """Call the function; errors say which feature they are about."""
    try:
        return function(*arguments)
    except Malformed as error:
        raise Malformed(f"feature {name!r}: {error}") from None


# ---- records by a schema


def decoder(schema, kind):
    """The function from the bytes of a message of a kind to a record that fits the schema."""
    fields = list(schema.items())

    def decode_example(data):
        features = parse_example(data)
        return {name: _within(name, _read, data, field, features.get(name), None) for name, field in fields}

    def decode_sequence_example(data):
        context, lists = parse_sequence_example(data)
        record = {}
        for name, field in fields:
            feature, steps = context.get(name), lists.get(name)
            if feature is not None and steps is not None:  # a name of both: sequences are feature lists
                feature, steps = (None, steps) if field.ragged else (feature, None)
            record[name] = _within(name, _read, data, field, feature, steps)
        return record

    return decode_example if kind == "example" else decode_sequence_example


def _read(data, field, feature, steps):
    if steps is not None:
        kind, values, width = _stack(data, steps)
    elif feature is not None and feature[0] is not None:
        kind, values, width = feature[0], _values(data, feature), None
    elif field.optional:
        return None
    else:
        raise Malformed("it is missing, and the schema does not say that it is optional")
    if field.text:
        return _read_text(field, kind, values, steps)
    if steps is not None and (not field.shape or field.shape[0] not in (None, len(steps))):
        raise Malformed(f"a feature list of {len(steps)} steps does not fit {field}")
    if steps == []:
        return np.empty((0, *field.shape[1:]), field.dtype)
    inner = math.prod(field.shape[1:])
    if kind == BYTES:
        array = _read_bytes(field, values, None if steps is None or width != 1 else inner)
    else:
        array = _read_numbers(field, kind, values)
    if steps is not None:
        shape = (len(steps), *field.shape[1:])
    elif field.ragged:
        shape = (array.size // inner, *field.shape[1:])
    else:
        shape = field.shape
    if array.size != math.prod(shape):
        raise Malformed(f"{array.size} values do not fill the shape {field.shape}")
    return array.reshape(shape)[()]  # numbers for scalars, as a record has them


def _read_text(field, kind, values, steps):
    if kind != BYTES or len(values) != 1 or steps is not None:
        raise Malformed(f"a field of dtype {field.dtype!r} must hold one byte string; received {_count(kind, values)}")
    try:
        return values[0].decode() if field.dtype == "string" else values[0]
    except UnicodeDecodeError as error:
        raise Malformed(f"a string must be UTF-8; received {values[0]!r:.100} ({error.reason})") from None


def _count(kind, values):
    return f"{len(values)} byte strings" if kind == BYTES else f"{len(values)} {KINDS[kind]}"


def _read_bytes(field, values, step):
    """The array [N] of byte strings: of dtype S one each, of another dtype its raw bytes, `step` values each."""
    if field.dtype.kind == "S":
        longest = max(map(len, values), default=0)
        if longest > field.dtype.itemsize:
            raise Malformed(f"byte strings must fit {field.dtype}; received one of {longest} bytes")
        return np.array(values, field.dtype)
    size = field.store.itemsize
    wrong = [n for n in map(len, values) if n % size or (step is not None and n != step * size)]
    if wrong:
        wanted = f"a multiple of {size}" if step is None else step * size
        raise Malformed(f"raw bytes of {field.store} must be {wanted} bytes; received {wrong[0]} bytes")
    raw = values[0] if len(values) == 1 else b"".join(values)
    return np.frombuffer(raw, field.store.newbyteorder("<")).astype(field.dtype)


def _read_numbers(field, kind, values):
    if kind is None:
        values = np.empty(0, np.int64)
    array = exact(values, field.dtype)
    if array is None:
        raise Malformed(f"{_count(kind, values)} must be exact in {field.dtype}; received {_some(values)}")
    return array


def _some(values):
    return np.array2string(np.asarray(values).ravel()[:8], separator=", ", threshold=8)


def _number(dtype):
    # The numbers of ml_dtypes (bfloat16, int4, ...) are of NumPy's kind "V", as are structures and raw memory.
    return dtype.kind in "biufcmM" or (dtype.kind == "V" and dtype.names is None and dtype.type is not np.void)


def exact(array, dtype):
    """The array in another dtype, or None where that would change a value.

    Example:
        >>> exact(np.array([1.0, 2.0]), np.dtype("int8"))
        array([1, 2], dtype=int8)
        >>> exact(np.array([300]), np.dtype("int8")) is None
        True
    """
    source = array.dtype
    if source == dtype:
        return array
    if source.kind in "iu" and dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        fits = not array.size or (bounds.min <= array.min() and array.max() <= bounds.max)
        return array.astype(dtype) if fits else None
    if source.kind in "SU" and source.kind == dtype.kind:
        cast = array.astype(dtype)
        return cast if (cast == array).all() else None
    if not _number(source) or not _number(dtype) or (source.kind == "c" and dtype.kind != "c"):
        return None
    with np.errstate(all="ignore"):
        try:
            cast = array.astype(dtype)
            same = (cast.astype(source) == array) | ((cast != cast) & (array != array))
        except (TypeError, ValueError):
            return None
        # Floats beyond the integers come back as the largest integer on some machines, which is not what they are.
        if source.kind in "iu" and dtype.kind == "f":
            same &= cast < _beyond(source)
        elif source.kind == "f" and dtype.kind in "iu":
            same &= (array < _beyond(dtype)) & ((array < 0) == (cast < 0))
    return cast if same.all() else None


def _beyond(dtype):
    """The first power of two that a dtype of integers does not hold, as a float."""
    return 2.0 ** (np.iinfo(dtype).bits - (dtype.kind == "i"))
