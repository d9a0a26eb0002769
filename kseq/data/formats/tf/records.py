"""Records of `tf.train.Example` and `tf.train.SequenceExample` as they are, where no schema is known."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from .messages import Malformed, joined, parser


def record_decoder(kind: str) -> Callable[[bytes], dict[str, Any]]:
    """The function from the bytes of a message of a kind to its record: every feature under its name, by name.

    In an Example numbers are an array [T] of int64 or float32; one byte string is bytes, none or several are a list of
    them; a feature that holds nothing is None. The context of a SequenceExample is the same, but for one number, which
    is a scalar. A feature list is an array [T] where every step holds one number, else [T, D]; a list of bytes, or of
    lists of them; one without steps, whose kind nobody knows, an empty list.
    """
    parse = parser(kind)

    def decode(data):
        message = parse(data)
        record = {name: _value(feature) for name, feature in message.context.feature.items()}
        if kind == "sequence_example":
            record = {name: value[0] if _one_number(value) else value for name, value in record.items()}
        for name, steps in message.feature_lists.feature_list.items():
            if name in record:
                raise Malformed(f"feature {name!r} is in the context and in the feature lists: give a schema")
            record[name] = within(name, _steps, list(steps.feature))
        return dict(sorted(record.items()))  # a message has no order

    return decode


def _value(feature: Any) -> Any:
    kind, values, _ = joined([feature])
    if kind == "bytes_list":
        return values[0] if len(values) == 1 else values
    return None if kind is None else values


def _one_number(value):
    return hasattr(value, "dtype") and len(value) == 1


def _steps(features):
    _, values, counts = joined(features)
    width = check_steps(counts)
    if width == 1 or not features:
        return values
    if hasattr(values, "dtype"):
        return values.reshape(len(features), width)
    return [values[i * width : (i + 1) * width] for i in range(len(features))]


def check_steps(counts: NDArray[Any]) -> int:
    """How many values each step of a feature list holds.

    Raises:
        Malformed: steps hold different numbers of them.
    """
    if len(counts) and (odd := (counts != counts[0]).nonzero()[0]).size:
        raise Malformed(f"step 0 of a feature list holds {counts[0]} values, and step {odd[0]} holds {counts[odd[0]]}")
    return int(counts[0]) if len(counts) else 0


def within(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the function; errors say which feature they are about."""
    try:
        return function(*arguments)
    except Malformed as error:
        raise Malformed(f"feature {name!r}: {error}") from None
