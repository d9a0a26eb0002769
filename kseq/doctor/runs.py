"""A run of a model that keeps every call of its layers and operations: what each was given, and what it gave."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import keras

from ..layers.base import SequenceLayer
from ..model_graph import ModelGraph, Tensor, is_graph, map_structure, matched, read_model, tensors
from ..sequence import Sequence
from .tensors import leaves_of, mask_of, masks_of, refilled, with_mask

_AUTOMATIC = ("mask", "_mask")  # the endings of arguments that Keras fills in


@dataclasses.dataclass
class LayerRun:
    """A call of a layer or operation in a run of a model.

    Attributes:
        name: of what is called, after the names of the models that it is in: `encoder/conv`.
        operation: what is called.
        arguments, keywords: what it was given; `None` where there was nothing to give.
        leaves: all that stands in its arguments, in order.
        masks: Keras's masks of what stands there when it was called, and
        output_masks: of its outputs right after: a call may take them away later.
        outputs: what it gave, or `None`; without masks where it raises with them.
        error: why it gave nothing, or nothing with masks.
        shapes: what the model's graph says of the shapes of its outputs; none where there is no graph.
        needs_mask: whether who reads its outputs relies on Keras's mask of them: not where it is given beside them.
    """

    name: str
    operation: Any
    arguments: Any = None
    keywords: Any = None
    leaves: tuple[Any, ...] = ()
    masks: tuple[Any, ...] = ()
    outputs: Any = None
    output_masks: tuple[Any, ...] = ()
    error: Exception | str | None = None
    needs_mask: bool = True
    shapes: tuple[Any, ...] = ()

    @classmethod
    def of(cls, name: str, operation: Any, arguments: Any, keywords: Any) -> "LayerRun":
        """A call that is about to be made."""
        leaves = tuple(leaves_of((arguments, keywords)))
        return cls(name, operation, arguments, keywords, leaves, tuple(map(mask_of, leaves)))

    def make(self, call: Any) -> Any:
        """Make the call, without masks if it fails with them, and return its outputs, `None` if it fails."""
        try:
            self.take(call(*self.arguments, **self.keywords))
        except Exception as error:  # of any kind: it may be a layer of anyone's
            self.error = error
            if any(mask is not None for mask in self.masks) or self.keywords.get("mask") is not None:
                bare = iter(keras.ops.copy(x) if keras.ops.is_tensor(x) else x for x in self.leaves)
                arguments, keywords = refilled((self.arguments, self.keywords), bare)
                with contextlib.suppress(Exception):
                    self.take(call(*arguments, **{k: v for k, v in keywords.items() if k != "mask"}))
        return self.outputs

    def take(self, outputs: Any) -> None:
        self.outputs, self.output_masks = outputs, tuple(masks_of(outputs))


class ModelRuns:
    """Runs a model, the models within it included, call by call."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._graphs: dict[Any, tuple[ModelGraph, set[Tensor]]] = {}

    @property
    def graph(self) -> ModelGraph | None:
        """Of the model, or `None` of one that has none, whose layers are followed as it calls them."""
        return self.graph_of(self.model) if has_graph(self.model) else None

    def graph_of(self, model: Any) -> ModelGraph:
        return self._read(model)[0]

    def graphs(self) -> list[ModelGraph]:
        """Of the model and those in it, as far as they have been run."""
        return [graph for graph, _ in self._graphs.values()]

    def readers(self, t: Tensor) -> list[Any]:
        """The layers that read an input of the model as it is, also those within models in it."""
        return list(self._readers(self.model, t))

    def run(self, given: Any, masks: Any = None) -> tuple[list[LayerRun], Any]:
        """The calls of a run, and the outputs of the model, `None` where it gave none.

        Args:
            given: arrays by input, or in the structure that the model takes where it has no graph.
            masks: of some of the inputs by input, or in the same structure with `None`s; Keras's masks of them.
        """
        calls: list[LayerRun] = []
        if not has_graph(self.model):
            own = iter(leaves_of(masks)) if masks is not None else itertools.repeat(None)
            given = map_structure(lambda x: with_mask(x, next(own)), given)
            return calls, self._follow(self.model, "", (given,), {}, calls)
        graph, told = self._read(self.model)
        known = {t: with_mask(x, (masks or {}).get(t)) for t, x in given.items()}
        return calls, self._interpret(graph, told, known, "", calls)

    def _interpret(self, graph, told, known, prefix, calls):
        """The outputs of a graph whose inputs are known."""
        for call in graph.calls:
            name = f"{prefix}{call.operation.name}"
            missing = [t for t in call.inputs if t not in known]
            if missing and has_graph(call.operation):
                inner, inner_told = self._read(call.operation)
                outputs = self._interpret(inner, inner_told, {}, f"{name}/", calls)
            elif missing:
                calls.append(LayerRun(name, call.operation, error="what it reads is not known"))
                continue
            else:
                arguments, keywords = map_structure(lambda leaf: _filled(known, leaf), (call.arguments, call.keywords))
                outputs = self._call(call.operation, name, arguments, keywords, calls)
                if calls and calls[-1].operation is call.operation:
                    calls[-1].needs_mask = not set(tensors(call.outputs)) <= told
                    calls[-1].shapes = tuple(t.shape for t in tensors(call.outputs))
            if outputs is not None:
                known.update(pair for pair in matched(call.outputs, outputs) if isinstance(pair[0], Tensor))
        if not set(tensors(graph.outputs)) <= known.keys():
            return None
        return map_structure(lambda leaf: _filled(known, leaf), graph.outputs)

    def _call(self, operation, name, arguments, keywords, calls):
        """The outputs of a call; a model's own calls stand for it."""
        if has_graph(operation):
            graph, told = self._read(operation)
            known = dict(matched(graph.inputs, arguments[0]))
            if (mask := keywords.get("mask")) is not None:
                for (t, x), m in zip(known.items(), keras.tree.flatten(mask), strict=True):
                    known[t] = with_mask(x, m)
            return self._interpret(graph, told, known, f"{name}/", calls)
        if isinstance(operation, keras.Model) and not isinstance(operation, SequenceLayer):
            return self._follow(operation, f"{name}/", arguments, keywords, calls)
        one = LayerRun.of(name, operation, arguments, keywords)
        calls.append(one)
        return one.make(operation)

    def _follow(self, model, prefix, arguments, keywords, calls):
        """The outputs of a model that has no graph, whose layers tell when it calls them."""
        own = LayerRun.of(prefix.removesuffix("/") or model.name, model, arguments, keywords)
        with contextlib.ExitStack() as stack:
            for layer, name in _layers_within(model, prefix):
                stack.enter_context(self._telling(layer, name, calls))
            own.make(model)
        calls.append(own)
        return own.outputs

    @contextlib.contextmanager
    def _telling(self, layer, name, calls):
        """While this lasts the layer's calls are kept."""
        call = layer.call

        def kept(*arguments, **keywords):
            named = {key: value for key, value in keywords.items() if not _is_automatic(key, value)}
            if has_graph(layer):
                return self._call(layer, name, arguments, named, calls)
            one = LayerRun.of(name, layer, arguments, named)
            one.take(call(*arguments, **keywords))
            calls.append(one)
            return one.outputs

        layer.call = kept
        try:
            yield
        finally:
            del layer.call

    def _read(self, model):
        """A model's graph, and the tensors in it whose readers are told their masks."""
        if id(model) not in self._graphs:
            graph = read_model(model)
            self._graphs[id(model)] = graph, _told(graph)
        return self._graphs[id(model)]

    def _readers(self, model, t):
        graph = self.graph_of(model)
        for call in graph.calls:
            if t in call.inputs and has_graph(call.operation):
                inner = self.graph_of(call.operation)
                for own, given in matched(inner.inputs, call.arguments[0]):
                    if given is t:
                        yield from self._readers(call.operation, own)
            elif t in call.inputs:
                yield call.operation


