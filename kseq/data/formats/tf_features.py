"""The features of `tf.train.Example` and `tf.train.SequenceExample`, found in their bytes without protobuf.

A feature is its kind and the spans of the message's bytes that hold its values: the bytes of unpacked numbers are those
of packed ones, so that all numbers of a feature, or of a whole feature list, are decoded at once.
"""

from kseq import _ext
from kseq._ext.reference_varint import FIXED32, SPAN, VARINT
from kseq._ext.reference_varint import Malformed as Malformed

BYTES, FLOAT, INT64 = 1, 2, 3  # numbers of the fields of tf.train.Feature, one of which it holds
KINDS = {None: "values", BYTES: "bytes", FLOAT: "float32 numbers", INT64: "int64 numbers"}
_SPANS = 1 << SPAN
_WIRES = {BYTES: _SPANS, FLOAT: _SPANS | 1 << FIXED32, INT64: _SPANS | 1 << VARINT}


def varint(n):
    """A number from 0 as a varint.

    Example:
        >>> varint(300)
        b'\\xac\\x02'
    """
    if n < 0x80:
        return _BYTE[n]
    digits = bytearray()
    while n >= 0x80:
        digits.append(n & 0x7F | 0x80)
        n >>= 7
    digits.append(n)
    return bytes(digits)


_BYTE = [bytes([n]) for n in range(0x80)]


def parse_example(data):
    """The features of a serialized `tf.train.Example`: a dict of (kind, spans).

    Raises:
        Malformed: bytes that are no such message, or are a SequenceExample with feature lists.
    """
    features = {}
    for number, _, at, stop in _ext.message_fields(data, 0, len(data), 2, _SPANS):
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
    for number, _, at, stop in _ext.message_fields(data, 0, len(data), 2, _SPANS):
        for name, parts in _entries(data, at, stop):
            if number == 1:
                context[name] = _feature(data, parts)
            else:
                lists[name] = [step for part in parts for step in _feature_list(data, *part)]
    return context, lists


def _entries(data, at, stop):
    """Yield the name and the spans of the value of every entry of a map; parts of one message merge, entries do not."""
    for _, _, start, end in _ext.message_fields(data, at, stop, 1, _SPANS):
        name, parts = b"", []
        for number, _, first, last in _ext.message_fields(data, start, end, 2, _SPANS):
            if number == 1:
                name = data[first:last]
            else:
                parts.append((first, last))
        try:
            yield name.decode(), parts
        except UnicodeDecodeError:
            raise Malformed("the name of a feature is not UTF-8", start) from None


def _feature(data, parts):
    kind, spans = None, []
    for at, stop in parts:
        for number, _, start, end in _ext.message_fields(data, at, stop, 3, _SPANS):
            if number != kind:  # one of a kind: the last that is set is what the feature holds
                kind, spans = number, []
            for _, wire, first, last in _ext.message_fields(data, start, end, 1, _WIRES[kind]):
                if wire == SPAN and kind == FLOAT and (last - first) % 4:
                    raise Malformed(f"floats must fill a multiple of 4 bytes; received {last - first} bytes", first)
                if wire == SPAN and kind == INT64 and last > first and data[last - 1] >= 0x80:
                    raise Malformed("the last varint of a list is cut off", last - 1)
                spans.append((first, last))
    return kind, spans


def _feature_list(data, at, stop):
    steps, heads = [], {}
    for _, _, start, end in _ext.message_fields(data, at, stop, 1, _SPANS):
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
            listed = b"\x0a" + varint(last - first)
            head = bytes([kind << 3 | SPAN]) + varint(len(listed) + last - first) + listed
            if last == end and data[start:first] == head:
                heads[end - start] = kind, head
    return steps
