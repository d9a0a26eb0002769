"""A plan to a Keras model."""

import contextlib
import re

import keras

from ..keras_errors import unframed
from ..sequence import Sequence
from .branches import Branches
from .budget import Budget, metrics_among
from .errors import Collector, SpecError, shorten
from .masking import join, takes_sequences
from .names import Names
from .node import Limits
from .plan import LayerPlan, Plan, SpecPlan

# Stands for what could not be made: the problem is noted, and others are looked for before all are raised.
_FAILED = object()


def build(plan: SpecPlan, problems: Collector, limits: Limits) -> keras.Model:
    """The model of a plan.

    Raises:
        SpecError: what constructors, `build` and `compile` refuse, each with its place.
    """
    names, budget = Names(_explicit_names(plan)), Budget(limits)
    layers = [None if call.layer is None else _make(call.layer, names, problems) for call in plan.calls]
    problems.check()  # of everything so far
    for metric in metrics_among(plan.compile):
        with _reporting(problems, metric.node, metric.path):
            budget.take_metric(metric)
            continue
        break  # what is too much is said once
    inputs, values, branches = {}, {}, Branches(budget)
    for given in plan.inputs:
        inputs |= _inputs(given, names, problems)
        values[given.id] = _value(given, inputs)
        branches.start(given.id)
    made = {}
    for call, layer in zip(plan.calls, layers, strict=True):
        layer = made[call.id] = made[call.share] if layer is None else layer
        if not all(name in values for name in call.inputs):
            continue  # what is wrong with them is said there
        with _reporting(problems, call.node, call.path):
            given = [values[name] for name in call.inputs]
            specs = [_spec(x) for x in given]
            branches.pass_on(call, layer, specs, [_values(x).shape[1] for x in given])
            with budget.building(layer):
                values[call.id] = _call(layer, given)
            budget.take_state(layer, specs[0])
    problems.check()
    with _reporting(problems, plan.node, ""):
        model = keras.Model(_given(plan, list(inputs.values())), _outputs(plan, values), name=plan.name)
    problems.check()
    if plan.compile is not None:
        with _reporting(problems, plan.node, "compile"):
            options = {k: _resolve(v, names, problems) for k, v in plan.compile.items()}
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


def _inputs(given, names, problems):
    """Keras's inputs of one input of the spec: its values, and its mask where it has one."""
    name = given.name or names.take("input_layer")
    found = {}
    with _reporting(problems, None, given.id):
        found[given.id] = keras.Input(given.shape, dtype=given.dtype, name=name)
        if given.mask:
            mask = given.mask if isinstance(given.mask, str) else f"{name}_mask"
            found[given.id, "mask"] = keras.Input(given.shape[:1], dtype="bool", name=mask)
    problems.check()
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


def _make(plan, names, problems):
    """The object of a plan, and of the plans among its arguments first."""
    arguments = {k: _resolve(v, names, problems) for k, v in plan.arguments.items()}
    if any(part is _FAILED for v in arguments.values() for part in (v if isinstance(v, list) else [v])):
        return _FAILED
    if plan.label and arguments.get("name") is None:
        arguments["name"] = names.take(plan.label)
    with _reporting(problems, plan.node, plan.path, plan.places):
        made = plan.make(**arguments)
        if isinstance(plan, LayerPlan) and not isinstance(made, keras.layers.Layer):
            raise TypeError(f"must give a Keras layer; received {made!r}")
        return made
    return _FAILED


def _resolve(value, names, problems):
    if isinstance(value, dict):
        return {key: _resolve(item, names, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, names, problems) for item in value]
    return _make(value, names, problems) if isinstance(value, Plan) else value


def _call(layer, given):
    """The output of a layer of one input or several, which are tensors or sequences."""
    if takes_sequences(layer):
        if len(given) > 1:
            raise ValueError(f"{type(layer).__name__} takes one input; received {len(given)}")
        return layer(given[0])
    mask = join(x.mask for x in given if isinstance(x, Sequence))
    values = [_values(x) for x in given]
    y = layer(values if len(values) > 1 else values[0])
    return y if mask is None else Sequence(y, mask)


def _spec(x):
    return x.spec if isinstance(x, Sequence) else Sequence(x).spec


def _values(x):
    return x.values if isinstance(x, Sequence) else x


@contextlib.contextmanager
def _reporting(problems, node, path, places=None):
    """Turns what a layer raises into a problem at its place, or at that of the argument that the message names."""
    try:
        yield
    except SpecError:
        raise
    except RecursionError:
        problems.add(
            "more layers in a row, or in one another, than Python can follow; put them into kseq.Serial", node, path
        )
    except Exception as error:  # layers of third parties may raise anything
        message = shorten(_cause(error), 500) or type(error).__name__
        for name in re.findall(r"`(\w+)`", message):
            if places and name in places:
                node, path = places[name], f"{path}.{name}"
                break
        problems.add(message, node, path)


def _cause(error) -> str:
    """What an error says first, without names that Keras has made."""
    paragraph = unframed(error).partition("\n\n")[0]
    return _TENSOR.sub(r"\2 of shape \1", _TENSOR_NAME.sub("", " ".join(paragraph.split())))


_TENSOR_NAME = re.compile(r" with name '(?:None|keras_tensor\w*)'")
# Its name says how many tensors this process has made before.
_TENSOR = re.compile(r"<KerasTensor shape=(\([^)]*\)), dtype=(\w+)[^>]*>")
