"""`dump_spec`: a Keras model to the spec that builds it again."""

import json
import math
import re

import keras
import numpy as np

from . import catalog
from .emit import emit
from .errors import Problem, SpecError
from .migrations import VERSION
from .names import Names, snake_case

_TENSOR = "__keras_tensor__"


def dump_spec(model) -> str:
    """The YAML spec of a model of registered layers: `load_spec` of it builds the model again, with new weights.

    Arguments that have their defaults are left out, and so are names that `load_spec` gives by itself. Blocks and
    variables of a spec that the model came from are written out. Weights are not part of a spec.

    Args:
        model: a built `keras.Sequential` or functional model, loaded from a spec or made in Python.

    Raises:
        SpecError: all that a spec cannot say, by layer: layers that are not registered, functions as arguments, nested
            models, operations without a layer.
        TypeError: something else than such a model.

    Example:
        >>> import kseq, keras
        >>> print(kseq.dump_spec(keras.Sequential([keras.Input((None, 4)), kseq.GRU(8, name="memory")])))
        kseq: 1
        name: sequential
        input: {shape: [null, 4]}
        layers:
          - GRU: {name: memory, units: 8}
        <BLANKLINE>
    """
    if not isinstance(model, keras.Sequential) and not hasattr(model, "operations"):
        raise TypeError(
            f"expected a sequential or functional Keras model; received {model!r} of {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(f"the model {model.name!r} must be built before it has a spec: give it a keras.Input")
    writer = _Writer(as_functional(model).get_config())
    data = writer.spec()
    if model.compiled:
        data |= {"compile": writer.compile(model.get_compile_config())}
    writer.check()
    return emit(data)


def as_functional(model):
    """A sequential model as the functional one of the same layers."""
    if not isinstance(model, keras.Sequential):
        return model
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


class _Writer:
    """Writes one model; what cannot be written is gathered."""

    def __init__(self, config):
        self.config = config
        self.problems = []
        self.layers = {layer["name"]: layer for layer in config["layers"]}

    def check(self):
        if self.problems:
            raise SpecError(self.problems)

    def problem(self, layer, message, hint=None):
        self.problems.append(Problem(message, layer, hint, f"the model {self.config['name']!r}"))

    # The graph. A value is [layer, which call of it, which output]; of a layer's sequence 0 are the values, 1 the mask.

    def spec(self):
        calls = self.calls()
        masks = self.mask_inputs(calls)
        self.masks = {(name, 0, 0): frozenset([(masks[name], 0, 0)]) for name in masks}
        for call in calls:
            self.follow_mask(call)
        calls = [call for call in calls if call["type"] != "LogicalAnd"]
        self.ids = self.needed_ids(calls, masks)
        inputs = {name: self.input(name, masks.get(name)) for name in self.inputs() if name not in masks.values()}
        layers = [self.layer_entry(call, i, calls) for i, call in enumerate(calls)]
        self.check()
        _drop_automatic_names(inputs, layers)
        data = {"kseq": VERSION, "name": self.config["name"]}
        if len(inputs) == 1:
            data["input"] = next(iter(inputs.values()))
        else:
            data["inputs"] = {name: {k: v for k, v in one.items() if k != "name"} for name, one in inputs.items()}
        data["layers"] = layers
        outputs = self.outputs()
        if outputs != [calls[-1]["key"]]:
            data["outputs"] = [self.ids[key] for key in outputs]
        return data

    def inputs(self):
        return [name for name, layer in self.layers.items() if layer["class_name"] == "InputLayer"]

    def outputs(self):
        found = self.config["output_layers"]
        return [tuple(end) for end in ([found] if isinstance(found[0], str) else found)]

    def calls(self):
        """Every call of a layer, each after those whose outputs it reads."""
        waiting = []
        for name, layer in self.layers.items():
            for i, node in enumerate(layer["inbound_nodes"]):
                arguments = (node["args"], {k: v for k, v in node["kwargs"].items() if v is not None})
                reads = list(_tensors(arguments))
                waiting.append(
                    {"key": (name, i, 0), "type": layer["class_name"], "arguments": arguments, "reads": reads}
                )
        calls, known = [], {(name, 0) for name in self.inputs()}
        while waiting:
            ready = next(call for call in waiting if all(key[:2] in known for key in call["reads"]))
            waiting.remove(ready)
            known.add(ready["key"][:2])
            calls.append(ready)
        return calls

    def values(self, call):
        """The values that a call reads, without the masks of sequences."""
        return [key for key in call["reads"] if not self.is_mask(key)]

    def is_mask(self, key):
        layer = self.layers[key[0]]
        if layer["class_name"] == "InputLayer":
            config = layer["config"]
            return config["dtype"] == "bool" and len(config["batch_shape"]) == 2
        return key[2] == 1 or layer["class_name"] == "LogicalAnd"

    def mask_inputs(self, calls):
        """The input that is the mask of an input's values, by name, as a layer first reads the two as a sequence."""
        source = {(name, 0, 0): name for name in self.inputs()}
        masks = {}
        for call in calls:
            values = self.values(call)
            if values and not self.takes_sequences(call):
                source[call["key"]] = source.get(values[0])
            for mask in call["reads"]:
                if self.layers[mask[0]]["class_name"] == "InputLayer" and self.is_mask(mask) and values:
                    masks.setdefault(source.get(values[0]), mask[0])
        return {k: v for k, v in masks.items() if k is not None}

    def takes_sequences(self, call):
        return self.layers[call["key"][0]]["registered_name"] is not None

    def follow_mask(self, call):
        """Records the mask that the loader gives a call's output, and refuses a call that reads another."""
        values, given = self.values(call), [key for key in call["reads"] if self.is_mask(key)]
        carried = frozenset().union(*(self.masks.get(key, ()) for key in values))
        read = frozenset().union(*(self.masks.get(key, frozenset([key])) for key in given))
        if call["type"] == "LogicalAnd":
            self.masks[call["key"]] = read
        elif self.takes_sequences(call):
            if read != carried:
                self.problem(call["key"][0], "it reads a mask that is not the mask of its values")
            self.masks[call["key"]] = frozenset([(*call["key"][:2], 1)]) if given else frozenset()
        else:
            self.masks[call["key"]] = carried

    def needed_ids(self, calls, masks):
        """A name for every value that is read by another layer than the next, or that is an output."""
        named = {call["key"] for call in calls if call["key"][1]}  # further uses of a layer, and its first
        named |= {(*key[:1], 0, 0) for key in named}
        outputs = self.outputs()
        if outputs != [calls[-1]["key"]]:
            named |= set(outputs)
        previous = self.first_value(masks)
        for call in calls:
            values = self.values(call)
            if values != [previous]:
                named |= set(values)
            previous = call["key"]
        ids = {key: key[0] if not key[1] else f"{key[0]}.{key[1]}" for key in named}
        only = self.first_value(masks)
        return ids if only is None else ids | {only: "input"}

    def first_value(self, masks):
        values = [name for name in self.inputs() if name not in masks.values()]
        return (values[0], 0, 0) if len(values) == 1 else None

    def input(self, name, mask):
        config = self.layers[name]["config"]
        if config["batch_shape"][0] is not None:
            self.problem(name, f"an input has any batch size; received {config['batch_shape'][0]}")
        found = {"name": name, "shape": list(config["batch_shape"][1:])}
        if config["dtype"] != "float32":
            found["dtype"] = config["dtype"]
        if mask is not None:
            found["mask"] = mask == f"{name}_mask" or mask
        return found

    def layer_entry(self, call, i, calls):
        name, number, _ = call["key"]
        layer = self.layers[name]
        type_ = self.type_of(layer, name)
        if type_ is None:
            return {}
        extra = [value for value in call["arguments"][1] if value not in ("mask", "training")]
        if extra or call["arguments"][1].get("training"):
            self.problem(name, "it is called with arguments beside its inputs")
        own = {}
        if call["key"] in self.ids:
            own["id"] = self.ids[call["key"]]
        values = self.values(call)
        previous = calls[i - 1]["key"] if i else self.only_input()
        if values != [previous]:
            own["inputs"] = [self.ids[key] for key in values]
        if number:
            return {type_.name: own | {"share": self.ids[name, 0, 0]}}
        return {type_.name: own | self.arguments(type_, layer["config"], name)}

    def only_input(self):
        return next((key for key, id_ in self.ids.items() if id_ == "input"), None)

    # Layers and their arguments.

    def type_of(self, serialized, where):
        """The type of a serialised layer, or `None` where a spec cannot name it."""
        registered, name = serialized["registered_name"], serialized["class_name"]
        if registered is not None:
            cls = keras.saving.get_registered_object(registered)
        else:
            cls = getattr(keras.layers, name, None) if serialized["module"] == "keras.layers" else None
        found = None if cls is None else catalog.name_of(cls)
        if found is None:
            hint = "register it with `kseq.register`"
            if serialized["module"].startswith("keras"):
                hint = "write its layers with kseq.Serial" if name in ("Sequential", "Functional") else "use a layer"
            self.problem(where, f"a spec cannot name the {name}", hint)
            return None
        return catalog.find(found)

    def arguments(self, type_, config, where):
        """The arguments of a type that have not their defaults."""
        known = {name: config[name] for name in type_.arguments if name in config}
        needed = _needed(type_, known)
        if known.get("dtype") and _policy(known["dtype"]) == keras.config.dtype_policy().name:
            needed.discard("dtype")
        found = {name: self.plain(value, f"{where}.{name}") for name, value in known.items() if name in needed}
        # Layers last: they are the long ones.
        return dict(sorted(found.items(), key=lambda item: (item[0] != "name", _holds_objects(item[1]))))

    def plain(self, value, where):
        """A serialised value as a spec writes it."""
        if isinstance(value, (list, tuple)):
            return [self.plain(item, where) for item in value]
        if isinstance(value, np.ndarray):
            return self.plain(value.tolist(), where)
        if isinstance(value, str):
            return f"${value}" if value.startswith("$") else value
        if isinstance(value, float):
            return _short(value)
        if not isinstance(value, dict):
            return value
        if value.get("class_name") == "__tuple__":
            return [self.plain(item, where) for item in value["config"]["value"]]
        if "class_name" not in value:
            return {key: self.plain(item, where) for key, item in value.items()}
        if value["class_name"] == "DTypePolicy":
            return _policy(value)
        return self.object(value, where)

    def object(self, value, where):
        """A serialised object: a layer, or one of Keras's."""
        module, name = value["module"] or "", value["class_name"]
        parent = {
            "keras.initializers": keras.initializers,
            "keras.regularizers": keras.regularizers,
            "keras.constraints": keras.constraints,
            "keras.optimizers": keras.optimizers,
            "keras.optimizers.schedules": keras.optimizers.schedules,
            "keras.losses": keras.losses,
            "keras.metrics": keras.metrics,
        }.get(module)
        if parent is None and module.startswith("keras.src.backend"):
            parent = keras.optimizers  # the torch backend has its own
        if parent is not None and value["registered_name"] in (None, name) and hasattr(parent, name):
            type_ = catalog.object_type(getattr(parent, name))
            arguments = self.arguments(type_, value["config"], where)
            if re.fullmatch(rf"({name}|{snake_case(name)}|{name.lower()})(_\d+)?", str(arguments.get("name"))):
                del arguments["name"]  # Keras's own
            return {name: arguments} if arguments or parent is keras.optimizers.schedules else name
        if name == "function" or "config" not in value or not isinstance(value["config"], dict):
            self.problem(where, "a spec cannot hold a function", "register a layer that calls it")
            return None
        type_ = self.type_of(value, where)
        return None if type_ is None else {type_.name: self.arguments(type_, value["config"], where)}

    def compile(self, config):
        defaults = {"steps_per_execution": 1, "run_eagerly": False}
        found = {}
        for key, value in config.items():
            if value is None or defaults.get(key, ...) == value or key == "jit_compile":
                continue
            found[key] = self.plain(value, f"compile.{key}")
        for key in found.keys() - set(_COMPILE):
            self.problem(f"compile.{key}", "a spec does not say this")
        self.check()
        return found


_COMPILE = ("optimizer", "loss", "loss_weights", "metrics", "weighted_metrics", "steps_per_execution")


def _tensors(tree):
    """[layer, call, output] of every tensor in a call's arguments, in order."""
    if isinstance(tree, dict) and tree.get("class_name") == _TENSOR:
        yield tuple(tree["config"]["keras_history"])
    elif isinstance(tree, (dict, list, tuple)):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from _tensors(item)


def _drop_automatic_names(inputs, layers):
    """Leave out names that the loader gives by itself."""
    entries = []  # (arguments, label) in the order in which the loader names them

    def walk(layer):
        ((type_, arguments),) = layer.items()
        for value in arguments.values():
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, dict) and len(child) == 1 and isinstance(next(iter(child.values())), dict):
                    walk(child)
        if "name" in arguments:
            entries.append((arguments, snake_case(type_.rpartition(".")[2])))

    if len(inputs) == 1:
        entries.append((next(iter(inputs.values())), "input_layer"))
    for layer in layers:
        walk(layer)
    names = {id(arguments): arguments["name"] for arguments, _ in entries}
    explicit = set() if len(inputs) == 1 else set(inputs)
    while True:  # a name that must stay may take an automatic one from another layer
        automatic, found = Names(explicit), set(explicit)
        for arguments, label in entries:
            name = names[id(arguments)]
            if name not in explicit and automatic.peek(label) == name:
                automatic.take(label)
            else:
                found.add(name)
        if found == explicit:
            break
        explicit = found
    for arguments, _ in entries:
        if arguments["name"] not in explicit:
            del arguments["name"]


def _needed(type_, config) -> set[str]:
    """The names of the arguments that, given alone, make an object of this configuration."""
    needed = {name for name in config if type_.arguments[name].required or name == "name"}
    while True:  # a default may follow from another argument, as the strides of pooling do
        try:
            made = type_.described(**{name: _deserialized(config[name]) for name in needed}).get_config()
        except Exception:  # arguments that make sense only together are all written
            return set(config)
        missing = {name for name in config if name not in needed and not _same(config[name], made.get(name))}
        if not missing:
            return needed
        needed |= missing


def _deserialized(value):
    return keras.saving.deserialize_keras_object(value) if isinstance(value, (dict, list, tuple)) else value


def _holds_objects(value):
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _same(value, default):
    return json.dumps(value, default=repr, sort_keys=True) == json.dumps(default, default=repr, sort_keys=True)


def _policy(value):
    return value["config"]["name"] if isinstance(value, dict) else value


def _short(value):
    """The shortest number that is the same in float32, where Keras has been there, or the number itself."""
    if not math.isfinite(value) or float(np.float32(value)) != value:
        return value
    return float(str(np.float32(value)))
