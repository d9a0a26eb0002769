"""What a model allocates, counted before it is: weights, the state of a stream, and that of metrics."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import keras

from .masking import takes_sequences
from .node import raised
from .plan import Plan

if TYPE_CHECKING:
    from ..sequence import SequenceSpec
    from .node import Limits


class Budget:
    """Counts numbers down from the limits.

    Args:
        limits: a `Limits`.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits: Limits = limits
        self.left: dict[str, int] = {"parameters": limits.parameters, "state": limits.state}

    @contextlib.contextmanager
    def building(self, layer: Any) -> Iterator[None]:
        """Within it the layer may be built, if its weights fit."""
        layers = list(_with_sublayers(layer))
        for part in layers:
            part.add_weight = self._counted(part.add_weight)
        try:
            yield
        finally:
            for part in layers:
                del part.add_weight

    def take_state(self, layer: Any, spec: SequenceSpec) -> int:
        """Count the state that each stream of a layer has; how many numbers it is."""
        before = self.left["state"]
        if takes_sequences(layer) and layer.supports_step:
            for leaf in layer.state_specs(spec):
                self.take("state", leaf.shape)
        return before - self.left["state"]

    def take_metric(self, plan: Plan) -> None:
        """Count the state of a metric."""
        for shape in _state_shapes(plan):
            self.take("state", shape)

    def take(self, what: str, shape: Iterable[int]) -> None:
        """Count an array of a limit's.

        Raises:
            ValueError: it does not fit.
        """
        size = math.prod(shape)
        if size > self.left[what]:
            limit, of = getattr(self.limits, what), {"parameters": "parameters", "state": "numbers of state"}[what]
            raise ValueError(f"more than {limit} {of}; {raised(what)}")
        self.left[what] -= size

    def _counted(self, add_weight):
        def counted(shape=None, *args, **kwargs):
            if all(isinstance(size, int) for size in shape or ()):  # Keras refuses others
                self.take("parameters", shape or ())
            return add_weight(shape, *args, **kwargs)

        return counted


def _with_sublayers(layer):
    yield layer
    for child in getattr(layer, "sublayers", ()):
        yield from _with_sublayers(child)


def metrics_among(options: Any) -> Iterator[Plan]:
    """The plans of metrics among the options of `compile`."""
    if isinstance(options, (dict, list)):
        for item in options.values() if isinstance(options, dict) else options:
            yield from metrics_among(item)
    elif isinstance(options, Plan) and issubclass(options.make, keras.metrics.Metric):
        yield options


def _state_shapes(plan: Plan) -> list[tuple[int, ...]]:
    """Shapes of the variables that a metric has: those that one asks for whose variables are never made."""
    found = []

    def add_variable(self, shape=(), initializer=None, dtype=None, **kwargs):
        found.append(shape)
        return keras.KerasTensor(shape, dtype or "float32")

    with contextlib.suppress(Exception):  # what the metric refuses is said where it is made
        type("Asked", (plan.make,), {"add_variable": add_variable, "add_weight": add_variable})(**plan.arguments)
    return found
