"""A plan to a Keras model."""

import keras

from ..sequence import Sequence
from . import whole
from .branches import Branches
from .budget import Budget, metrics_among
from .causes import whole_tracebacks
from .errors import Collector
from .making import Maker
from .masking import join, takes_sequences
from .names import Names
from .node import Limits
from .plan import LayerPlan, SpecPlan
from .trial import try_call


def build(plan: SpecPlan, problems: Collector, limits: Limits) -> keras.Model:
    """The model of a plan.

    Raises:
        SpecError: what constructors, `build`, calls and `compile` refuse, each with its place.
    """
    maker = Maker(problems, Names(_explicit_names(plan)))
    with whole_tracebacks():
        return _built(plan, maker, problems, Budget(limits))


def _built(plan, maker, problems, budget):
    layers = [None if call.layer is None else maker.make(call.layer) for call in plan.calls]
    problems.check()  # of everything so far
    for metric in metrics_among(plan.compile):
        with maker.reporting(metric.node, metric.path):
            budget.take_metric(metric)
            continue
        break  # what is too much is said once
    if any(isinstance(layer, whole.kinds()) for layer in layers):
        return _compiled(whole.built(plan, layers, maker, budget), plan, maker)
    inputs, values, branches = {}, {}, Branches(budget)
    for given in plan.inputs:
        inputs |= _inputs(given, maker)
        values[given.id] = _value(given, inputs)
        branches.start(given.id)
    made = {}
    for call, layer in zip(plan.calls, layers, strict=True):
        layer = made[call.id] = made[call.share] if layer is None else layer
        if not all(name in values for name in call.inputs):
            continue  # what is wrong with them is said there
        given = [values[name] for name in call.inputs]
        tensors = [_values(x) for x in given]
        with maker.reporting(call.node, call.path, call.layer, tensors):
            branches.pass_on(call, layer, [_spec(x) for x in given], [x.shape[1] for x in tensors])
            read, mask = _read(layer, given)
            with budget.building(layer):
                y = layer(read)
            values[call.id] = y if mask is None else Sequence(y, mask)
            try_call(layer, read, y, held=budget.take_state(layer, _spec(given[0])))
    problems.check()
    with maker.reporting(plan.node, ""):
        model = keras.Model(_given(plan, list(inputs.values())), _outputs(plan, values), name=plan.name)
    problems.check()
    return _compiled(model, plan, maker)


def _compiled(model, plan, maker):
    """The model, compiled where the plan says how."""
    problems = maker.problems
    if plan.compile is not None:
        with maker.reporting(plan.compile_node, "compile"):
            options = maker.resolve(plan.compile)
            problems.check()
            model.compile(**options)
        problems.check()
    return model


def _explicit_names(plan):
    def of_layer(layer):
        yield layer.arguments.get("name")
        for value in layer.arguments.values():
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, LayerPlan):
                    yield from of_layer(child)

    for given in plan.inputs:
        yield given.name
        yield given.mask_name
    for call in plan.calls:
        if call.layer is not None:
            yield from of_layer(call.layer)


def _inputs(given, maker):
    """Keras's inputs of one input of the spec: its values, and its mask where it has one."""
    name = given.name or maker.names.take("input_layer")
    found = {}
    with maker.reporting(given.node, given.path):
        found[given.id] = keras.Input(given.shape, dtype=given.dtype, name=name)
        if given.mask:
            mask = given.mask if isinstance(given.mask, str) else f"{name}_mask"
            found[given.id, "mask"] = keras.Input(given.shape[:1], dtype="bool", name=mask)
    maker.problems.check()
    return found


def _given(plan, inputs):
    """Keras's inputs in the structure in which the model takes them."""
    if not plan.inputs_by_name:
        return inputs if len(inputs) > 1 else inputs[0]
    return {x.name: x for x in inputs}


def _outputs(plan, values):
    """The model's outputs in the structure in which it gives them."""
    if isinstance(plan.outputs, dict):
        return {name: _values(values[id_]) for name, id_ in plan.outputs.items()}
    outputs = [_values(values[id_]) for id_ in plan.outputs]
    return outputs if len(outputs) > 1 else outputs[0]


def _value(given, inputs):
    mask = inputs.get((given.id, "mask"))
    return inputs[given.id] if mask is None else Sequence(inputs[given.id], mask)


def _read(layer, given):
    """What a layer of one input or several is called with, and the mask that is led around it."""
    if takes_sequences(layer):
        if len(given) > 1:
            raise ValueError(f"{type(layer).__name__} takes one input; received {len(given)}")
        return given[0], None
    values = [_values(x) for x in given]
    return values if len(values) > 1 else values[0], join(x.mask for x in given if isinstance(x, Sequence))


def _spec(x):
    return x.spec if isinstance(x, Sequence) else Sequence(x).spec


def _values(x):
    return x.values if isinstance(x, Sequence) else x
