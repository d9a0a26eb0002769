"""What an argument may take, described and no more: `values` makes the values of nodes by these descriptions.

A kind says in words what it wants, whether a node looks like it (`accepts`), what is wrong with one that does
(`faults`, of the node itself and not of what is in it), of which kind its parts are (`part`), and what editors need to
know (`schema`).
"""

from collections.abc import Callable, Iterable
from typing import Any

from .errors import Near, shorten, shown
from .node import Node, plain_scalar
from .objects import Role, role

# What is wrong with a node: the message, the place, and what to do about it.
Fault = tuple[str, Node, str | Near | None]


class Kind:
    """Plain data: scalars, and lists of them. Never a mapping, which Keras would take for an object to deserialise."""

    wanted: str = "a number, text, true, false, null, or a list of them"

    def accepts(self, node: Node) -> bool:
        if isinstance(node.value, list):
            return all(map(self.accepts, node.value))
        return not isinstance(node.value, dict)

    def fits(self, node: Node) -> bool:
        """Whether what is in an accepted node is accepted too: so kinds of lists are told apart."""
        return self.accepts(node)

    def hint(self, node: Node) -> str | None:
        """What to do about a node that is not accepted."""
        return None

    def faults(self, node: Node) -> Iterable[Fault]:
        """What is wrong with an accepted node: (message, place, hint) each."""
        return ()

    def part(self, key: Any) -> "Kind":
        """The kind of the item of a list or mapping."""
        return self

    def schema(self) -> dict[str, Any]:
        return {"not": {"type": "object"}}


