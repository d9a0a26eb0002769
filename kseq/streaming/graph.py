"""A Keras model as a network of layers that step."""

import functools
from typing import Any

import keras

from ..layers.base import SequenceLayer
from ..layers.network import Network
from ..layers.structures import parts
from ..masks import mask_rule
from ..model_graph import in_words
from ..obstacles import NotStreamable
from .adapters import BY_DEFAULT, Held, StreamOptions
from .reading import ModelNodes, read_nodes


def as_layer(model: keras.Model | SequenceLayer, options: StreamOptions = BY_DEFAULT) -> SequenceLayer:
    """A kseq layer that computes what a Keras model, or layer, of streamable layers computes, with the same weights.

    Args:
        model: a kseq layer, a `keras.Sequential`, or a functional model. Of several inputs and outputs the layer takes
            and gives tuples, in the order of `ModelNetwork.inputs` and `ModelNetwork.output_structure`.
        options: of what the model does not say.

    Raises:
        TypeError: something else.
        NotStreamable: layers and operations that have no streaming form, a row each.
        ValueError: a model that is not built.
    """
    if isinstance(model, SequenceLayer):
        return model
    if not isinstance(model, keras.Model):
        raise TypeError(f"expected a kseq layer or a Keras model; received {model!r} of type {type(model).__name__}")
    return ModelNetwork(model, options)


@mask_rule.register
def _(model: keras.Model):
    return mask_rule(as_layer(model))


class ModelNetwork(Network):
    """The graph of a functional or sequential model as one layer.

    Inputs of the model that reach it only as context of its layers are this layer's context, by their names.

    Attributes:
        model: the model, whose variables are this layer's.
        inputs: a `ModelInput` for each sequence that the model reads.
        reads_presence: whether the layer has one input more, since the model loses masks: its mask says which steps are
            there, as those that only make the last outputs come out are not; its values [B, T], bool, say nothing.
        input_structure: the numbers of the inputs in the structure in which Keras takes them.
        output_structure: the numbers of the outputs in the structure in which Keras gives them.
    """

    model: keras.Model
    inputs: tuple[Any, ...]
    reads_presence: bool
    context_names: tuple[str, ...]

    def __init__(self, model: keras.Model, options: StreamOptions = BY_DEFAULT) -> None:
        super().__init__(name=model.name, autocast=False)
        found = read_nodes(model, functools.partial(as_layer, options=options), options)
        if found.obstacles:
            reasons = "; ".join(map(str, found.obstacles))
            raise NotStreamable(f"{in_words(model)} cannot stream: {reasons}", found.obstacles)
        self.model, self.inputs, self.reads_presence = model, found.inputs, found.reads_presence
        self._read = Held(found)
        self.connect(found.nodes, found.reads, len(found.inputs) + found.reads_presence)
        self.context_names = tuple(given.name for given in found.context.inputs)
        self.built = True

    def origin(self) -> Any:
        return self.model

    def derive_context(self, context: Any) -> Any:
        return self.nodes_read.context.values(context)

    @property
    def nodes_read(self) -> ModelNodes:
        """What was read of the model."""
        return self._read.value

    @property
    def input_names(self) -> list[str]:
        """The names of the `keras.Input`s that stream, masks among them, in Keras's order."""
        streams = {name for given in self.inputs for name in (given.name, given.mask)}
        return [name for name in self.nodes_read.given if name in streams]

    @property
    def input_structure(self) -> Any:
        return self.nodes_read.input_structure

    @property
    def output_structure(self) -> Any:
        return self.nodes_read.output_structure

    @property
    def channel_shape(self) -> Any:
        shapes = tuple(spec.shape for spec in self.nodes_read.input_specs)
        return shapes if self.num_inputs > 1 else shapes[0]

    def output_mask(self, mask: Any) -> Any:
        masks = parts(mask)[: len(self.inputs)]
        # Where only masks are known, what is padding is not there.
        return super().output_mask((*masks, *masks[:1]) if self.reads_presence else mask)