def has_graph(model: Any) -> bool:
    """Whether a model's graph can be read; a sequential one has none where Keras could not follow its shapes."""
    return is_graph(model) and (not isinstance(model, keras.Sequential) or hasattr(model, "inputs"))


def _filled(known, leaf):
    return known[leaf] if isinstance(leaf, Tensor) else leaf


def _is_automatic(name, value):
    """Whether an argument is one that Keras fills in by itself."""
    return name == "training" or (name.endswith(_AUTOMATIC) and value is None)


def _layers_within(model, prefix) -> Iterator[tuple[Any, str]]:
    """The layers that a model without a graph has, also of such models in it, with their names."""
    for layer in model.layers:
        if isinstance(layer, keras.Model) and not has_graph(layer) and not isinstance(layer, SequenceLayer):
            yield from _layers_within(layer, f"{prefix}{layer.name}/")
        elif not isinstance(layer, keras.layers.InputLayer):
            yield layer, f"{prefix}{layer.name}"


def _told(graph):
    """Masks, and tensors all of whose readers are given their mask, or are operations of which that holds."""
    masks = {t for t in (*tensors(graph.inputs), *(t for c in graph.calls for t in tensors(c.outputs))) if t.is_mask}
    for call in graph.calls:
        if not isinstance(call.operation, keras.layers.Layer) and set(call.inputs) <= masks:
            masks |= set(tensors(call.outputs))  # what is made of masks alone
    beside, read_otherwise = set(masks), set(tensors(graph.outputs)) - masks
    for pair in _pairs(graph.outputs):
        beside.add(pair.values)
        read_otherwise.discard(pair.values)
    for call in reversed(graph.calls):
        pairs = list(_pairs((call.arguments, call.keywords)))
        own = {pair.values for pair in pairs}
        if isinstance(call.keywords.get("mask"), Tensor):
            own |= set(tensors(call.arguments[:1]))
        plain = not isinstance(call.operation, keras.layers.Layer)
        outputs = set(tensors(call.outputs))
        if plain and outputs <= beside - read_otherwise:
            own |= set(call.inputs)
        beside |= own
        read_otherwise |= set(call.inputs) - own - masks
    return beside - read_otherwise


def _pairs(structure) -> Iterator[Sequence]:
    """The sequences of values and a mask in a structure, in which Keras may have made lists of them."""
    is_pair = isinstance(structure, (list, tuple)) and len(structure) == 2
    if is_pair and isinstance(structure[1], Tensor) and structure[1].is_mask and isinstance(structure[0], Tensor):
        yield Sequence(*structure)
    elif isinstance(structure, (dict, list, tuple)):
        for part in structure.values() if isinstance(structure, dict) else structure:
            yield from _pairs(part)
