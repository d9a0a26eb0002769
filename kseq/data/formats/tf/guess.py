"""What the features of messages without a schema are: scalars or sequences, and which is the main sequence.

An Example has its features in any order, and a number is a list of one: only several records together tell.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...errors import SchemaError
from .messages import Malformed

LOOKED_AT = 1000  # records


class Guess:
    """What the first records of a file say; called with a record, it gives the record as a field each.

    A feature of one number in every record, of several, is a scalar. The main sequence, which comes first, is the one
    with the most steps of those whose length varies; other features follow by name.

    Args:
        records: dicts of arrays [T, ...], numbers, bytes, or lists of bytes.
        scalars: whether a feature may be a scalar; else only numbers are.

    Raises:
        SchemaError: two sequences could be the main one.
    """

    def __init__(self, records: Iterable[dict[str, Any]], scalars: bool = True) -> None:
        lengths = {}  # those of numbers, by name
        for record in records:
            for name, value in record.items():
                if isinstance(value, np.ndarray) and value.ndim:
                    lengths.setdefault(name, []).append(len(value))
        self.scalars: set[str] = {
            name for name, found in lengths.items() if scalars and len(found) > 1 and set(found) == {1}
        }
        sequences = {name: found for name, found in lengths.items() if name not in self.scalars}
        varying = {name: found for name, found in sequences.items() if len(set(found)) > 1} or sequences
        most = max(map(sum, varying.values()), default=0)
        longest = sorted(name for name, found in varying.items() if sum(found) == most)
        if any(varying[name] != varying[longest[0]] for name in longest):
            raise SchemaError(f"any of {longest} may be the main sequence: give a schema")
        self.main: str | None = longest[0] if longest else None

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record with its main sequence first, and its scalars as scalars.

        Raises:
            Malformed: several numbers, or none, where one was before.
        """
        found = {}
        for name in sorted(record, key=lambda name: (name != self.main, name)):
            value = record[name]
            if name in self.scalars:
                if len(value) != 1:
                    raise Malformed(
                        f"feature {name!r} has {len(value)} values, but one in each of the first records: give a schema"
                    )
                value = value[0]
            found[name] = value
        return found
