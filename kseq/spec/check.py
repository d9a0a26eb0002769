"""The positioned tree to a plan: names, arguments, variables, blocks and limits checked, all problems gathered."""

import contextlib

import keras

from ..version import __version__
from . import catalog
from .errors import did_you_mean, shorten, shown
from .kinds import BOOLEAN, DTYPES, INTEGER, NAME, NULL, NUMBER, TEXT, Choice, Either, ListOf, Object
from .migrations import VERSION, migrate
from .names import snake_case
from .node import _RAISE, UNKNOWN, Node
from .plan import Call, InputPlan, LayerPlan, Plan, SpecPlan

_SECTIONS = ("kseq", "name", "vars", "blocks", "input", "inputs", "layers", "outputs", "compile")
_INPUT_KEYS = ("shape", "dtype", "name", "mask")
_CALL_KEYS = ("id", "inputs", "share")
_LONGEST_RANK = 8
_LARGEST_METRIC = 4096
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


class _Checker:
    def __init__(self, problems, limits):
        self.problems, self.limits = problems, limits
        self.wrong = 0  # how often something was found to be wrong, known or not
        self.vars, self.blocks = {}, {}
        self.types, self.failed = {}, {}  # that were looked up, and why plugins failed
        self.using, self.used = [], set()  # blocks: those around this place, and all that are used
        self.layers = self.nesting = self.expanded = 0
        self.repeats = 1
        self.expands = True  # whether uses of blocks are followed
        self.connected = True  # whether all that layers read is known

    def problem(self, *args):
        self.wrong += 1
        self.problems.add(*args)

    # The parts of a spec.

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
            elif key in (*_CALL_KEYS, "name"):
                self.problem(
                    f"`{key}` has a meaning of its own; give the variable another name", given.keys[key], "vars"
                )
            found[key] = self.substitute(replaced.pop(key, node), found, f"vars.{shorten(key)}")
        for key in replaced:
            hint = did_you_mean(key, found)
            self.problem(f"unknown variable `{shorten(key)}`; the spec has {_listed(found)}", None, "vars", hint)
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
            if key.startswith("#") or not key.strip():
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
        own, rest = self.split_call(item)
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
        self.problem(
            f"unknown id `{shorten(name)}`; known here are {_listed(ids)}", node, path, did_you_mean(name, ids)
        )

    def split_call(self, item):
        """A layer's `id`, `inputs` and `share`, and the layer without them."""
        if not isinstance(item.value, dict) or len(item.value) != 1:
            return {}, item
        ((name, arguments),) = item.value.items()
        if not isinstance(arguments.value, dict):
            return {}, item
        type_ = None if name in self.blocks else self.find(name, item.keys[name], "layers")
        mine = [k for k in _CALL_KEYS if k in arguments.value and (type_ is None or k not in type_.arguments)]
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

    # Layers.

    def layer_list(self, node, path):
        if node.value is UNKNOWN:
            self.wrong += 1
            return []
        if not isinstance(node.value, list):
            self.problem(f"must be a list of layers; received {shown(node.value)}", node, path)
            return []
        return [self.layer(item, f"{path}[{i}]") for i, item in enumerate(node.value)]

    def layer(self, node, path):
        """The plan of `Type: {arguments}`, or `None` where anything in it is wrong."""
        before = self.wrong
        plan = self.layer_plan(node, path)
        return plan if self.wrong == before else None

    def layer_plan(self, node, path):
        name, place, given = self.pair(node, path, "layer")
        if name is None:
            return None
        before = self.wrong
        self.count_layer(place, path)
        outer, path = path, f"{path}.{shorten(name)}"
        if name in self.blocks:
            return self.block(name, place, given, path)
        type_ = self.find(name, place, outer)
        if type_ is None:
            if self.wrong == before:  # no plugin's fault
                self.unknown_type(name, place, outer)
            return None
        self.nesting += 1
        with self.repeated(type_, given, path):
            plan = self.arguments(type_, place, given, path, LayerPlan)
        self.nesting -= 1
        if "name" in type_.arguments:
            plan.label = snake_case(type_.name.rpartition(".")[2])
        return plan

    def pair(self, node, path, what):
        """Name, its place, and the arguments of a mapping of one; `None` as the name where it is none."""
        if node.value is UNKNOWN:
            self.wrong += 1
            return None, None, None
        if isinstance(node.value, str):
            hint = f"write `{shorten(node.value)}: {{}}`"
            self.problem(f"a {what} is one `Type: {{arguments}}` pair; received {shown(node.value)}", node, path, hint)
        elif not isinstance(node.value, dict) or len(node.value) != 1:
            size = f"{len(node.value)} keys" if isinstance(node.value, dict) else shown(node.value)
            hint = None
            if isinstance(node.value, dict) and set(node.value) & {"id", "inputs", "share", "name"}:
                hint = "`id`, `inputs` and `name` belong into the arguments"
            self.problem(f"a {what} is one `Type: {{arguments}}` pair; received {size}", node, path, hint)
        else:
            ((name, given),) = node.value.items()
            if given.value is None:
                given = Node({}, given.line, given.column)
            if isinstance(given.value, dict):
                return name, node.keys[name], given
            self.problem(f"arguments are a mapping; received {shown(given.value)}", given, f"{path}.{shorten(name)}")
        return None, None, None

    def find(self, name, node, path):
        """The type of a name, or `None`; a plugin that fails is a problem."""
        if name not in self.types:
            try:
                self.types[name] = catalog.find(name)
            except catalog.PluginError as error:
                self.types[name] = None
                self.failed[name] = shorten(str(error))
        if name in self.failed:
            self.problem(self.failed[name], node, path)
        return self.types[name]

    def unknown_type(self, name, node, path):
        known = [*self.blocks, *catalog.type_names()]
        message = f"unknown layer type `{shorten(name)}`"
        if name in vars(keras.layers):
            message = f"Keras's `{name}` has no streaming form"
        self.problem(message, node, path, did_you_mean(name, known) or "`kseq layers` lists all")

    def arguments(self, type_, place, given, path, plan=Plan):
        """A plan of a type with its arguments checked."""
        values, places, meant = {}, {}, set()
        for key, node in given.value.items():
            argument = type_.arguments.get(type_.former.get(key, key))
            if argument is None:
                hint = did_you_mean(key, type_.arguments)
                meant |= {name for name in type_.arguments if hint and f"`{name}`" in hint}
                hint = hint or f"it takes {_listed(type_.arguments)}"
                if key in _CALL_KEYS:
                    hint = "only the layers of the model's own list have `id`, `inputs` and `share`"
                self.problem(f"unknown argument `{shorten(key)}`", given.keys.get(key), path, hint)
            elif argument.name in values:
                former = key if key != argument.name else next(k for k in given.value if type_.former.get(k) == key)
                message = f"`{former}` is a former name of `{argument.name}`, which is given too"
                self.problem(message, given.keys.get(key), path)
            else:
                values[argument.name] = self.value(argument.kind, node, f"{path}.{key}")
                places[argument.name] = node
        missing = [a.name for a in type_.arguments.values() if a.required and a.name not in {*values, *meant}]
        if missing:
            self.problem(f"missing argument{'s' * (len(missing) > 1)} {_listed(missing)}", place, path)
        return plan(type_.make, values, place, path, places)

    def record(self, cls, node, path):
        """The plan of a dataclass."""
        return self.arguments(catalog.object_type(cls), node, node, path)

    def block(self, name, place, given, path):
        self.used.add(name)
        if name in self.using:
            chain = " -> ".join([*self.using[self.using.index(name) :], name])
            self.problems.stop(f"the block contains itself: {chain}", place, path)
        own = {k: v for k, v in given.value.items() if k != "name"}
        for key in own:
            if key not in self.vars:
                known = [*self.vars, "name"]
                hint = did_you_mean(key, known) or f"a block's arguments replace `vars`, which are {_listed(self.vars)}"
                self.problem(f"unknown argument `{shorten(key)}`", given.keys.get(key), path, hint)
        children = []
        if self.expands:
            self.using.append(name)
            self.nesting += 1
            inner = f"{path}.layers"
            children = self.layer_list(self.substitute(self.blocks[name], self.vars | own, inner), inner)
            self.nesting -= 1
            self.using.pop()
        arguments = {"layers": children}
        if "name" in given.value:
            arguments["name"] = self.value(NAME, given.value["name"], f"{path}.name")
        places = {"name": given.value.get("name")}
        return LayerPlan(catalog.find("Serial").make, arguments, place, path, places, snake_case(name))

    @contextlib.contextmanager
    def repeated(self, type_, given, path):
        """Counts the layers within as often as they are repeated."""
        node, before = given.value.get("num_repeats"), self.repeats
        if "num_repeats" in type_.arguments and node is not None and type(node.value) is int:
            if node.value > self.limits.repeats:
                message = f"more than {self.limits.repeats} repeats; received {node.value}"
                self.problems.stop(message, node, f"{path}.num_repeats", f"{_RAISE} `repeats`")
            self.repeats *= max(node.value, 1)
        yield
        self.repeats = before

    def count_layer(self, node, path):
        self.layers += self.repeats
        if self.layers > self.limits.layers:
            self.problems.stop(
                f"more than {self.limits.layers} layers, repeats counted", node, path, f"{_RAISE} `layers`"
            )
        if self.nesting * 4 > self.limits.depth:
            message = f"layers nested more than {self.limits.depth // 4} deep"
            self.problems.stop(message, node, path, f"{_RAISE} `depth`")

    # Values.

    def value(self, kind, node, path):
        """The value of a node by its kind; `None` where it is wrong."""
        if node.value is UNKNOWN:
            self.wrong += 1  # and reported where it was looked up
            return None
        if kind.accepts(node):
            return kind.parse(node, path, self)
        self.problem(f"must be {kind.wanted}; received {shown(node.value)}", node, path, kind.hint(node))
        return None

    def object(self, role, node, path):
        """A name that Keras looks up, or the plan of one of a role's classes."""
        if isinstance(node.value, str):
            cls = role.classes.get(role.spelling.get(node.value, node.value))
            if cls is not None:
                return Plan(cls, {}, node, path)
            if node.value not in role.names:
                known = [*role.names, *role.classes]
                hint = did_you_mean(node.value, sorted(known))
                self.problem(f"unknown name of {role.wanted}: {shown(node.value)}", node, path, hint)
            return node.value
        name, place, given = self.pair(node, path, role.wanted.split()[-1])
        if name is None:
            return None
        if name not in role.classes:
            hint = did_you_mean(name, sorted(role.classes))
            self.problem(f"unknown name of {role.wanted}: {shown(name)}", place, path, hint)
            return None
        plan = self.arguments(catalog.object_type(role.classes[name]), place, given, f"{path}.{name}")
        if role.wanted == "a metric":
            for key, value in plan.arguments.items():
                if isinstance(value, int) and value > _LARGEST_METRIC:  # they allocate the square of some
                    message = f"must be at most {_LARGEST_METRIC} in a metric; received {value}"
                    self.problem(message, plan.places[key], f"{path}.{name}.{key}")
        return plan

    def substitute(self, node, scope, path):
        """The node with `$x` replaced by the variable `x`, at the place of `$x`; `$$` is a dollar sign."""
        self.expanded += 1
        if self.expanded > self.limits.nodes * 10:
            message = f"blocks and variables expand to more than {self.limits.nodes * 10} values"
            self.problems.stop(message, node, hint=f"{_RAISE} `nodes`")
        value = node.value
        if isinstance(value, list):
            items = [self.substitute(item, scope, f"{path}[{i}]") for i, item in enumerate(value)]
            return Node(items, node.line, node.column)
        if isinstance(value, dict):
            items = {key: self.substitute(item, scope, f"{path}.{shorten(key)}") for key, item in value.items()}
            return Node(items, node.line, node.column, node.keys)
        if not isinstance(value, str) or not value.startswith("$"):
            return node
        if value.startswith("$$"):
            return Node(value[1:], node.line, node.column)
        found = scope.get(value[1:])
        if found is None:
            hint = did_you_mean(value[1:], scope)
            self.problem(f"unknown variable `{shorten(value)}`; known here are {_listed(scope)}", node, path, hint)
            return Node(UNKNOWN, node.line, node.column)
        return self.moved(found, node)

    def moved(self, node, place):
        """A variable's value at the place of its use."""
        value = node.value
        self.expanded += 1
        if isinstance(value, list):
            value = [self.moved(item, place) for item in value]
        elif isinstance(value, dict):
            value = {key: self.moved(item, place) for key, item in value.items()}
        keys = {key: Node(key, place.line, place.column) for key in node.keys}
        return Node(value, place.line, place.column, keys)

    def part(self, parts, key, kind, default, path=""):
        if key not in parts:
            return default
        return self.value(kind, parts[key], f"{path}.{key}".lstrip("."))

    def mapping(self, node, path) -> dict:
        """The items of a mapping; none where there is no node."""
        if node is None or node.value is UNKNOWN:
            return {}
        if not isinstance(node.value, dict):
            self.problem(f"must be a mapping; received {shown(node.value)}", node, path)
            return {}
        return node.value

    def keys(self, node, known, path):
        """Refuses unknown keys; returns known ones that they may have meant."""
        meant = set()
        for key in node.value if isinstance(node.value, dict) else ():
            if key not in known:
                hint = did_you_mean(key, known)
                meant |= {name for name in known if hint and f"`{name}`" in hint}
                hint = hint or f"known here are {_listed(known)}"
                self.problem(f"unknown key `{shorten(key)}`", node.keys[key], path, hint)
        return meant


def _listed(names):
    names = [f"`{shorten(name)}`" for name in names][:20]
    return ", ".join(names) or "none"
