"""A model built again of its graph, with other layers in the places of some."""

import tempfile
from typing import Any

import keras

from ..doctor.runs import has_graph
from ..keras_errors import unframed
from ..model_graph import Call, Tensor, map_structure, matched, tensors
from .twins import Twin


class Rebuilding:
    """Makes models anew, those within them included, each once: layers that are shared stay so.

    Args:
        graphs: function of a model that gives its graph.
        twins: by the identity of a layer or operation what takes its place.
    """

    def __init__(self, graphs: Any, twins: dict[int, Twin]) -> None:
        self._graphs, self._twins = graphs, twins
        self._made: dict[int, Any] = {}

    def model(self, model: Any) -> keras.Model:
        """The model of the same calls."""
        graph = self._graphs(model)
        inputs = {t: _input_like(graph.input_layers[t]) for t in tensors(graph.inputs)}
        if isinstance(model, keras.Sequential):
            layers = [self._layer(call.operation) for call in graph.calls if _is_of_sequential(call, model)]
            return _like(keras.Sequential([*inputs.values(), *layers], name=model.name), model)
        known: dict[Tensor, Any] = dict(inputs)
        for call in graph.calls:
            arguments, keywords = map_structure(lambda leaf: _filled(known, leaf), (call.arguments, call.keywords))
            twin = self._twins.get(id(call.operation))
            if twin is not None:
                arguments, keywords = twin.called(arguments, keywords)
            outputs = self._layer(call.operation)(*arguments, **keywords)
            known.update(pair for pair in matched(call.outputs, outputs) if isinstance(pair[0], Tensor))
        ends = (map_structure(lambda leaf: _filled(known, leaf), end) for end in (graph.inputs, graph.outputs))
        return _like(keras.Model(*ends, name=model.name), model)

    def _layer(self, operation):
        if id(operation) not in self._made:
            self._made[id(operation)] = self._new(operation)
        return self._made[id(operation)]

    def _new(self, operation):
        if id(operation) in self._twins:
            return self._twins[id(operation)].layer
        if has_graph(operation):
            return self.model(operation)
        return copied(operation) if isinstance(operation, keras.layers.Layer) else operation

    def copy_weights(self, model: Any) -> None:
        """Give the layers that are no twins the weights that they had."""
        for call in self._graphs(model).calls:
            old = call.operation
            if has_graph(old):
                self.copy_weights(old)
            elif isinstance(old, keras.layers.Layer) and id(old) not in self._twins:
                new = self._made[id(old)]
                new.set_weights(old.get_weights())
                if hasattr(new, "finalize_state"):  # what is made of the weights of preprocessing layers
                    new.finalize_state()


def _like(made, model):
    """A model of the precision of another, and frozen where that one is; else its layers are as they are."""
    made.dtype_policy = model.dtype_policy  # by which `compile` scales the loss
    if not model.trainable:
        made.trainable = False  # what is set here is set of all layers
    return made


def copied(layer: Any) -> Any:
    """A layer of the same configuration, with what it has learned of data beside its weights.

    Raises:
        ValueError: a layer that says no configuration.
    """
    try:
        new = _lambda_like(layer) if type(layer) is keras.layers.Lambda else type(layer).from_config(layer.get_config())
    except Exception as error:  # of anyone's layer
        raise ValueError(
            f"{layer.name} ({type(layer).__name__}) cannot be copied by its configuration: "
            f"{' '.join(unframed(error).split())}"
        ) from error
    new.name = layer.name  # which configurations of one's own may leave out
    if hasattr(layer, "save_assets") and hasattr(new, "load_assets"):  # vocabularies
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            new.load_assets(folder)
    return new


def _lambda_like(layer):
    """Of the same function: a configuration would hold its code, which Keras takes for a danger."""
    shape = layer.get_config().get("output_shape")
    return keras.layers.Lambda(
        layer.function,
        output_shape=shape if isinstance(shape, (list, tuple)) else None,
        mask=layer.mask,
        arguments=layer.arguments,
        dtype=layer.dtype_policy,
        trainable=layer.trainable,
    )


def _input_like(layer):
    options = {name: getattr(layer, name) for name in ("sparse", "optional") if getattr(layer, name, False)}
    return keras.Input(batch_shape=layer.batch_shape, dtype=layer.dtype, name=layer.name, **options)


def _is_of_sequential(call: Call, model: Any) -> bool:
    """Whether a call is of a layer of a sequential model, and not of what makes its masks."""
    return any(call.operation is layer for layer in model.layers)


def _filled(known, leaf):
    return known[leaf] if isinstance(leaf, Tensor) else leaf
