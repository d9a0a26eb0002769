"""`dump_spec`: a Keras model to the spec that builds it again."""

import dataclasses
import json
import math
import re

import keras
import numpy as np

from . import catalog
from .check import check
from .emit import emit
from .errors import Problem, SpecError
from .graph import Graph
from .migrations import VERSION
from .names import Names, snake_case
from .node import DEFAULT_LIMITS
from .reader import read
from .training import compile_kinds


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
        ValueError: a model that is not built.

    Example:
        >>> import kseq, keras
        >>> layers = [keras.Input((None, 4), name="frames"), kseq.GRU(8, name="memory")]
        >>> print(kseq.dump_spec(keras.Sequential(layers, name="tagger")))
        kseq: 1
        name: tagger
        input: {name: frames, shape: [null, 4]}
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
    _check_shared(model, writer)
    data = writer.spec()
    if model.compiled:
        data |= {"compile": writer.compile(model.get_compile_config())}
    writer.check()
    text = emit(data)
    _check_readable(text, writer)
    return text


def _check_shared(model, writer):
    """Refuses layers that are within several others, whose weights a spec would not share."""
    seen = set()

    def visit(layer):
        for child in getattr(layer, "sublayers", ()):
            if id(child) in seen:
                writer.problem(child.name, "its weights are shared by layers that hold it, which a spec cannot say")
            seen.add(id(child))
            visit(child)

    seen |= {id(layer) for layer in model.layers}
    for layer in model.layers:
        visit(layer)


def _check_readable(text, writer):
    """Refuses to give a text that would not be read again."""
    limits = dataclasses.replace(DEFAULT_LIMITS, **dict.fromkeys(("bytes", "nodes", "layers", "repeats"), 10**9))
    tree, problems = read(text, limits)
    try:
        check(tree, problems, limits)
        problems.check()
    except SpecError as error:
        for problem in error.problems:
            writer.problem(problem.path, problem.message, problem.hint)
        writer.check()


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

    def check(self):
        if self.problems:
            raise SpecError(self.problems)

    def problem(self, layer, message, hint=None):
        self.problems.append(Problem(message, layer, hint, f"the model {self.config['name']!r}"))

    def spec(self):
        graph = Graph(self.config, self.problem)
        self.check()
        inputs = [self.input(name, graph.layers[name]["config"], graph.mask_of.get(name)) for name in graph.inputs]
        layers = [self.layer_entry(graph, i) for i in range(len(graph.calls))]
        self.check()
        _drop_automatic_names(inputs, layers)
        data = {"kseq": VERSION, "name": self.plain(self.config["name"], "name")}
        if len(inputs) == 1:
            data["input"] = inputs[0]
        else:
            data["inputs"] = {one.pop("name"): one for one in inputs}
        data["layers"] = layers
        if graph.outputs != [graph.calls[-1].key]:
            data["outputs"] = [graph.ids[key] for key in graph.outputs]
        return data

    def input(self, name, config, mask):
        if config["batch_shape"][0] is not None:
            self.problem(name, f"an input has any batch size; received {config['batch_shape'][0]}")
        for option in ("sparse", "ragged", "optional"):
            if config.get(option):
                self.problem(name, f"a spec cannot say that an input is {option}")
        found = {"name": name, "shape": list(config["batch_shape"][1:])}
        if config["dtype"] != "float32":
            found["dtype"] = config["dtype"]
        if mask is not None:
            found["mask"] = mask == f"{name}_mask" or mask
        return found

    def layer_entry(self, graph, i):
        call = graph.calls[i]
        name, number, _ = call.key
        type_ = self.type_of(graph.layers[name], name)
        if type_ is None:
            return {}
        if set(call.options) - {"mask", "training"} or call.options.get("training"):
            self.problem(name, "it is called with arguments beside its inputs")
        own = {"id": graph.ids[call.key]} if call.key in graph.ids else {}
        if call.values != [graph.previous(i)]:
            own["inputs"] = [graph.ids[key] for key in call.values]
        if number:
            return {type_.name: own | {"share": graph.ids[name, 0, 0]}}
        return {type_.name: own | self.arguments(type_, graph.layers[name]["config"], name)}

    # Layers and their arguments.

    def type_of(self, serialized, where):
        """The type of a serialised layer, or `None` where a spec cannot name it."""
        registered, name = serialized.get("registered_name"), serialized["class_name"]
        if registered is not None:
            cls = keras.saving.get_registered_object(registered)
        else:
            cls = getattr(keras.layers, name, None) if serialized.get("module") == "keras.layers" else None
        found = None if cls is None else catalog.name_of(cls)
        if found is None:
            hint = "register it with `kseq.register`"
            if str(serialized.get("module")).startswith("keras"):
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
        if value["class_name"] == "__numpy__":
            return self.plain(value["config"]["value"], where)
        if value["class_name"] == "DTypePolicy":
            return _policy(value)
        return self.object(value, where)

    def object(self, value, where):
        """A serialised object: a layer, or one of Keras's."""
        module, name = value.get("module") or "", value["class_name"]
        parent = {
            "keras.initializers": keras.initializers,
            "keras.regularizers": keras.regularizers,
            "keras.constraints": keras.constraints,
            "keras.optimizers": keras.optimizers,
            "keras.optimizers.schedules": keras.optimizers.schedules,
            "keras.losses": keras.losses,
            "keras.metrics": keras.metrics,
        }.get(module)
        if parent is not None and value.get("registered_name") in (None, name) and hasattr(parent, name):
            type_ = catalog.object_type(getattr(parent, name))
            arguments = self.arguments(type_, value["config"], where)
            if re.fullmatch(rf"({name}|{snake_case(name)}|{name.lower()})(_\d+)?", str(arguments.get("name"))):
                del arguments["name"]  # Keras's own
            return {name: arguments} if arguments or parent is keras.optimizers.schedules else name
        if name in ("function", "__lambda__") or not isinstance(value.get("config"), dict):
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
            if key == "optimizer":
                value = value | {"module": "keras.optimizers"}  # the torch backend has classes of its own
            found[key] = self.plain(value, f"compile.{key}")
        for key in found.keys() - compile_kinds(()):
            self.problem(f"compile.{key}", "a spec does not say this")
        self.check()
        return found


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
        entries.append((inputs[0], "input_layer"))
    for layer in layers:
        walk(layer)
    names = {id(arguments): arguments["name"] for arguments, _ in entries}
    explicit = set() if len(inputs) == 1 else {one["name"] for one in inputs}
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
