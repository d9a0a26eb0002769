"""The positioned tree to a plan: names, arguments, variables, blocks and limits checked, all problems gathered."""

from ..version import __version__
from .errors import did_you_mean, shorten, shown
from .kinds import BOOLEAN, DTYPES, INTEGER, NAME, NULL, NUMBER, TEXT, Choice, Either, ListOf, Object
from .layer_plans import Layers
from .migrations import VERSION, migrate
from .node import UNKNOWN, Node
from .plan import Call, InputPlan, SpecPlan
from .values import CALL_KEYS, listed

_SECTIONS = ("kseq", "name", "vars", "blocks", "input", "inputs", "layers", "outputs", "compile")
_INPUT_KEYS = ("shape", "dtype", "name", "mask")
_LONGEST_RANK = 8
_LOSS = Object("loss")
_METRICS = ListOf(Either(Object("metric"), ListOf(Object("metric"))))
COMPILE = {
    "optimizer": Object("optimizer"),
    "loss": Either(_LOSS, ListOf(_LOSS)),
    "loss_weights": ListOf(NUMBER),
    "metrics": _METRICS,
    "weighted_metrics": _METRICS,
    "steps_per_execution": INTEGER,
    "jit_compile": Either(BOOLEAN, Choice(["auto"])),
}
SHAPE = ListOf(Either(INTEGER, NULL))


def check(tree: Node, problems, limits, variables=None) -> SpecPlan:
    """The plan of a spec's tree, without the layers that are wrong: what is wrong with them is in `problems`.

    Args:
        tree: as read.
        problems: the collector that goes with it.
        limits: how large the model may be.
        variables: a tree of values that replace those of `vars`.

    Raises:
        SpecError: what makes the rest meaningless, and limits.
    """
    checker = _Checker(problems, limits)
    return checker.spec(checker.version(tree), variables)


