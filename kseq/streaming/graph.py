"""A Keras model as one sequence layer: its graph, with latencies aligned where branches meet."""

import keras

from .. import timing as algebra
from ..layers.base import SequenceLayer
from ..layers.delay import Delay
from ..masks import mask_rule
from ..sequence import Sequence, SequenceSpec
from . import adapters


def as_layer(model) -> SequenceLayer:
    """A kseq layer that computes what a Keras model, or layer, of streamable layers computes, with the same weights.

    Args:
        model: a kseq layer, a `keras.Sequential`, or a functional model of one input and one output (tensors, or a
            `Sequence` of two).

    Raises:
        TypeError: something else.
        ValueError: layers that cannot stream, each with the reason; a model that is not built.
    """
    if isinstance(model, SequenceLayer):
        return model
    if isinstance(model, keras.Model):
        if not model.built:
            raise ValueError(f"the model {model.name!r} must be built before it can stream: give it a keras.Input")
        return Graph(model)
    raise TypeError(f"expected a kseq layer or a Keras model; received {model!r} of type {type(model).__name__}")


@mask_rule.register
def _(model: keras.Model):
    return as_layer(model).output_mask


class Graph(SequenceLayer):
    """The graph of a functional or sequential model as one layer."""

    zeroes_invalid = False

    def __init__(self, model, **kwargs):
        super().__init__(name=f"{model.name}_stream", autocast=False, **kwargs)
        self.model = model  # whose variables are this layer's
        nodes, source, output, channels = _read(model)
        self.nodes, self.source, self.output_key = tuple(nodes), source, output
        self.channel_shape = channels
        self._timings = {source: algebra.Timing()}
        self._delays = tuple(self._align(node) for node in nodes)
        self.built = True

    def _align(self, node):
        """Delays for a node's inputs; records the timing of its output."""
        timings = [self._timings[key] for key in node.inputs]
        waits = algebra.parallel_delays(timings)
        joined = algebra.parallel(timings, node.inputs)
        (_, block_wait) = algebra.serial_delays([joined, node.layer.timing])
        self._timings[node.output] = algebra.serial([joined, node.layer.timing])
        return tuple(Delay(wait + block_wait, delay_layer_output=False, autocast=False) for wait in waits)

    @property
    def timing(self):
        return self._timings[self.output_key]

    @property
    def step_obstacle(self):
        found = [
            f"{node.layer.name} ({_type_name(node.layer)}): {node.layer.step_obstacle}"
            for node in self.nodes
            if node.layer.step_obstacle is not None
        ]
        return "; ".join(found) or None

    @property
    def creates_mask(self):
        return any(node.layer.creates_mask for node in self.nodes)

    def output_spec(self, input_spec):
        return self._walk(input_spec, lambda node, specs: node.output_spec(specs))

    def output_length(self, length):
        return self._walk(length, lambda node, lengths: node.layer.output_length(lengths[0]))

    def output_mask(self, mask):
        def combine(node, masks):
            joined = masks[0]
            for other in masks[1:]:
                joined = joined & other
            return node.layer.output_mask(joined)

        return self._walk(mask, combine)

    def call_layer(self, x, *, training=False, constants=None):
        return self._walk(x, lambda node, inputs: node.call(inputs, training=training, constants=constants))

    def _walk(self, value, visit):
        found = {self.source: value}
        for node in self.nodes:
            found[node.output] = visit(node, [found[key] for key in node.inputs])
        return found[self.output_key]

    def initial_state(self, batch_size, input_spec, constants=None):
        specs, state = {self.source: input_spec}, []
        for node, delays in zip(self.nodes, self._delays, strict=True):
            given = [specs[key] for key in node.inputs]
            waiting = tuple(d.initial_state(batch_size, spec) for d, spec in zip(delays, given, strict=True))
            state.append((waiting, node.layer.initial_state(batch_size, given[0], constants)))
            specs[node.output] = node.output_spec(given)
        return tuple(state)

    def call_step(self, x, state, *, training=False, constants=None):
        found, new_state = {self.source: x}, []
        for node, delays, (waiting, before) in zip(self.nodes, self._delays, state, strict=True):
            inputs, waited = [], []
            for key, delay, wait in zip(node.inputs, delays, waiting, strict=True):
                y, wait = delay.step(found[key], wait)
                inputs.append(y)
                waited.append(wait)
            found[node.output], after = node.step(inputs, before, training=training, constants=constants)
            new_state.append((tuple(waited), after))
        return found[self.output_key], tuple(new_state)


