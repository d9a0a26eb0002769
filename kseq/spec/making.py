"""Plans to objects, and what they raise to problems at their places."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import keras

from ..registry import planned
from .causes import frames_of, said
from .errors import SpecError, shorten
from .names import Names
from .plan import LayerPlan, Plan

if TYPE_CHECKING:
    from .errors import Collector
    from .node import Node

# Stands for what could not be made: the problem is noted, and others are looked for before all are raised.
FAILED = object()
_LONGEST = 500


class Maker:
    """Makes the objects of plans.

    Args:
        problems: what is wrong is added here.
        names: gives names to what has none.
    """

    problems: Collector
    names: Names

    def __init__(self, problems: Collector, names: Names) -> None:
        self.problems, self.names = problems, names
        self._plans: dict[int, tuple] = {}  # by the identity of a layer that was made: itself, and its plan

    def make(self, plan: Plan) -> Any:
        """The object of a plan, and of the plans among its arguments first; or `FAILED`."""
        arguments = {key: self.resolve(value) for key, value in plan.arguments.items()}
        if any(part is FAILED for v in arguments.values() for part in (v if isinstance(v, list) else [v])):
            return FAILED
        if plan.label and arguments.get("name") is None:
            arguments["name"] = self.names.take(plan.label)
        with self.reporting(plan.node, plan.path, plan), planned():  # whole models are built when they are counted
            made = plan.make(**arguments)
            if isinstance(plan, LayerPlan):
                if not isinstance(made, keras.layers.Layer):
                    raise TypeError(f"must give a Keras layer; received {made!r}")
                self._plans[id(made)] = made, plan
            return made
        return FAILED

    def resolve(self, value: Any) -> Any:
        """A value with what its plans make in their place."""
        if isinstance(value, dict):
            return {key: self.resolve(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        return self.make(value) if isinstance(value, Plan) else value

    @contextlib.contextmanager
    def reporting(
        self, node: Node | None, path: str, plan: Plan | None = None, given: Iterable[Any] = ()
    ) -> Iterator[None]:
        """Turns what is raised into a problem: of the innermost layer at work, at the argument that the message names.

        Args:
            node: the place.
            path: the place in words.
            plan: what is made or called there, or `None`.
            given: the symbolic tensors that it is called with.
        """
        try:
            yield
        except SpecError:
            raise
        except RecursionError:
            message = "more layers in a row, or in one another, than Python can follow; put them into kseq.Serial"
            self.problems.add(message, node, path)
        except Exception as error:  # layers of third parties may raise anything
            inner = self._innermost(error)
            if inner is not None:
                node, path, plan = inner.node, inner.path, inner
            message, argument = said(error, plan, given)
            if plan is not None and argument is not None:
                node, path = plan.places[argument], f"{path}.{argument}"
            self.problems.add(shorten(message, _LONGEST), node, path)

    def _innermost(self, error: Exception) -> Plan | None:
        """The plan of the innermost layer in whose methods an error was raised, or `None`."""
        owners = [self._plans.get(id(frame.f_locals.get("self"))) for frame in frames_of(error)]
        return next((owner[1] for owner in reversed(owners) if owner is not None), None)
