"""A spec whose only layer is a whole model, which is then what the spec gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from ..registry import registered_models

if TYPE_CHECKING:
    from .budget import Budget
    from .making import Maker
    from .plan import SpecPlan


def kinds() -> tuple[type, ...]:
    """The classes of whole models."""
    return tuple(registered_models().values())


def built(plan: SpecPlan, layers: list[Any], maker: Maker, budget: Budget) -> keras.Model:
    """The whole model of a plan, built, if its weights fit.

    Raises:
        SpecError: other layers or inputs beside it, an input that it does not take, or too many weights.
    """
    problems = maker.problems
    call = next(call for call in plan.calls if call.layer is not None and call.layer.make in kinds())
    if len(plan.calls) > 1:
        problems.add("a whole model is the only layer of its spec", call.node, call.path)
    elif len(plan.inputs) > 1 or isinstance(plan.outputs, dict):
        problems.add("a whole model has one input, and no outputs by name", call.node, call.path)
    problems.check()
    (given,), (model,) = plan.inputs, layers
    if len(given.shape) != 2 or given.shape[1] != model.input_dim:
        message = f"the model takes sequences [T, {model.input_dim}]; received the shape {list(given.shape)}"
        problems.add(message, given.node, f"{given.path}.shape")
    problems.check()
    with maker.reporting(call.node, call.path, call.layer), budget.building(model):
        model.build()
    problems.check()
    return model
