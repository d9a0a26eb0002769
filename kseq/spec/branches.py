"""Branches of a model's graph that meet: their ratios, lengths, ranks and channels must fit, whatever Keras says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import timing as algebra
from ..registry import stock_layers
from ..timing import Timing
from .masking import takes_sequences

if TYPE_CHECKING:
    from ..sequence import SequenceSpec
    from .budget import Budget
    from .plan import CallPlan

# Of steps of an input, so many that no layer makes none of them, and every ratio of small numbers whole ones.
_STEPS = 2**60 * 3**10 * 5**5 * 7**3
_MANY = 10**9
_ELEMENTWISE = ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract")


class Branches:
    """Follows the timing of every value of a graph.

    Args:
        budget: what branches hold that wait for slower ones is counted there.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget: Budget = budget
        # By id: the input that a value is made of, and its timing; none where that is not known.
        self._known: dict[str, tuple[str, Timing] | None] = {}
        self._names: dict[str, str] = {}

    def start(self, id_: str) -> None:
        """An input of the model."""
        self._known[id_], self._names[id_] = (id_, Timing()), id_

    def pass_on(self, call: CallPlan, layer: Any, given: Sequence[SequenceSpec], times: Sequence[int | None]) -> None:
        """A layer that reads values of these shapes.

        Args:
            call: its plan.
            layer: the layer.
            given: a `SequenceSpec` of each value.
            times: the number of steps of each, `None` where any number will do.

        Raises:
            ValueError: branches that do not fit, by their names.
        """
        self._names[call.id] = call.path if call.id.startswith("#") else call.id
        names, known = [self._names[id_] for id_ in call.inputs], [self._known[id_] for id_ in call.inputs]
        if len(given) > 1:
            # What other layers make of several values is theirs.
            merges = type(layer) in stock_layers().values()
            self._known[call.id] = self._joined(layer, names, known, given, times) if merges else None
        else:
            timing = getattr(layer, "timing", Timing())
            if takes_sequences(layer):
                layer.output_length(_MANY)  # a network refuses branches within it that are not equally long
            self._known[call.id] = known[0] and (known[0][0], algebra.serial([known[0][1], timing]))

    def _joined(self, layer, names, known, given, times):
        if type(layer).__name__ == "Concatenate" and layer.axis in (1, -1 - len(given[0].shape)):
            return None  # one after the other in time
        _check_equal("values of equal rank", [2 + len(spec.shape) for spec in given], names)
        _check_channels(layer, names, [tuple(spec.shape) for spec in given])
        if None not in times:
            _check_equal("equally many steps", times, names)
        if None in known or len({source for source, _ in known}) > 1:
            return None  # inputs may have rates of their own
        timings = [timing for _, timing in known]
        joined = algebra.parallel(timings, names)
        lengths = [timing.output_length(_STEPS) for timing in timings]
        for more, name in zip((n - lengths[0] for n in lengths), names, strict=True):
            if more:
                than = f"{abs(more)} {'more' if more > 0 else 'less'} than branch {names[0]!r}"
                raise ValueError(f"branches must give equally many steps; branch {name!r} gives {than}")
        for wait, spec in zip(algebra.parallel_delays(timings), given, strict=True):
            self.budget.take("state", (wait, math.prod(spec.shape) + 1))  # values, and which of them are valid
        return known[0][0], joined


def _check_equal(what, found, names):
    for value, name in zip(found, names, strict=True):
        if value != found[0]:
            raise _unequal(what, (found[0], names[0]), (value, name))


def _unequal(what, one, other):
    return ValueError(
        f"branches must have {what}; received {one[0]} for branch {one[1]!r} and {other[0]} for branch {other[1]!r}"
    )


def _check_channels(layer, names, shapes):
    name, axis = type(layer).__name__, getattr(layer, "axis", None)
    for (one, branch), (shape, other) in itertools.combinations(zip(shapes, names, strict=True), 2):
        if name in _ELEMENTWISE:
            fits = all(1 in pair or pair[0] == pair[1] for pair in zip(one, shape, strict=True))
        else:
            fits = name != "Concatenate" or axis not in (-1, len(shape) + 1) or one[:-1] == shape[:-1]
        if not fits:
            raise _unequal(f"channel shapes that {name} takes together", (one, branch), (shape, other))
