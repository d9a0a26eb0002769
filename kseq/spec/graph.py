"""A model's graph as a spec writes it: which values each layer reads, and whose mask is whose."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import keras

from ..model_graph import Call, ModelGraph, Tensor, tensors
from ..sequence import Sequence
from .masking import takes_sequences


@dataclasses.dataclass(frozen=True, eq=False)
class LayerUse:
    """A use of a layer, or of an operation: what it reads, and the values that it gives.

    Attributes:
        call: as the model has it.
        number: how often the layer was used before.
        values, masks: tensors that it reads.
        output: its values, without their mask.
    """

    call: Call
    number: int
    values: list[Tensor]
    masks: list[Tensor]
    output: Tensor

    @property
    def layer(self) -> Any:
        return self.call.operation

    @property
    def takes_sequences(self) -> bool:
        return takes_sequences(self.layer)

    @property
    def has_options(self) -> bool:
        """Whether the layer is given more than its inputs."""
        values = [x for x in keras.tree.flatten(self.call.arguments) if x is not None]
        options = {name for name, value in self.call.keywords.items() if value is not None and value is not False}
        expected = {"mask"} if self.takes_sequences else set()
        return bool(options - expected) or not all(isinstance(x, Tensor) for x in values)


class SpecGraph:
    """What a spec says of a model's graph.

    Attributes:
        inputs: those of values, in order.
        input_layers: Keras's layer of each input.
        inputs_by_name: whether the model takes a dict.
        mask_of: the input that is the mask of such an input.
        outputs: tensors in order, or by name where the model gives a dict.
        uses: of layers, each after those whose outputs it reads; what only joins masks is left out.
        ids: the tensors that need a name in a spec, with the name.
    """

    def __init__(self, graph: ModelGraph, problem: Callable[..., None]) -> None:
        self.problem: Callable[..., None] = problem
        self.input_layers: dict[Tensor, Any] = graph.input_layers
        given = self._ends(graph.inputs, "inputs")
        self.inputs_by_name: bool = isinstance(given, dict)
        for key, x in given.items() if isinstance(given, dict) else ():
            if key != self.name(x):
                problem(self.name(x), f"the input stands under the key {key!r}; in a spec its key is its name")
        given = list(_tensors(given))
        self.outputs: list[Tensor] | dict[str, Tensor] = self._ends(graph.outputs, "outputs")
        self._masks = {x for x in given if x.is_mask}
        uses = self._all_uses(_depth_first(graph))
        if not uses:
            problem("", "the model has no layers")
        made_by = {x: use for use in uses for x in tensors(use.call.outputs)}
        for x in _tensors(self.outputs):
            if x in self._masks:
                name = made_by[x].layer.name if x in made_by else self.name(x)
                problem(name, "a mask is an output, which a spec cannot say")
        self._refuse_further_outputs(uses, made_by)
        self.mask_of: dict[Tensor, Tensor] = self._pair_masks(uses, given)
        self.inputs: list[Tensor] = [x for x in given if x not in self.mask_of.values()]
        written = [x for value in self.inputs for x in (value, self.mask_of.get(value)) if x]
        if written != given and not self.inputs_by_name:
            names = ", ".join(map(self.name, written))
            problem("", f"the inputs must be {names}, in this order: a mask follows its values")
        self._check_masks(uses)
        self.uses: list[LayerUse] = [use for use in uses if not use.call.joins_masks]
        self.ids: dict[Tensor, str] = self._needed_ids() if self.uses else {}

    def name(self, x: Tensor) -> str:
        """The name of an input."""
        return self.input_layers[x].name

    def _ends(self, structure, what):
        """The model's inputs or outputs: a list of tensors, or a dict of them."""
        if isinstance(structure, Tensor):
            return [structure]
        if isinstance(structure, (list, tuple, dict)) and all(isinstance(x, Tensor) for x in _tensors(structure)):
            return structure if isinstance(structure, dict) else list(structure)
        self.problem("", f"nested {what}, which a spec cannot say; use a list or a dict of tensors")
        return []

    def _all_uses(self, calls):
        uses, times = [], {}
        for call in calls:
            output, *others = tensors(call.outputs)
            if call.joins_masks:
                self._masks.add(output)
            elif isinstance(call.outputs, Sequence):
                self._masks.update(others)
            read = list(tensors((call.arguments, call.keywords)))
            values, masks = ([x for x in read if (x in self._masks) == is_mask] for is_mask in (False, True))
            number = times[call.operation] = times.get(call.operation, -1) + 1
            uses.append(LayerUse(call, number, values, masks, output))
        return uses

    def _refuse_further_outputs(self, uses, made_by):
        for x in [x for use in uses for x in use.values] + list(_tensors(self.outputs)):
            if x in made_by and x not in self._masks and x is not made_by[x].output:
                self.problem(made_by[x].layer.name, "it has several outputs, of which a spec can say the first alone")

    def _pair_masks(self, uses, given):
        """The mask of each input that has one: the values in front of it, if it is read with them."""
        sources = {x: {x} for x in given}
        read_with = {}
        for use in uses:
            inputs, masks = (_union(sources.get(x, ()) for x in read) for read in (use.values, use.masks))
            sources[use.output] = masks if use.call.joins_masks else set() if use.takes_sequences else inputs
            for mask in masks if use.values else ():
                read_with.setdefault(mask, set()).update(inputs)
        paired = {}
        for before, x in zip([None, *given], given, strict=False):
            if x in self._masks:
                candidates = read_with.get(x, {before}) - paired.keys() - self._masks - {None}
                if not candidates:
                    self.problem(self.name(x), "it is the mask of no input")
                else:
                    paired[before if before in candidates else min(candidates, key=given.index)] = x
        return paired

    def _check_masks(self, uses):
        """Refuses uses that read another mask than a spec would give them."""
        masks = {x: {mask} for x, mask in self.mask_of.items()}
        for use in uses:
            carried = _union(masks.get(x, ()) for x in use.values)
            read = _union(masks.get(x, [x]) for x in use.masks)
            if use.call.joins_masks:
                masks[use.output] = read
            elif not use.takes_sequences:
                masks[use.output] = carried
            else:
                if read != carried:
                    self.problem(use.layer.name, "it reads a mask that is not the mask of its values")
                masks[use.output] = set(tensors(use.call.outputs)) & self._masks if use.masks else set()

    def previous(self, i: int) -> Tensor | None:
        """What the use `i` reads where it does not say: the output of the one before, or the only input."""
        if i:
            return self.uses[i - 1].output
        return self.inputs[0] if len(self.inputs) == 1 else None

    def first_use(self, layer: Any) -> LayerUse:
        """The use of a layer that others share."""
        return next(use for use in self.uses if use.layer is layer)

    @property
    def says_outputs(self) -> bool:
        """Whether the outputs are others than a spec has by itself: the last layer's."""
        return self.outputs != [self.uses[-1].output]

    def _needed_ids(self):
        again = [use for use in self.uses if use.number]
        named = {self.first_use(use.layer).output for use in again} | {use.output for use in again} | {*self.inputs}
        if self.says_outputs:
            named |= {*_tensors(self.outputs)}
        for i, use in enumerate(self.uses):
            if use.values != [self.previous(i)]:
                named |= set(use.values)
        wanted = {x: "input" if self.inputs == [x] else self.name(x) for x in self.inputs}
        wanted |= {use.output: f"{use.layer.name}.{use.number}" if use.number else use.layer.name for use in self.uses}
        ids, taken = {}, set()
        for x, name in wanted.items():
            if x in named:
                while name in taken:
                    name += "_"
                taken.add(name)
                ids[x] = name
        return ids


def _depth_first(graph) -> list[Call]:
    """The calls in the order in which the outputs need them: branches one after the other, as people write them."""
    made_by = {x: i for i, call in enumerate(graph.calls) for x in tensors(call.outputs)}
    order = {}
    waiting = [made_by[x] for x in tensors(graph.outputs) if x in made_by][::-1]
    while waiting:
        i = waiting[-1]
        missing = [made_by[x] for x in graph.calls[i].inputs if x in made_by and made_by[x] not in order]
        if missing:
            waiting += missing[::-1]
        else:
            order[waiting.pop()] = graph.calls[i]
    return list(order.values())


def _tensors(ends) -> Iterable[Tensor]:
    return ends.values() if isinstance(ends, dict) else ends


def _union(sets) -> set:
    return set().union(*sets)