def or_variable(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value in whose place a variable may stand."""
    return {"anyOf": [schema, {"$ref": "#/$defs/variable"}]} if schema else {}


class Scalar(Kind):
    """null, a boolean, a number or text, by Python types."""

    wanted: str
    types: tuple[type, ...]
    name: str

    def __init__(
        self, wanted: str, types: tuple[type, ...], name: str, hint: Callable[[Any], str | None] | None = None
    ) -> None:
        self.wanted, self.types, self.name, self._hint = wanted, types, name, hint

    def accepts(self, node: Node) -> bool:
        return isinstance(node.value, self.types) and (bool in self.types or not isinstance(node.value, bool))

    def schema(self) -> dict[str, Any]:
        return {"type": self.name}

    def hint(self, node: Node) -> str | None:
        return self._hint(node.value) if self._hint else None


def quoted_number(value: Any) -> str | None:
    """What to do about text that would be a number without its quotes."""
    is_number = isinstance(value, str) and type(plain_scalar(value)) in (int, float)
    return "a number in quotes: remove them" if is_number else None


def _hint_boolean(value: Any) -> str | None:
    hints = {"no": "write `false`", "off": "write `false`", "yes": "write `true`", "on": "write `true`"}
    return hints.get(value.lower()) if isinstance(value, str) else None


def _hint_text(value: Any) -> str | None:
    return None if isinstance(value, (list, dict)) else "quote it"


ANY = Kind()
NULL = Scalar("null", (type(None),), "null")
BOOLEAN = Scalar("true or false", (bool,), "boolean", _hint_boolean)
INTEGER = Scalar("an integer", (int,), "integer", quoted_number)
NUMBER = Scalar("a number", (int, float), "number", quoted_number)
TEXT = Scalar("text", (str,), "string", _hint_text)


class Size(Scalar):
    """An integer of at least some number, as editors may know it: layers say themselves what is too small."""

    least: int

    def __init__(self, least: int) -> None:
        super().__init__(INTEGER.wanted, (int,), "integer", quoted_number)
        self.least = least

    def schema(self) -> dict[str, Any]:
        return super().schema() | {"minimum": self.least}


class Name(Scalar):
    """Text that is not empty."""

    def __init__(self) -> None:
        super().__init__("text", (str,), "string", _hint_text)

    def faults(self, node: Node) -> Iterable[Fault]:
        if not node.value:
            yield "a name must not be empty", node, None


NAME = Name()


class Choice(Kind):
    """One of some texts."""

    wanted: str
    options: tuple[Any, ...]

    def __init__(self, options: Iterable[Any]) -> None:
        self.options = tuple(options)
        self.wanted = f"one of {', '.join(map(str, self.options))}"

    def accepts(self, node: Node) -> bool:
        return isinstance(node.value, str)

    def faults(self, node: Node) -> Iterable[Fault]:
        if node.value not in self.options:
            hint = Near(node.value, self.options)
            yield f"must be {self.wanted}; received {shown(node.value)}", node, hint

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.options)}


class ListOf(Kind):
    """Items of one kind, or of one kind each."""

    wanted: str
    kinds: tuple[Kind, ...]
    repeated: bool

    def __init__(self, *kinds: Kind, repeated: bool = True) -> None:
        self.kinds, self.repeated = kinds, repeated
        items = kinds[0].wanted if repeated else ", ".join(kind.wanted for kind in kinds)
        self.wanted = "a list" if ANY in kinds else f"a list ({items}{' each' if repeated else ''})"

    def accepts(self, node: Node) -> bool:
        return isinstance(node.value, list)

    def fits(self, node: Node) -> bool:
        if not self.accepts(node) or not (self.repeated or len(node.value) == len(self.kinds)):
            return False
        return all(self.part(i).fits(item) for i, item in enumerate(node.value))

    def faults(self, node: Node) -> Iterable[Fault]:
        if not self.repeated and len(node.value) != len(self.kinds):
            yield f"must be {self.wanted}; received {len(node.value)} items", node, None

    def hint(self, node: Node) -> str | None:
        alone = self.repeated and isinstance(node.value, (str, int, float)) and self.part(0).accepts(node)
        return f"write a list: `[{shorten(str(node.value))}]`" if alone else None

    def part(self, key: Any) -> Kind:
        return self.kinds[0 if self.repeated else key]

    def schema(self) -> dict[str, Any]:
        if self.repeated:
            return {"type": "array", "items": or_variable(self.kinds[0].schema())}
        items, size = [or_variable(kind.schema()) for kind in self.kinds], len(self.kinds)
        return {"type": "array", "prefixItems": items, "minItems": size, "maxItems": size}


class MappingOf(Kind):
    """Values of one kind by text."""

    wanted = "a mapping"

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind

    def accepts(self, node: Node) -> bool:
        return isinstance(node.value, dict)

    def faults(self, node: Node) -> Iterable[Fault]:
        if "class_name" in node.value:  # what Keras would take for an object when the layer is loaded from a file
            yield "the key `class_name` is not allowed", node.keys["class_name"], None

    def part(self, key: Any) -> Kind:
        return self.kind

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": or_variable(self.kind.schema())}


class Either(Kind):
    """The first of some kinds that accepts the node."""

    wanted: str
    kinds: tuple[Kind, ...]

    def __init__(self, *kinds: Kind) -> None:
        self.kinds = kinds
        self.wanted = " or ".join(dict.fromkeys(kind.wanted for kind in kinds))

    def accepts(self, node: Node) -> bool:
        return any(kind.accepts(node) for kind in self.kinds)

    def fits(self, node: Node) -> bool:
        return any(kind.fits(node) for kind in self.kinds)

    def chosen(self, node: Node) -> Kind:
        """The kind by which an accepted node is read: one that fits, or else the first whose faults are to be said."""
        accepting = [kind for kind in self.kinds if kind.accepts(node)]
        return next((kind for kind in accepting if kind.fits(node)), accepting[0])

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [kind.schema() for kind in self.kinds]}

    def hint(self, node: Node) -> str | None:
        return next(filter(None, (kind.hint(node) for kind in self.kinds)), None)


class Object(Kind):
    """An object of a role: its name, or `Name: {arguments}`."""

    def __init__(self, name: str) -> None:
        self.name: str = name

    @property
    def role(self) -> Role:
        return role(self.name)

    @property
    def wanted(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - known once Keras is asked
        return f"the name of {self.role.wanted}" + (" or `Name: {arguments}`" if self.role.classes else "")

    def accepts(self, node: Node) -> bool:
        return isinstance(node.value, str) or (bool(self.role.classes) and isinstance(node.value, dict))

    def schema(self) -> dict[str, Any]:
        return {"$ref": f"#/$defs/{self.name}"}


class Record(Kind):
    """The arguments of a dataclass."""

    wanted: str

    def __init__(self, cls: type[Any]) -> None:
        self.cls: type[Any] = cls
        self.wanted = f"a mapping of the arguments of {cls.__name__}"

    def accepts(self, node: Node) -> bool:
        return isinstance(node.value, dict)

    def schema(self) -> dict[str, Any]:
        return {"type": "object"}


class LayerKind(Kind):
    """A layer within a layer."""

    wanted = "a layer (`Type: {arguments}`)"

    def accepts(self, node: Node) -> bool:
        return isinstance(node.value, (dict, str))

    def schema(self) -> dict[str, Any]:
        return {"$ref": "#/$defs/layer"}


LAYER = LayerKind()
DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool")
COMPLEX = ("complex64", "complex128")  # of values, as spectra are; no layer computes in them
POLICIES = ("mixed_float16", "mixed_bfloat16")
