"""The graph in a functional model's configuration: calls of layers in order, what each reads, and whose mask is whose.

A value's key is (layer, which call of it, which output): of a layer's sequence, 0 are the values and 1 is the mask.
"""

import dataclasses


@dataclasses.dataclass
class GraphCall:
    """One call of a layer: its output, the values and masks that it reads, and what else it was given."""

    key: tuple
    values: list
    masks: list
    options: dict


class Graph:
    """What a spec says of a model's graph.

    Attributes:
        layers: configurations by name.
        calls: each after those whose outputs it reads; those that only join masks are left out.
        inputs: names of the inputs of values, in order.
        mask_of: by such a name the name of the input that is its mask.
        outputs: keys.
        ids: the keys that need a name in a spec, with the name.
    """

    def __init__(self, config, problem):
        self.layers = {layer["name"]: layer for layer in config["layers"]}
        self.problem = problem
        given = self._ends(config["input_layers"], "input")
        self.outputs = self._ends(config["output_layers"], "output")
        calls = self._ordered_calls()
        if not calls:
            problem("", "the model has no layers")
        for key in self.outputs:
            if key[2]:
                problem(key[0], "a mask is an output, which a spec cannot say")
        self.mask_of = self._pair_masks(calls, [key[0] for key in given])
        self.inputs = [key[0] for key in given if key[0] not in self.mask_of.values()]
        written = [name for value in self.inputs for name in (value, self.mask_of.get(value)) if name]
        if written != [key[0] for key in given]:
            problem("", f"the inputs must be {', '.join(written)}, in this order: a mask follows its values")
        self._check_masks(calls)
        self.calls = [call for call in calls if not self._joins_masks(call.key)]
        self.ids = self._needed_ids() if calls else {}

    def _ends(self, found, what):
        """The keys of the model's inputs or outputs: one key, or a list of them."""
        if isinstance(found, (list, tuple)) and found and isinstance(found[0], str):
            found = [found]
        if isinstance(found, dict) or not all(isinstance(key[0], str) for key in found):
            self.problem("", f"{what}s by name or nested, which a spec cannot say; use a list")
            return []
        return [tuple(key) for key in found]

    def _ordered_calls(self):
        waiting = []
        for name, layer in self.layers.items():
            for i, node in enumerate(layer["inbound_nodes"]):
                options = {k: v for k, v in node["kwargs"].items() if v is not None}
                keys = list(_tensors((node["args"], options)))
                values = [key for key in keys if not self._is_mask(key)]
                waiting.append(GraphCall((name, i, 0), values, [key for key in keys if self._is_mask(key)], options))
        calls, known = [], {(name, 0) for name, layer in self.layers.items() if not layer["inbound_nodes"]}
        while waiting:
            ready = next(c for c in waiting if all(key[:2] in known for key in (*c.values, *c.masks)))
            waiting.remove(ready)
            known.add(ready.key[:2])
            calls.append(ready)
        return calls

    def _is_mask(self, key):
        layer = self.layers[key[0]]
        if layer["class_name"] == "InputLayer":
            return layer["config"]["dtype"] == "bool" and len(layer["config"]["batch_shape"]) == 2
        return key[2] == 1 or self._joins_masks(key)

    def _joins_masks(self, key):
        return self.layers[key[0]]["class_name"] == "LogicalAnd"

    def takes_sequences(self, call):
        return self.layers[call.key[0]]["registered_name"] is not None

    def _pair_masks(self, calls, given):
        """The mask's input of each input that has one: the values in front of it, if it is read with them."""
        sources = {(name, 0, 0): {name} for name in given}
        read_with = {}
        for call in calls:
            inputs = set().union(*(sources.get(key, set()) for key in call.values))
            masks = set().union(*(sources.get(key, set()) for key in call.masks))
            sources[call.key] = masks if self._joins_masks(call.key) else set()
            if call.values and not self.takes_sequences(call):
                sources[call.key] = inputs
            for mask in masks if call.values else ():
                read_with.setdefault(mask, set()).update(inputs)
        paired = {}
        for before, name in zip([None, *given], given, strict=False):
            if self._is_mask((name, 0, 0)):
                candidates = read_with.get(name, {before}) - paired.keys() - {None}
                if not candidates:
                    self.problem(name, "it is the mask of no input")
                else:
                    paired[before if before in candidates else min(candidates, key=given.index)] = name
        return paired

    def _check_masks(self, calls):
        """Refuses calls that read another mask than a spec would give them."""
        masks = {(name, 0, 0): frozenset([(mask, 0, 0)]) for name, mask in self.mask_of.items()}
        for call in calls:
            carried = frozenset().union(*(masks.get(key, ()) for key in call.values))
            read = frozenset().union(*(masks.get(key, [key]) for key in call.masks))
            if self._joins_masks(call.key):
                masks[call.key] = read
            elif not self.takes_sequences(call):
                masks[call.key] = carried
            else:
                if read != carried:
                    self.problem(call.key[0], "it reads a mask that is not the mask of its values")
                masks[call.key] = frozenset([(*call.key[:2], 1)] if call.masks else [])

    def previous(self, i):
        """What the call `i` reads where it does not say: the call before, or the only input."""
        if i:
            return self.calls[i - 1].key
        return (self.inputs[0], 0, 0) if len(self.inputs) == 1 else None

    def _needed_ids(self):
        again = {call.key for call in self.calls if call.key[1]}  # further uses of a layer; they name the first
        named = again | {(key[0], 0, 0) for key in again}
        if self.outputs != [self.calls[-1].key]:
            named |= set(self.outputs)
        for i, call in enumerate(self.calls):
            if call.values != [self.previous(i)]:
                named |= set(call.values)
        named |= {(name, 0, 0) for name in self.inputs}
        ids, taken = {}, set()
        for key in sorted(named, key=lambda key: key[0] not in self.inputs):
            name = key[0] if not key[1] else f"{key[0]}.{key[1]}"
            if self.inputs == [name]:
                name = "input"
            while name in taken:
                name += "_"
            taken.add(name)
            ids[key] = name
        return ids


def _tensors(tree):
    """Keys of all the tensors in a call's arguments, in order."""
    if isinstance(tree, dict) and tree.get("class_name") == "__keras_tensor__":
        yield tuple(tree["config"]["keras_history"])
    elif isinstance(tree, (dict, list, tuple)):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(item)
