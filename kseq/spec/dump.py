"""`dump_spec`: a Keras model to the spec that builds it again."""

import dataclasses

import keras

from ..model_graph import read_model
from .check import check
from .emit import emit
from .errors import Problem, SpecError
from .graph import SpecGraph
from .migrations import VERSION
from .names import drop_automatic
from .node import DEFAULT_LIMITS
from .reader import read
from .training import compile_kinds
from .write_values import ValueWriter


def dump_spec(model: keras.Model) -> str:
    """The YAML spec of a model of registered layers: `load_spec` of it builds the model again, with new weights.

    Arguments that have their defaults are left out, and so are names that `load_spec` gives by itself. Blocks and
    variables of a spec that the model came from are written out. Weights are not part of a spec. Layers, and uses of a
    shared layer, stand in the order in which the outputs need them. Inputs and outputs may be single, lists or dicts; a
    list of one is written as the one, which Keras calls alike.

    Args:
        model: a built `keras.Sequential` or functional model, loaded from a spec or made in Python.

    Raises:
        SpecError: all that a spec cannot say, by layer: layers that are not registered, functions as arguments, nested
            models, operations without a layer, nested inputs or outputs.
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
    writer = _SpecWriter(model)
    graph = SpecGraph(read_model(model), writer.problem)
    writer.check_shared(graph)
    data = writer.spec(graph)
    if model.compiled:
        data |= {"compile": writer.compile(model.get_compile_config())}
    writer.check()
    text = emit(data)
    _check_readable(text, writer)
    return text


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


class _SpecWriter:
    """Writes one model; what cannot be written is gathered."""

    def __init__(self, model):
        self.model, self.problems = model, []
        self.values = ValueWriter(self.problem)

    def check(self):
        if self.problems:
            raise SpecError(self.problems)

    def problem(self, layer, message, hint=None):
        self.problems.append(Problem(message, layer, hint, f"the model {self.model.name!r}"))

    def check_shared(self, graph):
        """Refuses layers that are within several others, whose weights a spec would not share."""
        layers = [use.layer for use in graph.uses if not use.number]
        seen = set(layers)

        def visit(layer):
            for child in getattr(layer, "sublayers", ()):
                if child in seen:
                    self.problem(child.name, "its weights are shared by layers that hold it, which a spec cannot say")
                seen.add(child)
                visit(child)

        for layer in layers:
            visit(layer)

    def spec(self, graph):
        self.check()
        inputs = [self.input(graph, x) for x in graph.inputs]
        layers = [self.layer(graph, i) for i in range(len(graph.uses))]
        self.check()
        drop_automatic(inputs, layers)
        data = {"kseq": VERSION, "name": self.values.plain(self.model.name, "name")}
        if len(inputs) == 1:
            data["input"] = inputs[0]
        else:
            data["inputs"] = {one.pop("name"): one for one in inputs}
        if graph.inputs_by_name:
            data["inputs_by_name"] = True
        data["layers"] = layers
        if isinstance(graph.outputs, dict):
            data["outputs"] = {name: graph.ids[x] for name, x in graph.outputs.items()}
        elif graph.says_outputs:
            data["outputs"] = [graph.ids[x] for x in graph.outputs]
        return data

    def input(self, graph, x):
        name, mask = graph.name(x), graph.mask_of.get(x)
        batch_size, *shape = x.shape
        if batch_size is not None:
            self.problem(name, f"an input has any batch size; received {batch_size}")
        for option in ("sparse", "ragged", "optional"):
            if getattr(graph.input_layers[x], option, False):
                self.problem(name, f"a spec cannot say that an input is {option}")
        found = {"name": name, "shape": shape}
        if x.dtype != "float32":
            found["dtype"] = x.dtype
        if mask is not None:
            found["mask"] = graph.name(mask) == f"{name}_mask" or graph.name(mask)
        return found

    def layer(self, graph, i):
        use = graph.uses[i]
        name, serialized = use.layer.name, keras.saving.serialize_keras_object(use.layer)
        type_ = self.values.type_of(serialized, name)
        if type_ is None:
            return {}
        if use.has_options:
            self.problem(name, "it is called with arguments beside its inputs")
        own = {"id": graph.ids[use.output]} if use.output in graph.ids else {}
        if use.values != [graph.previous(i)]:
            own["inputs"] = [graph.ids[x] for x in use.values]
        if use.number:
            return {type_.name: own | {"share": graph.ids[graph.first_use(use.layer).output]}}
        return {type_.name: own | self.values.arguments(type_, serialized["config"], name)}

    def compile(self, config):
        defaults = {"steps_per_execution": 1, "run_eagerly": False}
        found = {}
        for key, value in config.items():
            if value is None or defaults.get(key, ...) == value or key == "jit_compile":
                continue
            if key == "optimizer":
                value = value | {"module": "keras.optimizers"}  # the torch backend has classes of its own
            found[key] = self.values.plain(value, f"compile.{key}")
        for key in found.keys() - compile_kinds(()):
            self.problem(f"compile.{key}", "a spec does not say this")
        self.check()
        return found
