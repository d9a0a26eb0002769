"""Nodes to values by the kinds of what they are for: arguments, objects, variables."""

from . import catalog
from .errors import did_you_mean, shorten, shown
from .names import snake_case
from .node import RAISE, UNKNOWN, Node
from .plan import Plan

CALL_KEYS = ("id", "inputs", "share")
_LARGEST_METRIC = 4096


class Values:
    """What reading any part of a spec needs; `wrong` counts what was found to be wrong, also again."""

    def __init__(self, problems, limits):
        self.problems, self.limits = problems, limits
        self.wrong = self.expanded = 0

    def problem(self, *args):
        self.wrong += 1
        self.problems.add(*args)

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
                return Plan(cls, {}, node, path, label=_label(role, cls))
            if node.value not in role.names:
                known = [*role.names, *role.classes]
                hint = did_you_mean(node.value, sorted(known))
                self.problem(f"unknown name of {role.wanted}: {shown(node.value)}", node, path, hint)
            return node.value
        name, place, given = self.pair(node, path, role.name)
        if name is None:
            return None
        if name not in role.classes:
            hint = did_you_mean(name, sorted(role.classes))
            self.problem(f"unknown name of {role.wanted}: {shown(name)}", place, path, hint)
            return None
        plan = self.arguments(catalog.object_type(role.classes[name]), place, given, f"{path}.{name}")
        plan.label = _label(role, plan.make)
        if role.name == "metric":
            for key, value in plan.arguments.items():
                if isinstance(value, int) and value > _LARGEST_METRIC:  # they allocate the square of some
                    message = f"must be at most {_LARGEST_METRIC} in a metric; received {value}"
                    self.problem(message, plan.places[key], f"{path}.{name}.{key}")
        return plan

    def record(self, cls, node, path):
        """The plan of a dataclass."""
        return self.arguments(catalog.object_type(cls), node, node, path)

    def arguments(self, type_, place, given, path, plan=Plan):
        """A plan of a type with its arguments checked."""
        values, places, meant = {}, {}, set()
        for key, node in given.value.items():
            argument = type_.arguments.get(type_.former.get(key, key))
            if argument is None:
                hint = did_you_mean(key, type_.arguments)
                meant |= {name for name in type_.arguments if hint and f"`{name}`" in hint}
                hint = hint or f"it takes {listed(type_.arguments)}"
                if key in CALL_KEYS:
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
            self.problem(f"missing argument{'s' * (len(missing) > 1)} {listed(missing)}", place, path)
        return plan(type_.make, values, place, path, places)

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

    def substitute(self, node, scope, path):
        """The node with `$x` replaced by the variable `x`, at the place of `$x`; `$$` is a dollar sign."""
        self.expanded += 1
        if self.expanded > self.limits.nodes * 10:
            message = f"blocks and variables expand to more than {self.limits.nodes * 10} values"
            self.problems.stop(message, node, hint=f"{RAISE} `nodes`")
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
            self.problem(f"unknown variable `{shorten(value)}`; known here are {listed(scope)}", node, path, hint)
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
                hint = hint or f"known here are {listed(known)}"
                self.problem(f"unknown key `{shorten(key)}`", node.keys[key], path, hint)
        return meant


def _label(role, cls):
    """Of the objects whose names Keras would count in this process."""
    return snake_case(cls.__name__) if role.name in ("optimizer", "metric") else None


def listed(names):
    names = [f"`{shorten(name)}`" for name in names][:20]
    return ", ".join(names) or "none"
