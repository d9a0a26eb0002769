"""`Emit` marks what else a layer should give, and `emitting` makes a layer that gives it."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Unpack

from ...annotations import LayerOptions
from ...registry import register
from ..base import Example, SequenceLayer
from ..network import LayerNode, Network, Read
from .base import Unchanged
from .unchanged import Identity


@register
class Emit(Unchanged):
    """The input, which `kseq.emitting` gives beside the output of a layer around this one.  [B, T, ...] -> [B, T, ...].

    Mask: unchanged. Timing: none.

    Args:
        emit_name: what it is called among the emits; by default the layer's name.

    Example:
        >>> import kseq, numpy as np
        >>> layer = kseq.emitting(kseq.Serial([kseq.Dense(4), kseq.Emit("hidden"), kseq.Dense(2)]))
        >>> y, hidden = layer(np.zeros((1, 7, 3), "float32"))
        >>> y.shape, hidden.shape, layer.emit_names
        ((1, 7, 2), (1, 7, 4), ('hidden',))
    """

    emit_name: str | None

    def __init__(self, emit_name: str | None = None, **kwargs: Unpack[LayerOptions]) -> None:
        super().__init__(**kwargs)
        self.keep(locals())

    @classmethod
    def examples(cls) -> list[Example]:
        return [Example({"emit_name": "hidden"})]


@register
class Emitting(Network):
    """A layer whose outputs are those of another one, and what each `Emit` within that has seen.

    The outputs stream, and each is aligned by itself: one that comes early comes without the latency of what follows.
    Mask and timing are those of each output.

    Args:
        layer: a kseq layer of layers; those in it, at any depth, may be or hold `Emit`s.

    Attributes:
        emit_names: the names of the emits, in the order in which they are given: that in which the layers run, depth
            first. Where two are equal the second has a number.

    Raises:
        TypeError: no kseq layer.
        ValueError: no `Emit` within, or one in a layer whose inner layers do not run one by one.
    """

    layer: SequenceLayer
    emit_names: tuple[str, ...]

    in_specs = False

    def __init__(self, layer: SequenceLayer, **kwargs: Unpack[LayerOptions]) -> None:
        if not isinstance(layer, SequenceLayer):
            raise TypeError(f"`layer` must be a kseq layer; received {layer!r} of type {type(layer).__name__}")
        kwargs.setdefault("dtype", layer.dtype_policy)
        kwargs.setdefault("autocast", False)  # the layers within cast
        super().__init__(**kwargs)
        self.layer = layer
        inputs = tuple(Read(i) for i in range(layer.num_inputs))
        nodes, outputs = _inlined(layer, inputs, {name: name for name in layer.context_names}, None)
        emits = [node for node in nodes if isinstance(node.layer, Emit)]
        if not emits:
            raise ValueError(f"{layer.name} ({type(layer).__name__}) holds no `kseq.Emit`: there is nothing to give")
        self.emit_names = tuple(_distinct(node.layer.emit_name or node.layer.name for node in emits))
        self.connect(nodes, [*outputs, *(Read(node.outputs[0]) for node in emits)], layer.num_inputs)

    @property
    def sublayers(self) -> tuple[SequenceLayer, ...]:
        """The layer that is given."""
        return (self.layer,)

    def build(self, input_shape: Any, context_shape: Any = None) -> None:
        if not self.layer.built:
            self.layer.build(input_shape, **({"context_shape": context_shape} if context_shape else {}))
        super().build(input_shape, context_shape)

    @classmethod
    def examples(cls) -> list[Example]:
        return []  # it has several outputs


def emitting(layer: SequenceLayer, name: str | None = None) -> Emitting:
    """A layer that gives the outputs of `layer`, and after them what each `kseq.Emit` within it has seen.

    It runs what is in `layer`, once, with the same weights; it can be used, streamed and saved like any layer of
    several outputs.

    Args:
        layer: a kseq layer of layers.
        name: of the new layer.

    Raises:
        TypeError: no kseq layer.
        ValueError: no `Emit` within, or one in a layer whose inner layers do not run one by one.
    """
    return Emitting(layer, name=name)


def _inlined(layer, reads, context, training) -> tuple[list[LayerNode], tuple[Read, ...]]:
    """The nodes of a layer that reads some values, networks in it replaced by theirs, and what reads its outputs.

    Args:
        layer: the layer.
        reads: what it reads.
        context: by its names of context those of what is around it.
        training: what it is told in the place of `training`, or `None`.
    """
    if not _runs_one_by_one(layer):
        _check_silent(layer)
        outputs = tuple(object() for _ in layer.timings)
        node = LayerNode(layer, reads, outputs, layer.name, context, training)
        return [node], tuple(map(Read, outputs))
    nodes: list[LayerNode] = []

    def key_of(read, name, **options):
        """The key of a value that is what a read reads, after a cast if options say so."""
        nodes.append(LayerNode(Identity(name=name, **options), (read,), (object(),), name, hidden=True))
        return nodes[-1].outputs[0]

    cast = {"dtype": layer.dtype_policy, "autocast": layer.autocast}
    found = {i: key_of(read, f"{layer.name}_input", **cast) for i, read in enumerate(reads)}
    for node in layer.nodes:
        given = tuple(_renamed(read, found) for read in node.reads)
        of_node = {name: context[key] for name, key in node.context.items()}
        inner, outputs = _inlined(node.layer, given, of_node, training if node.training is None else node.training)
        nodes += [dataclasses.replace(each, hidden=each.hidden or node.hidden) for each in inner]
        for key, read in zip(node.outputs, outputs, strict=True):
            plain = read == Read(read.value)
            found[key] = read.value if plain else key_of(read, f"{node.name}_output", autocast=False)
    return nodes, tuple(_renamed(read, found) for read in layer.outputs)


def _renamed(read, keys) -> Read:
    """A read by other keys."""
    return Read(keys[read.value], read.mask and _renamed(read.mask, keys), read.part)


def _runs_one_by_one(layer):
    """Whether a layer does no more than run its nodes."""
    methods = ["call_layer", "call_step", "hold_step", "derive_context"]
    return isinstance(layer, Network) and all(getattr(type(layer), m) is getattr(Network, m) for m in methods)


def _check_silent(layer):
    if any(isinstance(within, Emit) for within in _within(layer)):
        raise ValueError(
            f"{layer.name} ({type(layer).__name__}) holds a `kseq.Emit`, but does more than to run its layers one "
            "after the other: what that sees cannot be given"
        )


def _within(layer) -> Iterator[Any]:
    for inner in (*(node.layer for node in getattr(layer, "nodes", ())), *getattr(layer, "sublayers", ())):
        yield inner
        yield from _within(inner)


def _distinct(names) -> Iterator[str]:
    taken = set()
    for name in names:
        found, n = name, 1
        while found in taken:
            found, n = f"{name}_{n}", n + 1
        taken.add(found)
        yield found
