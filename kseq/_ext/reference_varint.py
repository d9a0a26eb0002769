"""What the kernels of protobuf's wire format do, in NumPy and Python; the compiled ones ask here what is malformed."""

import numpy as np

VARINT, FIXED64, SPAN, GROUP, END_GROUP, FIXED32 = range(6)  # the wire types
_CHUNK = 1 << 16
_SHIFTS = np.arange(0, 70, 7, dtype=np.uint64)


class Malformed(ValueError):
    """Bytes that are not what they should be; `at` is the one where that shows, or None."""

    def __init__(self, message, at=None):
        super().__init__(message if at is None else f"{message} (byte {at} of the record)")
        self.at = at


def varint(data, at, stop):
    """The varint at `at` as a number from 0, and where it ends.

    Raises:
        Malformed: it does not end, or has more than 64 bits.
    """
    value = 0
    for i in range(at, min(stop, at + 10)):
        byte = data[i]
        value |= (byte & 0x7F) << 7 * (i - at)
        if byte < 0x80:
            if value >> 64:
                raise Malformed("a varint holds more than 64 bits", at)
            return value, i + 1
    raise Malformed("a varint is longer than 10 bytes" if stop - at >= 10 else "a varint is cut off", at)


def unpack_varints(data, at, stop):
    """The int64 numbers [T] of the varints that fill the bytes from `at` to `stop`.

    Raises:
        Malformed: a varint that does not end there, or has more than 64 bits.
    """
    _check(data, at, stop)
    packed = np.frombuffer(data[at:stop] or b"\0", np.uint8)[: stop - at]
    ends = (packed < 0x80).nonzero()[0]
    if len(ends) == len(packed):
        return packed.astype(np.int64)
    sizes = np.diff(ends, prepend=-1)
    longest = int(sizes.max(initial=0))
    cut = not len(ends) or ends[-1] + 1 < len(packed)
    if cut or longest > 10 or (longest == 10 and packed[ends[sizes == 10]].max() > 1):
        while True:  # one of them raises
            _, at = varint(data, at, stop)
    values = packed.take(ends).astype(np.uint64)
    digits = packed & 0x7F
    for before in range(1, longest):  # from the last byte of every varint, which is its highest, to the first
        more = values << np.uint64(7) | digits.take(ends - before, mode="wrap")
        values = np.where(sizes > before, more, values)
    return values.view(np.int64)


def pack_varints(values, ends=None):
    """The varints of int64 numbers [T] as bytes; where each ends goes to `ends` [T]."""
    if ends is not None and len(ends) != len(values):
        raise ValueError(f"ends must have {len(values)} elements; received {len(ends)}")
    values = np.ascontiguousarray(values).view(np.uint64)
    longest = max(-(-int(values.max(initial=0)).bit_length() // 7), 1)
    packed, at = [], 0
    for i in range(0, len(values), _CHUNK):  # the scratch arrays stay small, however long the feature
        rest = values[i : i + _CHUNK, None] >> _SHIFTS[:longest]  # what is left after each byte
        used = rest != 0
        used[:, 0] = True
        digits = rest.astype(np.uint8) | 0x80
        digits[:, :-1][~used[:, 1:]] &= 0x7F
        digits[:, -1] &= 0x7F
        packed.append(digits[used].tobytes())
        if ends is not None:
            ends[i : i + _CHUNK] = at + np.cumsum(np.count_nonzero(used, axis=1))
            at += len(packed[-1])
    return b"".join(packed)


def message_fields(data, at, stop, known, wires):
    """The fields from 1 to `known` of the message from `at` to `stop`, as (number, wire type, start, end).

    Others are skipped, as are groups and what is in them.

    Args:
        data: bytes.
        at: where the message begins.
        stop: where it ends.
        known: the highest number of interest.
        wires: the wire types that these may have: the sum of `1 << wire type`.

    Raises:
        Malformed: what is no message, or a known field of another wire type.
    """
    _check(data, at, stop)
    found, groups = [], []
    while at < stop:
        begin = at
        tag, at = varint(data, begin, stop)
        number, wire = tag >> 3, tag & 7
        if wire == SPAN:
            size, at = varint(data, at, stop)
            end = at + size
        elif wire == VARINT:
            _, end = varint(data, at, stop)
        elif wire == FIXED32:
            end = at + 4
        elif wire == FIXED64:
            end = at + 8
        elif wire in (GROUP, END_GROUP):
            end = at
        else:
            raise Malformed(f"wire type {wire} does not exist", begin)
        if not 0 < number < 1 << 29:
            raise Malformed(f"field numbers are 1 to {(1 << 29) - 1}; received {number}", begin)
        if end > stop:
            raise Malformed(f"field {number} needs {end - at} bytes, but its message has {stop - at} left", begin)
        if number <= known and not groups:
            if not wires >> wire & 1:
                wanted = " or ".join(str(one) for one in range(6) if wires >> one & 1)
                raise Malformed(f"field {number} must be of wire type {wanted}; received wire type {wire}", begin)
            found.append((number, wire, at, end))
        elif wire == GROUP:
            groups.append(number)
        elif wire == END_GROUP and (not groups or groups.pop() != number):
            raise Malformed(f"the group {number} ends, but did not begin", begin)
        at = end
    if groups:
        raise Malformed(f"the group {groups[-1]} does not end", stop)
    return found


def _check(data, at, stop):
    if not 0 <= at <= stop <= len(data):
        raise ValueError(f"bytes {at} to {stop} must lie in {len(data)} bytes")
