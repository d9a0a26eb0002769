"""What an argument takes: from type hints, and where there are none from Keras's names and from defaults.

A kind says in words what it wants, whether a node looks like it (`accepts`), makes the value of a node that does
(`parse`, which reports what is wrong deeper inside), and describes itself to editors (`schema`).
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence

import keras

from ..signature import OBJECT_SUFFIXES
from .errors import did_you_mean, shown
from .objects import role


class Kind:
    """Plain data: scalars, and lists of them. Never a mapping, which Keras would take for an object to deserialise."""

    wanted = "a number, text, true, false, null, or a list of them"

    def accepts(self, node) -> bool:
        if isinstance(node.value, list):
            return all(map(self.accepts, node.value))
        return not isinstance(node.value, dict)

    def parse(self, node, path, checker):
        if isinstance(node.value, list):
            return [checker.value(self, item, f"{path}[{i}]") for i, item in enumerate(node.value)]
        return node.value

    def schema(self) -> dict:
        return {"not": {"type": "object"}}

    def hint(self, node) -> str | None:
        return None


def or_variable(schema) -> dict:
    """The schema of a value in whose place a variable may stand."""
    return {"anyOf": [schema, {"$ref": "#/$defs/variable"}]} if schema else {}


class Scalar(Kind):
    """null, a boolean, a number or text, by Python types."""

    def __init__(self, wanted, types, name, hint=None):
        self.wanted, self.types, self.name, self._hint = wanted, types, name, hint

    def accepts(self, node):
        return isinstance(node.value, self.types) and (bool in self.types or not isinstance(node.value, bool))

    def schema(self):
        return {"type": self.name}

    def hint(self, node):
        return self._hint(node.value) if self._hint else None


def _hint_boolean(value):
    return {"no": "write `false`", "off": "write `false`", "yes": "write `true`", "on": "write `true`"}.get(
        value.lower() if isinstance(value, str) else None
    )


def _hint_text(value):
    return None if isinstance(value, (list, dict)) else "quote it"


ANY = Kind()
NULL = Scalar("null", (type(None),), "null")
BOOLEAN = Scalar("true or false", (bool,), "boolean", _hint_boolean)
INTEGER = Scalar("an integer", (int,), "integer")
NUMBER = Scalar("a number", (int, float), "number")
TEXT = Scalar("text", (str,), "string", _hint_text)


class Name(Scalar):
    """Text that is not empty."""

    def __init__(self):
        super().__init__("text", (str,), "string", _hint_text)

    def parse(self, node, path, checker):
        if not node.value:
            checker.problem("a name must not be empty", node, path)
        return node.value


NAME = Name()


class Choice(Kind):
    """One of some texts."""

    def __init__(self, options):
        self.options = tuple(options)
        self.wanted = f"one of {', '.join(map(str, self.options))}"

    def accepts(self, node):
        return isinstance(node.value, str)

    def parse(self, node, path, checker):
        if node.value not in self.options:
            hint = did_you_mean(node.value, self.options)
            checker.problem(f"must be {self.wanted}; received {shown(node.value)}", node, path, hint)
        return node.value

    def schema(self):
        return {"enum": list(self.options)}


class ListOf(Kind):
    """Items of one kind, or of one kind each."""

    def __init__(self, *kinds, repeated=True):
        self.kinds, self.repeated = kinds, repeated
        items = kinds[0].wanted if repeated else ", ".join(kind.wanted for kind in kinds)
        self.wanted = "a list" if ANY in kinds else f"a list ({items}{' each' if repeated else ''})"

    def accepts(self, node):
        return isinstance(node.value, list)

    def parse(self, node, path, checker):
        if not self.repeated and len(node.value) != len(self.kinds):
            problem = f"must be {self.wanted}; received {len(node.value)} items"
            checker.problem(problem, node, path)
            return None
        kinds = self.kinds * len(node.value) if self.repeated else self.kinds
        items = enumerate(zip(kinds, node.value, strict=True))
        return [checker.value(kind, item, f"{path}[{i}]") for i, (kind, item) in items]

    def schema(self):
        if self.repeated:
            return {"type": "array", "items": or_variable(self.kinds[0].schema())}
        items, size = [or_variable(kind.schema()) for kind in self.kinds], len(self.kinds)
        return {"type": "array", "prefixItems": items, "minItems": size, "maxItems": size}


class MappingOf(Kind):
    """Values of one kind by text."""

    wanted = "a mapping"

    def __init__(self, kind):
        self.kind = kind

    def accepts(self, node):
        return isinstance(node.value, dict)

    def parse(self, node, path, checker):
        if "class_name" in node.value:  # what Keras would take for an object when the layer is loaded from a file
            checker.problem("the key `class_name` is not allowed", node.keys["class_name"], path)
        return {key: checker.value(self.kind, item, f"{path}.{key}") for key, item in node.value.items()}

    def schema(self):
        return {"type": "object", "additionalProperties": or_variable(self.kind.schema())}


class Either(Kind):
    """The first of some kinds that accepts the node."""

    def __init__(self, *kinds):
        self.kinds = kinds
        self.wanted = " or ".join(dict.fromkeys(kind.wanted for kind in kinds))

    def accepts(self, node):
        return any(kind.accepts(node) for kind in self.kinds)

    def parse(self, node, path, checker):
        return next(kind for kind in self.kinds if kind.accepts(node)).parse(node, path, checker)

    def schema(self):
        return {"anyOf": [kind.schema() for kind in self.kinds]}

    def hint(self, node):
        return next(filter(None, (kind.hint(node) for kind in self.kinds)), None)


class Object(Kind):
    """A Keras object of a role: its name, or `Name: {arguments}`."""

    def __init__(self, name):
        self.name = name

    @property
    def role(self):
        return role(self.name)

    @property
    def wanted(self):
        return f"the name of {self.role.wanted}" + (" or `Name: {arguments}`" if self.role.classes else "")

    def accepts(self, node):
        return isinstance(node.value, str) or (bool(self.role.classes) and isinstance(node.value, dict))

    def parse(self, node, path, checker):
        return checker.object(self.role, node, path)

    def schema(self):
        return {"$ref": f"#/$defs/{self.name}"}


class Record(Kind):
    """The arguments of a dataclass."""

    def __init__(self, cls):
        self.cls = cls
        self.wanted = f"a mapping of the arguments of {cls.__name__}"

    def accepts(self, node):
        return isinstance(node.value, dict)

    def parse(self, node, path, checker):
        return checker.record(self.cls, node, path)

    def schema(self):
        return {"type": "object"}


class Layer(Kind):
    """A layer within a layer."""

    wanted = "a layer (`Type: {arguments}`)"

    def accepts(self, node):
        return isinstance(node.value, (dict, str))

    def parse(self, node, path, checker):
        return checker.layer(node, path)

    def schema(self):
        return {"$ref": "#/$defs/layer"}


LAYER = Layer()


def kind_of(parameter: inspect.Parameter) -> Kind:
    """The kind of a constructor's parameter."""
    if parameter.annotation is not parameter.empty and not isinstance(parameter.annotation, str):
        kind = _of_hint(parameter.annotation)
        return Either(kind, NULL) if parameter.default is None else kind
    kind = _of_name(parameter.name)
    if kind is not None:
        return kind
    default = parameter.default
    for types_, found in (((bool,), BOOLEAN), ((int,), NUMBER), ((float,), NUMBER), ((str,), TEXT)):
        if isinstance(default, types_):
            return found
    return ANY