class _Node:
    """One call of a layer in the graph: which values it reads and which it makes."""

    def __init__(self, layer, arguments, keywords, inputs, output, tensor):
        self.layer = layer
        self.arguments, self.keywords = arguments, keywords
        self.inputs, self.output = inputs, output
        self._tensor = tensor

    def output_spec(self, specs):
        if isinstance(self.layer, adapters.Stepwise):
            return SequenceSpec(tuple(self._tensor.shape[2:]), keras.backend.standardize_dtype(self._tensor.dtype))
        return self.layer.output_spec(specs[0])

    def _bind(self, sequences):
        """The call's arguments with sequences in the place of graph keys."""
        by_key = dict(zip(self.inputs, sequences, strict=True))

        def put(leaf):
            return by_key[leaf.key] if isinstance(leaf, _Key) else leaf

        return adapters.map_sequences(put, self.arguments), adapters.map_sequences(put, self.keywords)

    def call(self, sequences, **options):
        if isinstance(self.layer, adapters.Stepwise):
            return self.layer.call_many(*self._bind(sequences))
        return self.layer(sequences[0], **options)

    def step(self, sequences, state, **options):
        if isinstance(self.layer, adapters.Stepwise):
            return self.layer.call_many(*self._bind(sequences)), state
        return self.layer.step(sequences[0], state, **options)


class _Key:
    """The place of a value of the graph in a call's arguments."""

    def __init__(self, key):
        self.key = key


class _StandIn(keras.layers.Layer):
    """Takes a layer's place while the graph is read, so that the model's own layers see no further calls."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def read(self, args, kwargs):
        """The output of a call of the operation, as a node of the stand-in that reads the call's tensors."""
        self._output = self.operation.compute_output_spec(*args, **kwargs)
        return self([x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)])

    def compute_output_spec(self, tensors):
        return self._output

    def call(self, tensors):
        raise NotImplementedError("a stand-in is only ever called on symbols")


def _read(model):
    """Nodes in order, the key of the input, the key of the output, and the input's channel shape."""
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], model.outputs[0])
    nodes, reasons, names = [], [], {}

    def record(stand_in, *args, **kwargs):
        output = stand_in.read(args, kwargs)
        operation, inputs = stand_in.operation, []
        if adapters.joins_masks(operation, args):
            return output  # the node that reads the joined values joins their masks itself
        if isinstance(operation, SequenceLayer):
            args = [_as_pair(arg) for arg in args]

        def key_of(leaf):
            tensor = leaf.values if isinstance(leaf, Sequence) else leaf
            if not isinstance(tensor, keras.KerasTensor):
                return leaf
            key = names.setdefault(id(tensor), tensor.name)
            if key not in inputs:
                inputs.append(key)
            return _Key(key)

        arguments, keywords = adapters.map_sequences(key_of, list(args)), adapters.map_sequences(key_of, kwargs)
        tensor = output.values if isinstance(output, Sequence) else output
        if not isinstance(tensor, keras.KerasTensor):
            reasons.append(f"{operation.name} ({type(operation).__name__}): it has several outputs")
            return output
        names[id(tensor)] = tensor.name
        if isinstance(operation, (SequenceLayer, keras.Model)):
            layer = as_layer(operation)
        else:
            reason = adapters.obstacle(operation, len(tensor.shape))
            if reason:
                reasons.append(f"{operation.name} ({type(operation).__name__}): {reason}")
            layer = adapters.Stepwise(operation)
        nodes.append(_Node(layer, arguments, keywords, inputs, tensor.name, tensor))
        return output

    # A fresh model of the same tensors has no compile settings that cloning would set up again.
    plain = keras.Model(model.input, model.output)
    channels = tuple(_single(model.input, "input").shape[2:])
    _single(model.output, "output")
    twin = keras.models.clone_model(plain, clone_function=_StandIn, call_function=record)
    if reasons:
        raise ValueError(f"the model {model.name!r} cannot stream: " + "; ".join(reasons))
    source, output = _single(twin.input, "input"), _single(twin.output, "output")
    return nodes, names.get(id(source), source.name), names.get(id(output), output.name), channels


def _as_pair(tensors):
    """A `Sequence` where it is one, or the plain pair that it becomes in a model loaded from a file."""
    if isinstance(tensors, (list, tuple)) and len(tensors) == 2 and not isinstance(tensors, Sequence):
        mask = tensors[1]
        if isinstance(mask, keras.KerasTensor) and mask.dtype == "bool" and len(mask.shape) == 2:
            return Sequence(*tensors)
    return tensors


def _single(tensors, what):
    tensors = _as_pair(tensors)
    if isinstance(tensors, Sequence):
        return tensors.values
    if isinstance(tensors, (list, tuple)) and len(tensors) == 1:
        tensors = tensors[0]
    if not isinstance(tensors, keras.KerasTensor):
        count = len(tensors) if isinstance(tensors, (list, tuple, dict)) else type(tensors).__name__
        raise ValueError(f"a streaming model has one {what}; received {count}")
    return tensors


def _type_name(layer):
    return type(layer.operation if isinstance(layer, adapters.Stepwise) else layer).__name__