class _Checker(Layers):
    """The sections of a spec."""

    def __init__(self, problems, limits):
        super().__init__(problems, limits)
        self.connected = True  # whether all that layers read is known

    def version(self, tree):
        if not isinstance(tree.value, dict):
            self.problems.stop(
                f"a spec is a mapping with the keys kseq, input and layers; received {shown(tree.value)}", tree
            )
        node = tree.value.get("kseq")
        if node is None:
            self.problems.stop("the key `kseq` is missing", tree, hint=f"begin with `kseq: {VERSION}`")
        version = node.value
        if type(version) is not int or version < 1:
            self.problems.stop(f"must be the format's version, {VERSION}; received {shown(version)}", node, "kseq")
        if version > VERSION:
            message = (
                f"the format's version {version} needs a newer kseq; this one ({__version__}) reads up to {VERSION}"
            )
            self.problems.stop(message, node, "kseq", hint="pip install --upgrade kseq")
        return migrate(tree, version)

    def spec(self, tree, variables):
        self.meant = self.keys(tree, _SECTIONS, "")
        parts = tree.value
        self.vars = self.variables(parts.get("vars"), variables)
        name = self.substitute(parts["name"], self.vars, "name") if "name" in parts else None
        self.define_blocks(parts.get("blocks"))
        inputs = self.inputs(tree)
        calls = self.calls(parts.get("layers"), tree, inputs)
        self.unused_blocks()
        self.names(calls, inputs)
        outputs = self.outputs(parts.get("outputs"), calls, inputs)
        options = parts.get("compile")
        compiled = None if options is None else self.options(self.substitute(options, self.vars, "compile"))
        model_name = "model" if name is None else self.value(NAME, name, "name")
        return SpecPlan(model_name, inputs, calls, outputs, compiled, name or tree)

    def variables(self, given, replaced):
        found = {}
        replaced = {} if replaced is None else dict(replaced.value)
        for key, node in self.mapping(given, "vars").items():
            if not key.isidentifier():
                self.problem(f"a variable's name is a word; received {shown(key)}", given.keys[key], "vars")
            elif key in (*CALL_KEYS, "name"):
                self.problem(
                    f"`{key}` has a meaning of its own; give the variable another name", given.keys[key], "vars"
                )
            found[key] = self.substitute(replaced.pop(key, node), found, f"vars.{shorten(key)}")
        for key in replaced:
            hint = did_you_mean(key, found)
            self.problem(f"unknown variable `{shorten(key)}`; the spec has {listed(found)}", None, "vars", hint)
        return found

    def define_blocks(self, given):
        for key, node in self.mapping(given, "blocks").items():
            place = given.keys[key]
            if not key.isidentifier():
                self.problem(f"a block's name is a word; received {shown(key)}", place, "blocks")
            elif self.find(key, place, "blocks") is not None:
                self.problem(f"`{key}` is a layer type; give the block another name", place, "blocks")
            else:
                self.blocks[key] = node

    def unused_blocks(self):
        """Checks each block that no layer uses by itself; blocks within it are not followed."""
        self.expands, self.layers = False, 0
        for key in self.blocks.keys() - self.used:
            path = f"blocks.{key}"
            self.layer_list(self.substitute(self.blocks[key], self.vars, path), path)

    def names(self, calls, inputs):
        """Checks that names that are given to layers and inputs are given once."""
        taken = {plan.name: plan.path for plan in inputs if plan.name}
        for call in calls:
            name = call.layer.arguments.get("name") if call.layer else None
            if name in taken:
                place = call.layer.places["name"]
                self.problem(f"the name `{shorten(name)}` is taken by {taken[name]}", place, f"{call.path}.name")
            elif name is not None:
                taken[name] = call.path

    def inputs(self, tree):
        parts = tree.value
        if ("input" in parts) == ("inputs" in parts):
            received = "both" if "input" in parts else "neither"
            if not self.meant & {"input", "inputs"}:
                self.problem(f"a spec has either `input` or `inputs`; received {received}", tree)
            return []
        if "input" in parts:
            return [self.input("input", parts["input"], "input")]
        node = self.substitute(parts["inputs"], self.vars, "inputs")
        named = self.mapping(node, "inputs")
        if named == {} and isinstance(node.value, dict):
            self.problem("must name at least one input", node, "inputs")
        for key in named:
            if key.startswith("#") or not key:
                self.problem(
                    f"an id is not empty and does not begin with `#`; received {shown(key)}", node.keys[key], "inputs"
                )
        return [self.input(key, node, f"inputs.{key}") for key, node in named.items()]

    def input(self, key, node, path):
        node = self.substitute(node, self.vars, path)
        parts = self.mapping(node, path)
        meant = self.keys(node, _INPUT_KEYS, path)
        shape = [None]
        if "shape" not in parts:
            if isinstance(node.value, dict) and "shape" not in meant:
                self.problem("the key `shape` is missing", node, path, "write `shape: [null, channels]`")
        else:
            before = self.wrong
            shape = self.value(SHAPE, parts["shape"], f"{path}.shape") or []
            if self.wrong > before:
                shape = [None]
            elif not 1 <= len(shape) <= _LONGEST_RANK or any(isinstance(n, int) and n < 1 for n in shape):
                message = "must be [time, channels, ...] with sizes of at least 1, or null for any number of steps"
                self.problem(f"{message}; received {parts['shape'].plain()!s:.60}", parts["shape"], f"{path}.shape")
            elif None in shape[1:]:
                self.problem("only time may be null", parts["shape"], f"{path}.shape")
        dtype = self.part(parts, "dtype", Choice(DTYPES), "float32", path)
        name = self.part(parts, "name", NAME, None if key == "input" else key, path)
        mask = self.part(parts, "mask", Either(BOOLEAN, NAME), False, path)
        return InputPlan(key, name, tuple(shape), dtype, mask, node, path)

    def calls(self, node, tree, inputs):
        if node is None:
            if "layers" not in self.meant:
                self.problem("the key `layers` is missing", tree)
            return []
        node = self.substitute(node, self.vars, "layers")
        known = {plan.id: None for plan in inputs}
        previous = inputs[0].id if len(inputs) == 1 else None
        calls = []
        if not isinstance(node.value, list) or not node.value:
            self.problem(
                f"must be a list of layers; received {'none' if node.value == [] else shown(node.value)}",
                node,
                "layers",
            )
            return []
        for i, item in enumerate(node.value):
            call = self.call(item, f"layers[{i}]", known, previous, f"#{i}")
            calls.append(call)
            known[call.id] = call
            previous = call.id
        return calls

    def call(self, item, path, known, previous, fallback):
        own, rest = self.split_call(item, path)
        at = next(iter(item.keys.values()), item) if isinstance(item.value, dict) else item
        id_ = self.part(own, "id", NAME, None, path) or fallback
        if id_.startswith("#") and id_ != fallback:
            self.problem("an id does not begin with `#`", own["id"], f"{path}.id")
        elif id_ in known and "id" in own:
            self.problem(f"the id `{shorten(id_)}` is taken", own["id"], f"{path}.id")
        if "inputs" in own:
            found = self.value(ListOf(TEXT), own["inputs"], f"{path}.inputs")
            if found == []:
                self.problem("must name at least one input", own["inputs"], f"{path}.inputs")
            found = found or []
            for i, name in enumerate(found):
                if isinstance(name, str) and not self.known(name, known):
                    self.unknown_id(name, own["inputs"].value[i], f"{path}.inputs[{i}]", known)
            self.connected &= bool(found)
        elif previous is None:
            if known:  # what the inputs are is known
                message = "the first layer of a spec with several inputs must say which it reads"
                self.problem(message, at, path, "write `inputs: [id]`")
            self.connected = False
            found = []
        else:
            found = [previous]
        share = self.part(own, "share", TEXT, None, path)
        layer = self.layer(rest, path) if share is None else None
        if share is not None:
            self.shared(share, own["share"], rest, path, known)
        named = f"{path}.{shorten(at.value)}" if isinstance(at.value, str) else path
        return Call(layer, share, id_, found, at, named)

    def shared(self, share, node, item, path, known):
        """Checks a second use of a layer."""
        name, place, given = self.pair(item, path, "layer")
        original = known.get(share) if self.known(share, known) else None
        if original is None or original.layer is None:
            self.unknown_id(share, node, f"{path}.share", [k for k, call in known.items() if call and call.layer])
        elif name is not None and (
            given.value or getattr(self.find(name, place, path), "make", None) != original.layer.make
        ):
            problem = "a layer that is used again has the type of the first use, and no arguments"
            self.problem(problem, place, path)

    @staticmethod
    def known(name, known):
        return name in known and not name.startswith("#")

    def unknown_id(self, name, node, path, known):
        self.connected = False
        ids = [key for key in known if not key.startswith("#")]
        self.problem(f"unknown id `{shorten(name)}`; known here are {listed(ids)}", node, path, did_you_mean(name, ids))

    def split_call(self, item, path):
        """A layer's `id`, `inputs` and `share`, and the layer without them."""
        if not isinstance(item.value, dict) or len(item.value) != 1:
            return {}, item
        ((name, arguments),) = item.value.items()
        if not isinstance(arguments.value, dict):
            return {}, item
        type_ = None if name in self.blocks else self.find(name, item.keys[name], path)
        mine = [k for k in CALL_KEYS if k in arguments.value and (type_ is None or k not in type_.arguments)]
        rest = {k: v for k, v in arguments.value.items() if k not in mine}
        rest = Node(rest, arguments.line, arguments.column, arguments.keys)
        return {k: arguments.value[k] for k in mine}, Node({name: rest}, item.line, item.column, item.keys)

    def outputs(self, node, calls, inputs):
        if not calls:
            return []
        if node is None:
            found = [calls[-1].id]
        else:
            node = self.substitute(node, self.vars, "outputs")
            before = self.wrong
            found = self.value(ListOf(TEXT), node, "outputs") or []
            self.connected &= node.value is not UNKNOWN and self.wrong == before
            known = {call.id: call for call in calls}
            for i, name in enumerate(found):
                if isinstance(name, str) and not self.known(name, known):
                    self.unknown_id(name, node.value[i], f"outputs[{i}]", known)
            if self.wrong == before and (not found or len(set(found)) < len(found)):
                self.problem("must name at least one layer, and none twice", node, "outputs")
        used = {name for call in calls for name in call.inputs} | set(found)
        if not self.connected:
            return found  # what is wrong with the connections may be all that is missing
        for plan in inputs:
            if plan.id not in used:
                self.problem("the input is not used", plan.node, plan.path)
        for call in calls:
            if call.id not in used:
                hint = "name it in `outputs`, or in the `inputs` of another layer"
                self.problem("the output of this layer is not used", call.node, call.path, hint)
        return found

    def options(self, node):
        parts = self.mapping(node, "compile")
        self.keys(node, COMPILE, "compile")
        found = {k: self.value(COMPILE[k], v, f"compile.{k}") for k, v in parts.items() if k in COMPILE}
        return found
