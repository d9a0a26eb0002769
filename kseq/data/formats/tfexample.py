"""`tf.train.Example` and `tf.train.SequenceExample` to and from records, without TensorFlow or protobuf.

A feature is read as its kind and the spans of the message's bytes that hold its values: the bytes of unpacked numbers
are those of packed ones, so that all numbers of a feature, or of a whole feature list, are decoded at once.
"""

import functools
import itertools
import math

import numpy as np

from ..errors import RecordError

BYTES, FLOAT, INT64 = 1, 2, 3  # numbers of the fields of tf.train.Feature, one of which it holds
_KINDS = {None: "values", BYTES: "bytes", FLOAT: "float32 numbers", INT64: "int64 numbers"}
_VARINT, _FIXED64, _SPAN, _GROUP, _END_GROUP, _FIXED32 = range(6)  # protobuf's wire types
_WIRES = {BYTES: (_SPAN,), FLOAT: (_SPAN, _FIXED32), INT64: (_SPAN, _VARINT)}
_MOST_BYTES = 2**31 - 1  # of one message, by the rules of protobuf
_CHUNK = 1 << 16


class Malformed(ValueError):
    """A message that is not what it should be; `at` is the byte of it where that shows, or None."""

    def __init__(self, message, at=None):
        super().__init__(message if at is None else f"{message} (byte {at} of the record)")
        self.at = at


# ---- the wire format


def _varint(data, at, stop):
    """The varint at `at`, and where it ends."""
    value = 0
    for i in range(at, min(stop, at + 10)):
        byte = data[i]
        value |= (byte & 0x7F) << 7 * (i - at)
        if byte < 0x80:
            if value >> 64:
                raise Malformed("a varint holds more than 64 bits", at)
            return value, i + 1
    raise Malformed("a varint is longer than 10 bytes" if stop - at >= 10 else "a varint is cut off", at)


def _fields(data, at, stop, known, wires=(_SPAN,)):
    """Yield (number, wire type, start, end) of the fields from 1 to `known` of a message; others are skipped.

    Raises:
        Malformed: what is no message, or a known field of a wire type that is not in `wires`.
    """
    groups = []
    while at < stop:
        begin, tag = at, data[at]
        at += 1
        if tag >= 0x80:
            tag, at = _varint(data, begin, stop)
        number, wire = tag >> 3, tag & 7
        if wire == _SPAN:
            if at < stop and data[at] < 0x80:
                size, at = data[at], at + 1
            else:
                size, at = _varint(data, at, stop)
            end = at + size
        elif wire == _VARINT:
            _, end = _varint(data, at, stop)
        elif wire == _FIXED32:
            end = at + 4
        elif wire == _FIXED64:
            end = at + 8
        elif wire in (_GROUP, _END_GROUP):
            end = at
        else:
            raise Malformed(f"wire type {wire} does not exist", begin)
        if not 0 < number < 1 << 29:
            raise Malformed(f"field numbers are 1 to {(1 << 29) - 1}; received {number}", begin)
        if end > stop:
            raise Malformed(f"field {number} needs {end - at} bytes, but its message has {stop - at} left", begin)
        if number <= known and not groups:
            if wire not in wires:
                wanted = " or ".join(map(str, wires))
                raise Malformed(f"field {number} must be of wire type {wanted}; received wire type {wire}", begin)
            yield number, wire, at, end
        elif wire == _GROUP:
            groups.append(number)
        elif wire == _END_GROUP and (not groups or groups.pop() != number):
            raise Malformed(f"the group {number} ends, but did not begin", begin)
        at = end
    if groups:
        raise Malformed(f"the group {groups[-1]} does not end", stop)


def unpack_varints(packed):
    """The int64 numbers [T] of whole varints, which lie one after the other in an array of uint8.

    Raises:
        Malformed: a varint of more than 64 bits.
    """
    ends = (packed < 0x80).nonzero()[0]
    if len(ends) == len(packed):
        return packed.astype(np.int64)
    sizes = ends.copy()
    sizes[0] += 1
    sizes[1:] -= ends[:-1]
    longest = int(sizes.max())
    if longest > 10 or (longest == 10 and packed[ends[sizes == 10]].max() > 1):
        raise Malformed("a varint holds more than 64 bits")
    values = packed.take(ends).astype(np.uint64)
    digits = packed & 0x7F
    for before in range(1, longest):  # from the last byte of every varint, which is its highest, to the first
        more = values << 7 | digits.take(ends - before, mode="wrap")
        values = np.where(sizes > before, more, values)
    return values.view(np.int64)