def _of_name(name) -> Kind | None:
    """By the names that Keras gives arguments everywhere."""
    if name == "dtype":
        return Choice(DTYPES + POLICIES)
    last = name.rpartition("_")[2]
    if last in OBJECT_SUFFIXES:
        return Either(Object(last), NULL)
    if name == "learning_rate":
        return Either(NUMBER, Object("schedule"))
    return _NAMED.get(name)


def _of_hint(hint) -> Kind:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _of_hint(arguments[0])
    if hint in _SCALARS:
        return _SCALARS[hint]
    if origin is typing.Literal:
        return Choice(arguments) if all(isinstance(a, str) for a in arguments) else ANY
    if origin in (typing.Union, types.UnionType):
        kinds = [_of_hint(argument) for argument in arguments]
        return ANY if ANY in kinds else Either(*kinds)
    if hint is Callable or origin is Callable:
        return Object("activation")
    if inspect.isclass(hint):
        for base, kind in _CLASSES.items():
            if issubclass(hint, base):
                return kind
        if dataclasses.is_dataclass(hint):
            return Record(hint)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return ListOf(*(_of_hint(argument) for argument in arguments), repeated=False)
    if origin in (list, tuple, Iterable, Sequence):
        return ListOf(_of_hint(arguments[0]))
    if origin in (dict, Mapping):
        return MappingOf(_of_hint(arguments[1]))
    return {list: ListOf(ANY), tuple: ListOf(ANY), dict: MappingOf(ANY)}.get(hint, ANY)


_CLASSES = {
    keras.layers.Layer: LAYER,
    keras.initializers.Initializer: Object("initializer"),
    keras.regularizers.Regularizer: Object("regularizer"),
    keras.constraints.Constraint: Object("constraint"),
}
DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool")
POLICIES = ("mixed_float16", "mixed_bfloat16")
_NAMED = {
    "name": NAME,
    "trainable": BOOLEAN,
    "seed": Either(INTEGER, NULL),
    "axis": Either(INTEGER, ListOf(INTEGER), NULL),
}
_SCALARS = {type(None): NULL, None: NULL, bool: BOOLEAN, int: INTEGER, float: NUMBER, str: TEXT}
