"""The graph of a functional or sequential Keras model: its calls in order, with the tensors each reads and makes."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import keras

from .sequence import Sequence


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a model's graph; it is itself alone."""

    name: str
    shape: tuple[Any, ...]
    dtype: str

    @property
    def is_mask(self) -> bool:
        """Whether it may be a mask: bool [B, T]."""
        return self.dtype == "bool" and len(self.shape) == 2


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer, a nested model, or an operation such as `x + y`.

    Attributes:
        operation: what is called; the same object where a layer is used again.
        arguments, keywords: what it is called with, with a `Tensor` in the place of each tensor.
        outputs: the structure of `Tensor`s that it gives.
    """

    operation: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    outputs: Any

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that it reads, each once."""
        return tuple(dict.fromkeys(tensors((self.arguments, self.keywords))))

    @property
    def joins_masks(self) -> bool:
        """Whether it is the `keras.ops.logical_and` of the masks of sequences whose values are merged."""
        # Keras's operations have no public classes.
        return type(self.operation).__name__ == "LogicalAnd" and all(x.is_mask for x in self.inputs)


@dataclasses.dataclass(frozen=True)
class ModelGraph:
    """What a model computes.

    Attributes:
        inputs, outputs: `Tensor`s in the structure in which Keras has them: one, a list, a dict, or nested.
        calls: each after those whose outputs it reads.
        input_layers: Keras's `InputLayer` of each of the inputs: its name is the model's name for the input, and it
            knows whether it is sparse or optional.
    """

    inputs: Any
    outputs: Any
    calls: tuple[Call, ...]
    input_layers: dict[Tensor, keras.layers.InputLayer]


def is_graph(model: Any) -> bool:
    """Whether a Keras model has a graph that can be read: a sequential or a functional one."""
    return isinstance(model, keras.Sequential) or (isinstance(model, keras.Model) and hasattr(model, "operations"))


def in_words(model: Any) -> str:
    """A model or layer as errors call it: by the name that its maker gave it, or by what it is."""
    kind = "model" if isinstance(model, keras.Model) else "layer"
    # Keras makes names of classes: `functional`, `functional_4`.
    own = re.fullmatch(r"([a-z0-9_]+?)(_[0-9]+)?", model.name)
    if own and own[1].replace("_", "") == type(model).__name__.lower():
        return f"the {kind}" if kind == "model" else f"the {type(model).__name__}"
    return f"the {kind} {model.name!r}"


def read_model(model: Any) -> ModelGraph:
    """The graph of a built sequential or functional model, which stays as it is.

    Raises:
        TypeError: something else, such as a subclassed model.
        ValueError: a model that is not built.
    """
    if not is_graph(model):
        raise TypeError(
            f"expected a sequential or functional Keras model; received {model!r} of type {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(f"{in_words(model)} must be built before its graph is read: give it a keras.Input")
    known, calls = {}, []

    def known_tensor(x):
        return known.setdefault(id(x), Tensor(x.name, tuple(x.shape), x.dtype))

    def record(stand_in, *args, **kwargs):
        # A stand-in of its own for each call: Keras takes all calls of one for having as many outputs.
        output = _StandIn(stand_in.operation).read(args, kwargs)
        alive.append(output)  # so that no other tensor gets its identity
        parts = (_map_tensors(known_tensor, part) for part in (args, kwargs, output))
        calls.append(Call(stand_in.operation, *parts))
        return output

    alive = []
    # A fresh model of the same tensors has no compile settings that cloning would set up again.
    sequential = isinstance(model, keras.Sequential)
    ends = (model.inputs[0], model.outputs[0]) if sequential else (model.input, model.output)
    fresh = keras.Model(*ends)
    twin = keras.models.clone_model(fresh, clone_function=_StandIn, call_function=record)
    layers = {id(layer.output): layer for layer in fresh.layers if isinstance(layer, keras.layers.InputLayer)}
    own, read = [*fresh.inputs, *fresh.outputs], [*twin.inputs, *twin.outputs]
    twins = {id(x): known_tensor(y) for x, y in zip(own, read, strict=True)}
    return ModelGraph(
        # In the model's own structure: its twin has the keys of dicts in another order.
        inputs=_map_tensors(lambda x: twins[id(x)], fresh.input),
        outputs=_map_tensors(lambda x: twins[id(x)], fresh.output),
        calls=tuple(calls),
        input_layers={twins[id(x)]: layers[id(x)] for x in fresh.inputs},
    )


def map_structure(fn: Any, structure: Any) -> Any:
    """Apply `fn` to the leaves of nested lists, tuples and dicts; a `Sequence` stays one, of what `fn` makes."""
    if isinstance(structure, Sequence):
        return Sequence(*(map_structure(fn, part) for part in structure))
    if isinstance(structure, dict):
        return {key: map_structure(fn, value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(map_structure(fn, value) for value in structure)
    return fn(structure)


def matched(structure: Any, other: Any) -> Iterator[Any]:
    """The leaves of a structure, each with what stands in its place in another."""
    if isinstance(structure, dict):
        for key, part in structure.items():
            yield from matched(part, other[key])
    elif isinstance(structure, (list, tuple)):
        other = other if isinstance(other, (list, tuple)) else [other]
        for part, other_part in zip(structure, other, strict=True):
            yield from matched(part, other_part)
    else:
        yield structure, other


def tensors(structure: Any) -> Iterator[Any]:
    """The `Tensor`s of a structure, in order."""
    if isinstance(structure, Tensor):
        yield structure
    elif isinstance(structure, (dict, list, tuple)):
        for part in structure.values() if isinstance(structure, dict) else structure:
            yield from tensors(part)


def _map_tensors(fn, structure):
    return map_structure(lambda leaf: fn(leaf) if isinstance(leaf, keras.KerasTensor) else leaf, structure)


class _StandIn(keras.layers.Layer):
    """Takes a layer's place while the graph is read, so that the model's own layers see no further calls."""

    def __init__(self, operation: Any) -> None:
        super().__init__()
        self.operation = operation

    def read(self, args: Any, kwargs: Any) -> Any:
        """The output of a call of the operation, as a node of the stand-in that reads the call's tensors."""
        self._output = self.operation.compute_output_spec(*args, **kwargs)
        return self([x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)])

    def compute_output_spec(self, tensors: Any) -> Any:
        return self._output

    def call(self, tensors: Any) -> Any:
        raise NotImplementedError("a stand-in is only ever called on symbols")