def pack_varints(values):
    """The varints of int64 numbers [T], as bytes, and how many bytes each has."""
    values = np.ascontiguousarray(values).view(np.uint64)
    longest = -(-int(values.max(initial=0)).bit_length() // 7)
    if longest <= 1:
        return values.astype(np.uint8).tobytes(), np.ones(len(values), np.int64)
    packed, sizes = [], []
    for i in range(0, len(values), _CHUNK):  # the scratch arrays stay small, however long the feature
        rest = values[i : i + _CHUNK, None] >> _SHIFTS[:longest]  # what is left after each byte
        used = rest != 0
        used[:, 0] = True
        digits = rest.astype(np.uint8) | 0x80
        digits[:, :-1][~used[:, 1:]] &= 0x7F
        digits[:, -1] &= 0x7F
        packed.append(digits[used].tobytes())
        sizes.append(np.count_nonzero(used, axis=1))
    return b"".join(packed), np.concatenate(sizes)


_SHIFTS = np.arange(0, 70, 7, dtype=np.uint64)


def _size(n):
    """A number from 0 as a varint."""
    if n < 0x80:
        return _BYTE[n]
    digits = bytearray()
    while n >= 0x80:
        digits.append(n & 0x7F | 0x80)
        n >>= 7
    digits.append(n)
    return bytes(digits)


_BYTE = [bytes([n]) for n in range(0x80)]


# ---- messages to features


def parse_example(data):
    """The features of a serialized `tf.train.Example`: a dict of (kind, spans).

    Raises:
        Malformed: bytes that are no such message, or are a SequenceExample with feature lists.
    """
    features = {}
    for number, _, at, stop in _fields(data, 0, len(data), 2):
        if number == 2:
            raise Malformed("it has feature lists: read it with kind='sequence_example'", at)
        for name, parts in _entries(data, at, stop):
            features[name] = _feature(data, parts)
    return features


def parse_sequence_example(data):
    """The context, a dict of (kind, spans), and feature lists, a dict of lists of them, of a `SequenceExample`.

    Raises:
        Malformed: bytes that are no such message.
    """
    context, lists = {}, {}
    for number, _, at, stop in _fields(data, 0, len(data), 2):
        for name, parts in _entries(data, at, stop):
            if number == 1:
                context[name] = _feature(data, parts)
            else:
                lists[name] = [step for part in parts for step in _feature_list(data, *part)]
    return context, lists


def _entries(data, at, stop):
    """Yield the name and the spans of the value of every entry of a map; parts of one message merge, entries do not."""
    for _, _, start, end in _fields(data, at, stop, 1):
        name, parts = b"", []
        for number, _, *span in _fields(data, start, end, 2):
            if number == 1:
                name = data[slice(*span)]
            else:
                parts.append(span)
        try:
            yield name.decode(), parts
        except UnicodeDecodeError:
            raise Malformed("the name of a feature is not UTF-8", start) from None


def _feature(data, parts):
    kind, spans = None, []
    for at, stop in parts:
        for number, _, start, end in _fields(data, at, stop, 3):
            if number != kind:  # one of a kind: the last that is set is what the feature holds
                kind, spans = number, []
            for _, wire, first, last in _fields(data, start, end, 1, _WIRES[kind]):
                if wire == _SPAN and kind == FLOAT and (last - first) % 4:
                    raise Malformed(f"floats must fill a multiple of 4 bytes; received {last - first} bytes", first)
                if wire == _SPAN and kind == INT64 and last > first and data[last - 1] >= 0x80:
                    raise Malformed("the last varint of a list is cut off", last - 1)
                spans.append((first, last))
    return kind, spans


def _feature_list(data, at, stop):
    steps, heads = [], {}
    for _, _, start, end in _fields(data, at, stop, 1):
        # Where a step of packed values had the same size, this one mostly begins with the same tags and sizes: then the
        # rest is its values, and nothing needs to be parsed (but the last varint must end).
        kind, head = heads.get(end - start, (None, None))
        if head and data.startswith(head, start) and (kind != INT64 or data[end - 1] < 0x80):
            steps.append((kind, [(start + len(head), end)]))
            continue
        kind, spans = _feature(data, [(start, end)])
        steps.append((kind, spans))
        if len(spans) == 1:
            first, last = spans[0]
            listed = b"\x0a" + _size(last - first)
            head = bytes([kind << 3 | _SPAN]) + _size(len(listed) + last - first) + listed
            if last == end and data[start:first] == head:
                heads[end - start] = kind, head
    return steps


# ---- features to values


def _packed(data, spans):
    if len(spans) == 1:
        at, stop = spans[0]
        return np.frombuffer(data, np.uint8, stop - at, at)
    return np.frombuffer(b"".join([data[at:stop] for at, stop in spans]), np.uint8)


def _numbers(kind, packed):
    return unpack_varints(packed) if kind == INT64 else packed.view("<f4").astype(np.float32)


def _values(data, feature):
    """What a feature holds: an array [T] of numbers, a list of bytes."""
    kind, spans = feature
    return [data[at:stop] for at, stop in spans] if kind in (BYTES, None) else _numbers(kind, _packed(data, spans))


def _stack(data, steps):
    """The kind of all steps of a feature list, their values one after the other, and how many each step has."""
    kinds = {kind for kind, _ in steps}
    if len(kinds) > 1:
        raise Malformed("the steps of a feature list hold " + " and ".join(sorted(_KINDS[kind] for kind in kinds)))
    kind = kinds.pop() if kinds else None
    spans = [span for _, spans in steps for span in spans]
    counts = np.fromiter((len(spans) for _, spans in steps), np.int64, len(steps))
    if kind in (BYTES, None):
        values = [data[at:stop] for at, stop in spans]
    else:
        packed = _packed(data, spans)
        values = _numbers(kind, packed)
        # Where each span ends, in bytes; then where each step ends, in values.
        ends = np.cumsum([0, *[stop - at for at, stop in spans]])
        ends = ends // 4 if kind == FLOAT else np.concatenate([[0], np.cumsum(packed < 0x80)])[ends]
        counts = np.diff(ends[np.concatenate([[0], np.cumsum(counts)])])
    if len(counts) and (odd := np.flatnonzero(counts != counts[0])).size:
        raise Malformed(f"step 0 of a feature list holds {counts[0]} values, and step {odd[0]} holds {counts[odd[0]]}")
    return kind, values, int(counts[0]) if len(counts) else 0


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


# ---- features to the fields of a schema


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
    return f"{len(values)} byte strings" if kind == BYTES else f"{len(values)} {_KINDS[kind]}"


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


# ---- records to messages


def encoder(schema, kind):
    """The function from a record that fits the schema to the bytes of a message of a kind."""
    keys = {name: b"\x0a" + _size(len(name.encode())) + name.encode() + b"\x12" for name in schema}

    def encode(record):
        if not isinstance(record, dict):
            raise RecordError(f"a record must be a dict of fields; received {type(record).__name__}")
        if unknown := set(record) - set(schema):
            raise RecordError(f"it must have the fields {list(schema)}; received {sorted(map(str, unknown))} too")
        parts = [], []
        for name, field in schema.items():
            value = record.get(name)
            if value is None:
                if not field.optional:
                    raise RecordError("it is missing, and the schema does not say that it is optional", field=name)
                continue
            in_list = kind == "sequence_example" and field.ragged
            try:
                array = _as_field(field, value)
                feature = _encode_steps(field, array) if in_list else _encode(field, array)
            except (ValueError, TypeError, OverflowError) as error:
                raise RecordError(str(error), field=name) from None
            parts[in_list].append(_span(keys[name] + _size(len(feature)) + feature))
        message = _span(b"".join(parts[0]))
        if parts[1]:
            message += _span(b"".join(parts[1]), b"\x12")
        if len(message) > _MOST_BYTES:
            raise RecordError(f"a message has at most {_MOST_BYTES} bytes; this record needs {len(message)}")
        return message

    return encode


def _span(data, tag=b"\x0a"):
    return tag + _size(len(data)) + data


def _native(dtype):
    """The kind of feature whose numbers hold the dtype's without loss; BYTES where raw bytes must."""
    if dtype.kind in "bi" or (dtype.kind == "u" and dtype.itemsize < 8):
        return INT64
    return FLOAT if dtype.kind == "f" and dtype.itemsize <= 4 else BYTES


def _as_field(field, value):
    """The value as the field says it, in the dtype that it is stored in."""
    if field.dtype == "string":
        if not isinstance(value, str):
            raise ValueError(f"it must be a string; received {type(value).__name__}")
        return value.encode()
    if field.dtype == "bytes":
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise ValueError(f"it must be bytes; received {type(value).__name__}")
        return bytes(value)
    array = _as_array(field, value)
    wanted = field.shape
    if array.ndim != len(wanted) or any(n not in (None, m) for n, m in zip(wanted, array.shape, strict=True)):
        raise ValueError(f"it must be of shape {wanted}; received shape {array.shape}")
    stored = exact(array, field.store)
    if stored is None:
        raise ValueError(f"its values must be exact in the dtype {field.store}; received {_some(array)}")
    return stored


def _as_array(field, value):
    if hasattr(value, "dtype"):  # an array of numbers that somebody chose a dtype for must keep them
        array = np.asarray(value)
    elif _number(field.dtype) or field.dtype.kind in "SU":
        array = np.asarray(value)
        if not array.size and array.ndim == 1 and field.ragged:
            return np.empty((0, *field.inner_shape), field.dtype)
        if array.dtype.kind in "fc" and field.dtype.kind in "fcV":  # numbers of Python round to the field's
            with np.errstate(all="ignore"):
                rounded = array.astype(field.dtype)
                if (np.isfinite(rounded.astype(array.dtype)) == np.isfinite(array)).all():
                    array = rounded
    else:
        array = np.asarray(value, field.dtype)
    array_in_dtype = exact(array, field.dtype)
    if array_in_dtype is None:
        raise ValueError(f"its values must be exact in the dtype {field.dtype}; received {array.dtype} {_some(array)}")
    return array_in_dtype


def _encode(field, array):
    if field.text:
        return _span(_span(array))
    kind = _native(field.store)
    if kind == INT64:
        return _numeric(pack_varints(array.ravel().astype(np.int64))[0], b"\x1a")
    if kind == FLOAT:
        return _numeric(array.astype("<f4").tobytes(), b"\x12")
    return _span(b"".join(map(_span, _raw(array, array.size if field.store.kind == "S" else 1))))


def _numeric(packed, tag):
    return _span(_span(packed) if packed else b"", tag)


def _raw(array, parts):
    """The raw bytes of an array, little end first, in so many parts of one size."""
    raw = array.astype(array.dtype.newbyteorder("<")).tobytes()
    size = len(raw) // parts if parts else 0
    return [raw[i * size : (i + 1) * size] for i in range(parts)]


@functools.lru_cache(4096)
def _head(size, tag):
    """What comes before the packed numbers of a step of so many bytes."""
    return _span(_numeric(bytes(size), tag))[: -size or None]


def _encode_steps(field, array):
    kind, inner = _native(field.store), math.prod(field.inner_shape)
    if kind == INT64:
        packed, sizes = pack_varints(array.ravel().astype(np.int64))
        ends = np.concatenate([[0], np.cumsum(sizes)])[np.arange(len(array) + 1) * inner].tolist()
        return b"".join([_head(stop - at, b"\x1a") + packed[at:stop] for at, stop in itertools.pairwise(ends)])
    if kind == FLOAT:
        steps = _raw(array.astype(np.float32), len(array))
        return b"".join([_head(len(step), b"\x12") + step for step in steps])
    each = inner if field.store.kind == "S" else 1
    values = [_span(value) for value in _raw(array, each * len(array))]
    features = [_span(b"".join(values[i * each : (i + 1) * each])) for i in range(len(array))]
    return b"".join(map(_span, features))
